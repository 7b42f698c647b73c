#include "host/card_image.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <span>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "engine/base/board.h"
#include "host/atomic_file.h"
#include "host/card_model.h"
#include "host/card_names.h"
#include "host/card_open.h"
#include "host/progress.h"

namespace thimble::host {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kLeastImageBytes = 64'000'000;
constexpr uint32_t kPartitionStartSector = 4 * kMiB / kSectorBytes;
constexpr uint32_t kMostSectorsPerCluster = 64;
constexpr uint64_t kLeastClusters = 65525 + 75;  // and some, for what mkfs.fat aligns
constexpr uint64_t kReservedSectors = 32;

constexpr uint64_t RoundUp(uint64_t n, uint64_t unit) { return (n + unit - 1) / unit * unit; }

// A file descriptor that is closed at the end.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  std::string path() const { return fmt::format("/proc/{}/fd/{}", getpid(), fd_); }

 private:
  int fd_;
};

Expected<std::string> FindTool(const std::string& folders, const std::string& name) {
  for (size_t begin = 0; begin <= folders.size();) {
    const size_t end = std::min(folders.find(':', begin), folders.size());
    const std::string file = folders.substr(begin, end - begin) + "/" + name;
    if (file[0] == '/' && access(file.c_str(), X_OK) == 0) return file;
    begin = end + 1;
  }
  return Sentence(fmt::format("{} is not installed: install the packages dosfstools and mtools", name));
}

// What a tool wrote, on one line.
std::string OutputOf(int fd) {
  std::string text(4096, '\0');
  const ssize_t n = pread(fd, text.data(), text.size(), 0);
  text.resize(n > 0 ? static_cast<size_t>(n) : 0);
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  std::replace(text.begin(), text.end(), '\n', ' ');
  return Quote(text);
}

// Runs a tool to its end; `while_it_runs` is called now and then.
Status RunTool(const std::string& folders, const std::string& name, std::vector<std::string> arguments,
               const std::function<void()>& while_it_runs) {
  THIMBLE_ASSIGN(const std::string program, FindTool(folders, name));
  const Descriptor output(memfd_create("output", MFD_CLOEXEC));
  if (output.get() < 0) return Sentence(fmt::format("cannot start {}: {}", name, std::strerror(errno)));

  std::vector<char*> argv = {const_cast<char*>(name.c_str())};
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  // The names of files are UTF-8 whatever the user's language, and the user's settings of mtools are for their drives.
  std::vector<std::string> settings = {"LC_ALL=C.UTF-8", "MTOOLSRC=/dev/null"};
  std::vector<char*> environment;
  for (std::string& setting : settings) environment.push_back(setting.data());
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view text = *variable;
    if (!text.starts_with("LC_ALL=") && !text.starts_with("MTOOLS")) environment.push_back(*variable);
  }
  environment.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, output.get(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output.get(), STDERR_FILENO);
  pid_t child = 0;
  const int failed = posix_spawn(&child, program.c_str(), &actions, nullptr, argv.data(), environment.data());
  posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) return Sentence(fmt::format("cannot start {}: {}", program, std::strerror(failed)));

  int status = 0;
  for (pid_t ended = 0; ended != child;) {
    ended = waitpid(child, &status, WNOHANG);
    if (ended < 0 && errno != EINTR) return Sentence(fmt::format("lost {}: {}", program, std::strerror(errno)));
    if (ended == child) break;
    while_it_runs();
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  const std::string said = OutputOf(output.get());
  return Sentence(fmt::format("{} failed: {}", name, said.empty() ? "it did not say why" : said));
}

// One partition of type 0x0C (FAT32, addressed by sectors), and no code.
std::array<std::byte, kSectorBytes> MasterBootRecord(uint32_t start_sector, uint32_t sectors) {
  std::array<std::byte, kSectorBytes> record = {};
  const auto put = [&](size_t offset, uint32_t value, size_t size) {
    for (size_t i = 0; i < size; ++i) record[offset + i] = static_cast<std::byte>(value >> (8 * i));
  };
  put(446 + 1, 0xfffffe, 3);  // cylinder, head and sector of the first sector: not used
  put(446 + 4, 0x0c, 1);
  put(446 + 5, 0xfffffe, 3);
  put(446 + 8, start_sector, 4);
  put(446 + 12, sectors, 4);
  put(510, 0xaa55, 2);
  return record;
}

}  // namespace

CardLayout PlanCard(uint64_t file_bytes, bool superfloppy) {
  CardLayout layout;
  layout.partition_start_sector = superfloppy ? 0 : kPartitionStartSector;
  const uint64_t start_bytes = layout.partition_start_sector * kSectorBytes;
  // With clusters of one sector the two allocation tables take a 64th of the data.
  const uint64_t volume_bytes = file_bytes + file_bytes / 48 + kMiB;
  layout.image_bytes = RoundUp(std::max(kLeastImageBytes, start_bytes + volume_bytes), kMiB);

  const uint64_t sectors = (layout.image_bytes - start_bytes) / kSectorBytes;
  layout.sectors_per_cluster = kMostSectorsPerCluster;
  const auto clusters = [&] {
    const uint64_t table_sectors = RoundUp((sectors / layout.sectors_per_cluster + 2) * 4, kSectorBytes) / kSectorBytes;
    return (sectors - kReservedSectors - 2 * table_sectors) / layout.sectors_per_cluster;
  };
  while (layout.sectors_per_cluster > 1 && clusters() < kLeastClusters) layout.sectors_per_cluster /= 2;
  return layout;
}

Expected<CardImage> WriteCardImage(const CardOptions& options) {
  std::string folders = options.tool_folders;
  if (folders.empty()) {
    // Administration tools are often not on a user's path.
    const char* path = std::getenv("PATH");
    folders = std::string(path != nullptr ? path : "") + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin";
  }
  THIMBLE_TRY(FindTool(folders, "mkfs.fat"));
  THIMBLE_TRY(FindTool(folders, "mcopy"));
  THIMBLE_ASSIGN(const CardModel model, OpenCardModel(options.model, options.tokenizer, options.name_on_card));
  CardImage card;
  card.name_on_card = model.name_on_card;
  card.model_bytes = model.opened.file.size_bytes;
  card.index_bytes = model.opened.index_file.size_bytes;
  card.layout = PlanCard(card.model_bytes + card.index_bytes, options.superfloppy);
  const uint32_t start = card.layout.partition_start_sector;

  THIMBLE_ASSIGN(AtomicFile image, AtomicFile::Create(options.out, std::span(&options.model, 1)));
  const std::string path = image.path_while_open();
  if (start != 0) {
    const auto sectors = static_cast<uint32_t>(card.layout.image_bytes / kSectorBytes - start);
    THIMBLE_TRY(image.sink().Write(MasterBootRecord(start, sectors)));
  }
  if (truncate(path.c_str(), static_cast<off_t>(card.layout.image_bytes)) != 0) {
    return Sentence(fmt::format("cannot write {}: {}", options.out, std::strerror(errno)));
  }
  std::vector<std::string> format = {"-F", "32",      "-S", "512",
                                     "-n", "THIMBLE", "-s", std::to_string(card.layout.sectors_per_cluster)};
  if (start != 0) {
    for (const char* option : {"-h", "--offset"}) {
      format.push_back(option);
      format.push_back(std::to_string(start));
    }
  }
  format.push_back(path);
  THIMBLE_TRY(RunTool(folders, "mkfs.fat", format, [] {}));

  {
    const Descriptor input(open(model.source.path().c_str(), O_RDONLY | O_CLOEXEC));
    if (input.get() < 0) return Sentence(fmt::format("cannot open {}: {}", options.model, std::strerror(errno)));
    struct stat status = {};
    stat(path.c_str(), &status);
    // mcopy does not tell how far it is, but what it wrote takes room on the disk.
    uint64_t written_blocks = static_cast<uint64_t>(status.st_blocks);
    Progress progress("card", card.model_bytes);
    THIMBLE_TRY(RunTool(folders, "mcopy",
                        {"-i", fmt::format("{}@@{}", path, start * kSectorBytes), input.path(),
                         "::" + NameForMtools(card.name_on_card)},
                        [&] {
                          if (stat(path.c_str(), &status) != 0) return;
                          const auto blocks = static_cast<uint64_t>(status.st_blocks);
                          if (blocks > written_blocks) progress.Advance((blocks - written_blocks) * 512);
                          written_blocks = std::max(written_blocks, blocks);
                        }));
  }

  if (card.index_bytes != 0) {
    THIMBLE_TRY(RunTool(folders, "mcopy",
                        {"-i", fmt::format("{}@@{}", path, start * kSectorBytes), IndexName(model.source.path()),
                         "::" + NameForMtools(IndexName(card.name_on_card))},
                        [] {}));
  }

  THIMBLE_TRY(WriteCardName(path, start * kSectorBytes, card.name_on_card));
  if (card.index_bytes != 0) THIMBLE_TRY(WriteCardName(path, start * kSectorBytes, IndexName(card.name_on_card)));
  THIMBLE_ASSIGN(const OpenedModel copy, OpenModelFile(path, ""));
  if (copy.name_on_card != card.name_on_card) {
    return Sentence(
        fmt::format("\"{}\" is no name for a file on FAT32: give another one with --name", Quote(card.name_on_card)));
  }
  THIMBLE_TRY(CompareFiles(FileOf(model.opened), FileOf(copy), options.out));
  if (card.index_bytes != 0) {
    if (!copy.has_index()) return Sentence(fmt::format("{}: the index is not on the card", options.out));
    THIMBLE_TRY(CompareFiles(IndexOf(model.opened), IndexOf(copy), options.out));
  }
  card.pieces = copy.extents.size();
  THIMBLE_TRY(image.Commit());
  return card;
}

}  // namespace thimble::host

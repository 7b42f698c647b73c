// A model.safetensors.index.json, and its shards in a folder: the index up to a zero byte, then for each shard that it
// names, in the order of the names, the bytes of one file, each up to "\n--\n".
#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <set>
#include <string>
#include <string_view>

#include "fuzz/sentence.h"
#include "host/formats/safetensors.h"
#include "host/support/input_file.h"

namespace {

// A folder in memory where there is one.
const std::string& Folder() {
  static const std::string folder = [] {
    std::string name = access("/dev/shm", W_OK) == 0 ? "/dev/shm/fuzz-XXXXXX" : "/tmp/fuzz-XXXXXX";
    if (mkdtemp(name.data()) == nullptr) std::abort();
    return name;
  }();
  return folder;
}

void Write(const std::string& path, std::string_view bytes) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (fd < 0) return;  // a name that the file system does not take
  if (write(fd, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) std::abort();
  close(fd);
}

template <class T>
void CheckSentence(const thimble::host::Expected<T>& result) {
  if (!result && (result.error().size() > 8000 || !thimble::IsSentence(result.error()))) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace thimble::host;
  constexpr std::string_view kBetween = "\n--\n";
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  const std::string_view json = all.substr(0, all.find('\0'));
  std::string_view rest = all.substr(json.size() < all.size() ? json.size() + 1 : json.size());
  const auto index = ParseSafetensorsIndex(json, "FILE");
  CheckSentence(index);
  if (!index) return 0;

  std::set<std::string> names;
  for (const auto& [tensor, name] : *index) names.insert(name);
  std::set<std::string> written = {Folder() + "/index.json"};
  Write(*written.begin(), json);
  for (const std::string& name : names) {
    const std::string_view file = rest.substr(0, rest.find(kBetween));
    rest = file.size() == rest.size() ? "" : rest.substr(file.size() + kBetween.size());
    if (file.empty()) continue;
    Write(Folder() + "/" + name, file);
    written.insert(Folder() + "/" + name);
  }
  const auto files = Safetensors::OpenSharded(Folder() + "/index.json",
                                              [](const std::string& name) { return name.starts_with("ignored"); });
  CheckSentence(files);
  if (files) {
    if (files->tensors().size() != index->size() || files->files().size() != names.size()) std::abort();
    for (const auto& [name, tensor] : files->tensors()) {
      const InputFile& file = files->files().at(tensor.file);
      if (!file.path().ends_with("/" + index->at(name))) std::abort();
      if (tensor.entry.offset + tensor.entry.size_bytes > file.size_bytes()) std::abort();
    }
  }
  for (const std::string& path : written) unlink(path.c_str());
  return 0;
}

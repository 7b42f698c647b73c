#include "host/support/atomic_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "host/support/input_file.h"
#include "tests/support/checkpoints.h"

namespace thimble::host {
namespace {

using namespace thimble::tests;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::span<const std::byte> AsBytes(std::string_view text) { return std::as_bytes(std::span(text)); }

TEST(AtomicFile, AppearsWholeAtCommit) {
  const TemporaryFolder folder;
  const std::string path = folder / "x";
  {
    auto file = AtomicFile::Create(path, {});
    ASSERT_TRUE(file);
    ASSERT_TRUE(file->sink().Write(AsBytes("one ")));
    EXPECT_FALSE(folder.Names().contains("x"));
    ASSERT_TRUE(file->sink().Write(AsBytes("two")));
    EXPECT_EQ(file->sink().written_bytes(), 7u);
    ASSERT_TRUE(file->Commit());
    EXPECT_THAT(folder.Names(), ElementsAre("x"));
  }
  EXPECT_EQ(ReadFile(path), "one two");
  EXPECT_THAT(folder.Names(), ElementsAre("x"));
}

TEST(AtomicFile, DoesNotReplaceWhatWasOpenedInTheMeantime) {
  const TemporaryFolder folder;
  const InputFiles inputs;
  WriteFile(folder / "x", "input");
  {
    auto file = AtomicFile::Create(folder / "x", {});
    ASSERT_TRUE(file);
    ASSERT_TRUE(InputFile::Open(folder / "x"));
    const Status committed = file->Commit();
    ASSERT_FALSE(committed);
    EXPECT_THAT(committed.error(), HasSubstr("being read"));
  }
  EXPECT_EQ(ReadFile(folder / "x"), "input");
  EXPECT_THAT(folder.Names(), ElementsAre("x"));

  std::filesystem::create_directory(folder / "y");
  WriteFile(folder / "y/a.bin", "input");
  {
    auto written = AtomicFolder::Create(folder / "y", {}, [](std::string_view) { return true; });
    ASSERT_TRUE(written);
    ASSERT_TRUE(written->Begin("a.bin"));
    ASSERT_TRUE(InputFile::Open(folder / "y/a.bin"));
    const Status committed = written->Commit();
    ASSERT_FALSE(committed);
    EXPECT_THAT(committed.error(), HasSubstr("being read"));
  }
  EXPECT_EQ(ReadFile(folder / "y/a.bin"), "input");
  EXPECT_THAT(folder.Names(), ElementsAre("x", "y"));
}

TEST(AtomicFile, LeavesNothingWithoutCommit) {
  const TemporaryFolder folder;
  {
    auto file = AtomicFile::Create(folder / "x", {});
    ASSERT_TRUE(file);
    ASSERT_TRUE(file->sink().Write(AsBytes("half")));
    EXPECT_EQ(folder.Names().size(), 1u);
  }
  EXPECT_THAT(folder.Names(), IsEmpty());
}

TEST(AtomicFile, HasTheModeOfAnyNewFile) {
  const TemporaryFolder folder;
  const mode_t before = umask(027);
  auto file = AtomicFile::Create(folder / "x", {});
  umask(before);
  ASSERT_TRUE(file);
  ASSERT_TRUE(file->Commit());
  struct stat info;
  ASSERT_EQ(stat((folder / "x").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0640u);
}

TEST(AtomicFile, RefusesItsInputs) {
  const TemporaryFolder folder;
  WriteFile(folder / "x", "input");
  ASSERT_EQ(link((folder / "x").c_str(), (folder / "hard").c_str()), 0);
  const std::vector<std::string> inputs = {folder / "absent", folder / "x"};
  for (const char* name : {"x", "hard"}) {
    const auto file = AtomicFile::Create(folder / name, inputs);
    ASSERT_FALSE(file);
    EXPECT_THAT(file.error(), HasSubstr(folder / name));
  }
  EXPECT_THAT(folder.Names(), ElementsAre("hard", "x"));
}

TEST(AtomicFile, AFullDiskIsReported) {
  const int full = open("/dev/full", O_WRONLY);
  ASSERT_GE(full, 0);
  FileSink sink(full, "the card");
  const Status status = sink.Write(AsBytes("x"));
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error(), HasSubstr("cannot write the card"));
  close(full);
}

// Runs `child` in another process; ends that one by `signal` once it has said that it is ready. Returns the wait
// status.
template <class F>
int KillWhenReady(int signal, F child) {
  int ready[2];
  EXPECT_EQ(pipe(ready), 0);
  const pid_t pid = fork();
  if (pid == 0) {
    child();
    (void)!write(ready[1], "x", 1);
    while (true) pause();
  }
  char c;
  EXPECT_EQ(read(ready[0], &c, 1), 1);
  close(ready[0]);
  close(ready[1]);
  kill(pid, signal);
  int status = 0;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  return status;
}

TEST(AtomicFile, ASignalRemovesWhatWasWrittenAndEndsTheProcess) {
  for (int signal : {SIGINT, SIGTERM, SIGHUP}) {
    const TemporaryFolder folder;
    std::optional<Expected<AtomicFile>> file;
    const int status = KillWhenReady(signal, [&] {
      file.emplace(AtomicFile::Create(folder / "x", {}));
      if (!*file || !(*file)->sink().Write(AsBytes("half"))) _exit(9);
    });
    ASSERT_TRUE(WIFSIGNALED(status));
    EXPECT_EQ(WTERMSIG(status), signal);
    EXPECT_THAT(folder.Names(), IsEmpty());
  }
}

TEST(AtomicFile, ASignalAfterCommitLeavesTheFile) {
  const TemporaryFolder folder;
  std::optional<Expected<AtomicFile>> file;
  const int status = KillWhenReady(SIGINT, [&] {
    file.emplace(AtomicFile::Create(folder / "x", {}));
    if (!*file || !(*file)->sink().Write(AsBytes("whole")) || !(*file)->Commit()) _exit(9);
  });
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(ReadFile(folder / "x"), "whole");
  EXPECT_THAT(folder.Names(), ElementsAre("x"));
}

TEST(AtomicFile, AnIgnoredSignalStaysIgnored) {
  const TemporaryFolder folder;
  const auto previous = ::signal(SIGHUP, SIG_IGN);
  {
    auto file = AtomicFile::Create(folder / "x", {});
    ASSERT_TRUE(file);
    raise(SIGHUP);
    ASSERT_TRUE(file->Commit());
  }
  ::signal(SIGHUP, previous);
  EXPECT_THAT(folder.Names(), ElementsAre("x"));
}

bool IsOurs(std::string_view name) { return name.starts_with("our"); }

// A folder with one file of this content.
Status WriteAtomicFolder(const std::string& path, std::string_view name, std::string_view content) {
  THIMBLE_ASSIGN(AtomicFolder folder, AtomicFolder::Create(path, {}, IsOurs));
  THIMBLE_ASSIGN(FileSink * sink, folder.Begin(std::string(name)));
  THIMBLE_TRY(sink->Write(AsBytes(content)));
  return folder.Commit();
}

TEST(AtomicFolder, AppearsWholeAndReplacesItsOwnOnly) {
  const TemporaryFolder folder;
  ASSERT_TRUE(WriteAtomicFolder(folder / "x", "our1", "one"));
  ASSERT_TRUE(WriteAtomicFolder(folder / "x/", "our2", "two"));
  EXPECT_FALSE(std::filesystem::exists(folder / "x/our1"));
  EXPECT_EQ(ReadFile(folder / "x/our2"), "two");
  EXPECT_THAT(folder.Names(), ElementsAre("x"));

  struct stat info;
  ASSERT_EQ(stat((folder / "x").c_str(), &info), 0);
  const mode_t mask = umask(0);
  umask(mask);
  EXPECT_EQ(info.st_mode & 0777, 0777 & ~mask);

  WriteFile(folder / "x/theirs", "kept");
  const Status refused = WriteAtomicFolder(folder / "x", "our3", "three");
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error(), HasSubstr("it holds \"theirs\", which would be lost"));
  EXPECT_EQ(ReadFile(folder / "x/theirs"), "kept");
  EXPECT_EQ(ReadFile(folder / "x/our2"), "two");
  EXPECT_THAT(folder.Names(), ElementsAre("x"));

  const std::vector<std::string> inputs = {folder / "y/input"};
  ASSERT_TRUE(WriteAtomicFolder(folder / "y", "our1", "one"));
  WriteFile(inputs[0], "read");
  const auto input = AtomicFolder::Create(folder / "y", inputs, IsOurs);
  ASSERT_FALSE(input);
  EXPECT_THAT(input.error(), HasSubstr("it is what is being read"));
}

TEST(AtomicFolder, LeavesNothingWithoutCommit) {
  const TemporaryFolder folder;
  {
    auto unfinished = AtomicFolder::Create(folder / "x", {}, IsOurs);
    ASSERT_TRUE(unfinished);
    for (const char* name : {"our1", "our2"}) {
      const auto sink = unfinished->Begin(name);
      ASSERT_TRUE(sink);
      ASSERT_TRUE((*sink)->Write(AsBytes("half")));
    }
    EXPECT_FALSE(folder.Names().contains("x"));
    EXPECT_FALSE(unfinished->Begin("our1"));
  }
  EXPECT_THAT(folder.Names(), IsEmpty());
}

TEST(AtomicFolder, ASignalRemovesWhatWasWrittenAndLeavesTheOld) {
  const TemporaryFolder folder;
  ASSERT_TRUE(WriteAtomicFolder(folder / "x", "our1", "one"));
  std::optional<Expected<AtomicFolder>> unfinished;
  const int status = KillWhenReady(SIGTERM, [&] {
    unfinished.emplace(AtomicFolder::Create(folder / "x", {}, IsOurs));
    for (const char* name : {"our1", "our2"}) {
      if (!*unfinished || !(*unfinished)->Begin(name)) _exit(9);
    }
  });
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(ReadFile(folder / "x/our1"), "one");
  EXPECT_THAT(folder.Names(), ElementsAre("x"));
}

TEST(TemporaryFile, HasNoNameAndIsReadThroughItsPath) {
  const TemporaryFolder folder;
  const char* before = getenv("TMPDIR");
  const std::string kept = before == nullptr ? "" : before;
  setenv("TMPDIR", folder.path().c_str(), 1);
  auto file = TemporaryFile::Create();
  if (before == nullptr) {
    unsetenv("TMPDIR");
  } else {
    setenv("TMPDIR", kept.c_str(), 1);
  }
  ASSERT_TRUE(file) << file.error();
  EXPECT_THAT(folder.Names(), IsEmpty());
  ASSERT_TRUE(file->sink().Write(AsBytes("hello")));
  EXPECT_EQ(ReadFile(file->path()), "hello");
  const TemporaryFile moved = std::move(*file);
  EXPECT_EQ(ReadFile(moved.path()), "hello");
}

}  // namespace
}  // namespace thimble::host

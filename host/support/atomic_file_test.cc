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

// What cannot be looked at may be the same file.
TEST(AtomicFile, RefusesWhereAnInputCannotBeLookedAt) {
  const TemporaryFolder folder;
  WriteFile(folder / "x", "kept");
  ASSERT_EQ(symlink("loop", (folder / "loop").c_str()), 0);
  const std::vector<std::string> inputs = {folder / "x/below a file", folder / "loop"};
  const auto file = AtomicFile::Create(folder / "x", inputs);
  ASSERT_FALSE(file);
  EXPECT_THAT(file.error(), HasSubstr("cannot look at " + folder / "loop"));
  EXPECT_TRUE(AtomicFile::Create(folder / "x", std::span(inputs).first(1)));
  EXPECT_TRUE(AtomicFile::Create(folder / "new", inputs));

  ASSERT_EQ(mkdir((folder / "f").c_str(), 0700), 0);
  const auto of_folder = AtomicFolder::Create(folder / "f", inputs, [](std::string_view) { return true; });
  ASSERT_FALSE(of_folder);
  EXPECT_THAT(of_folder.error(), HasSubstr("cannot look at " + folder / "loop"));
  EXPECT_THAT(folder.Names(), ElementsAre("f", "loop", "x"));
}

// Files x, y and z with this content, not yet committed.
Expected<std::vector<AtomicFile>> WriteThree(const TemporaryFolder& folder, std::string_view content) {
  std::vector<AtomicFile> files;
  for (const char* name : {"x", "y", "z"}) {
    THIMBLE_ASSIGN(AtomicFile file, AtomicFile::Create(folder / name, {}));
    THIMBLE_TRY(file.sink().Write(AsBytes(content)));
    files.push_back(std::move(file));
  }
  return files;
}

TEST(AtomicFile, SeveralAppearTogether) {
  const TemporaryFolder folder;
  for (const char* name : {"x", "y", "gone"}) WriteFile(folder / name, "old");
  {
    auto files = WriteThree(folder, "new");
    ASSERT_TRUE(files) << files.error();
    EXPECT_EQ(folder.Names().size(), 6u);
    EXPECT_EQ(ReadFile(folder / "x"), "old");
    ASSERT_TRUE(AtomicFile::CommitTogether(*files, folder / "gone"));
  }
  EXPECT_THAT(folder.Names(), ElementsAre("x", "y", "z"));
  for (const char* name : {"x", "y", "z"}) EXPECT_EQ(ReadFile(folder / name), "new");
  // Nothing to remove is no failure; without a commit nothing is left.
  {
    auto files = WriteThree(folder, "again");
    ASSERT_TRUE(files && AtomicFile::CommitTogether(*files, folder / "gone"));
    ASSERT_TRUE(WriteThree(folder, "never"));
  }
  EXPECT_THAT(folder.Names(), ElementsAre("x", "y", "z"));
  EXPECT_EQ(ReadFile(folder / "z"), "again");
}

// The steps before a failure stay, and its sentence says which they are.
TEST(AtomicFile, AFailureSaysWhatWasDoneBefore) {
  const TemporaryFolder folder;
  WriteFile(folder / "gone", "old");
  auto files = WriteThree(folder, "new");
  ASSERT_TRUE(files);
  ASSERT_EQ(mkdir((folder / "y").c_str(), 0700), 0);
  const Status failed = AtomicFile::CommitTogether(*files, folder / "gone");
  ASSERT_FALSE(failed);
  EXPECT_THAT(failed.error(), HasSubstr("cannot write " + folder / "y"));
  EXPECT_THAT(failed.error(), HasSubstr("before that, " + folder / "gone was removed, " + folder / "x was written"));
  files = Sentence("");
  EXPECT_THAT(folder.Names(), ElementsAre("x", "y"));
}

TEST(AtomicFile, NoMoreThanEightAtATime) {
  const TemporaryFolder folder;
  std::vector<AtomicFile> files;
  for (int i = 0; i < 8; ++i) {
    auto file = AtomicFile::Create(folder / std::to_string(i), {});
    ASSERT_TRUE(file) << file.error();
    files.push_back(std::move(*file));
  }
  const auto ninth = AtomicFile::Create(folder / "9", {});
  ASSERT_FALSE(ninth);
  EXPECT_THAT(ninth.error(), HasSubstr("8 other files are being written"));
  files.pop_back();
  EXPECT_TRUE(AtomicFile::Create(folder / "9", {}));
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

TEST(AtomicFile, ASignalRemovesAllThatAreNotCommitted) {
  const TemporaryFolder folder;
  std::optional<Expected<std::vector<AtomicFile>>> files;
  const int status = KillWhenReady(SIGTERM, [&] {
    files.emplace(WriteThree(folder, "half"));
    if (!*files || !(*files)->front().Commit()) _exit(9);
  });
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGTERM);
  EXPECT_THAT(folder.Names(), ElementsAre("x"));
}

TEST(AtomicFile, WhatAKilledRunLeftIsRemovedNameByName) {
  const TemporaryFolder folder;
  std::optional<Expected<std::vector<AtomicFile>>> files;
  const int status = KillWhenReady(SIGKILL, [&] {
    files.emplace(WriteThree(folder, "half"));
    if (!*files) _exit(9);
  });
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(folder.Names().size(), 3u);
  auto again = WriteThree(folder, "whole");
  ASSERT_TRUE(again && AtomicFile::CommitTogether(*again, ""));
  EXPECT_THAT(folder.Names(), ElementsAre("x", "y", "z"));
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

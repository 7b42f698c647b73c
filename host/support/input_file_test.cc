#include "host/support/input_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <thread>

#include "host/support/atomic_file.h"
#include "tests/support/checkpoints.h"

namespace thimble::host {
namespace {

using namespace thimble::tests;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class InputFileTest : public testing::Test {
 protected:
  InputFileTest() { WriteFile(path_, "some bytes"); }

  TemporaryFolder folder_;
  const std::string path_ = folder_ / "a";
};

TEST_F(InputFileTest, IsReadAtAnyOffsetAndNotBeyondItsEnd) {
  const auto file = InputFile::Open(path_);
  ASSERT_TRUE(file) << file.error();
  EXPECT_EQ(file->size_bytes(), 10u);
  std::array<char, 5> out = {};
  ASSERT_TRUE(file->ReadAt(5, std::as_writable_bytes(std::span(out))));
  EXPECT_EQ(std::string_view(out.data(), 5), "bytes");
  const auto beyond = file->ReadAt(6, std::as_writable_bytes(std::span(out)));
  ASSERT_FALSE(beyond);
  EXPECT_THAT(beyond.error(), HasSubstr("ends at byte 10"));
  EXPECT_EQ(*file->ReadSome(6, std::as_writable_bytes(std::span(out))), 4u);
  EXPECT_EQ(*file->ReadSome(10, std::as_writable_bytes(std::span(out))), 0u);
}

TEST_F(InputFileTest, RefusesWhatIsNoFile) {
  EXPECT_THAT(InputFile::Open(folder_.path()).error(), HasSubstr("it is a folder"));
  EXPECT_THAT(InputFile::Open("/dev/null").error(), HasSubstr("it is not a regular file"));
  EXPECT_THAT(InputFile::Open("/dev/null", InputFile::Accept::kFileOrDevice).error(), HasSubstr("neither a file nor"));
  EXPECT_THAT(InputFile::Open(folder_ / "none").error(), HasSubstr("cannot open"));
  EXPECT_THAT(ReadWholeFile(path_, 9).error(), HasSubstr("has 10 bytes; more than 9 are not read"));
  EXPECT_EQ(*ReadWholeFile(path_, 10), "some bytes");
}

// The path of the reading end of a pipe that holds `text`, as a shell's <(...) gives it.
class Pipe {
 public:
  explicit Pipe(std::string text) {
    EXPECT_EQ(pipe2(ends_, O_CLOEXEC), 0);
    writer_ = std::thread([this, text = std::move(text)] {
      for (size_t at = 0; at < text.size();) {
        const ssize_t n = write(ends_[1], text.data() + at, text.size() - at);
        if (n <= 0) break;
        at += static_cast<size_t>(n);
      }
      close(ends_[1]);
    });
  }
  ~Pipe() {
    writer_.join();
    close(ends_[0]);
  }
  std::string path() const { return "/dev/fd/" + std::to_string(ends_[0]); }

 private:
  int ends_[2] = {};
  std::thread writer_;
};

TEST_F(InputFileTest, APipeIsReadToItsEnd) {
  // More than a pipe holds at once.
  std::string text;
  while (text.size() < 300'000) text += std::to_string(text.size()) + "\n";
  const Pipe pipe(text);
  EXPECT_EQ(*ReadGiven(pipe.path(), text.size()), text);
  EXPECT_THAT(InputFile::Open(pipe.path()).error(), HasSubstr("it is not a regular file"));
  EXPECT_EQ(*ReadGiven(path_, 10), "some bytes");
  EXPECT_EQ(*ReadGiven("/dev/null", 10), "");
  // Files that say that they are empty.
  EXPECT_THAT(*ReadGiven("/proc/self/status", 1 << 16), HasSubstr("Name:"));
}

TEST_F(InputFileTest, ANamedPipeIsWaitedFor) {
  const std::string fifo = folder_ / "fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  std::thread writer([&] { WriteFile(fifo, "late"); });
  EXPECT_EQ(*ReadGiven(fifo, 100), "late");
  writer.join();
}

TEST_F(InputFileTest, APipeThatIsReadAgainGivesTheSame) {
  const InputFiles files;
  const Pipe pipe("a text");
  EXPECT_EQ(*ReadGiven(pipe.path(), 100), "a text");
  EXPECT_EQ(*ReadGiven(pipe.path(), 100), "a text");
  EXPECT_THAT(files.paths(), IsEmpty());
  ASSERT_TRUE(ReadGiven(path_, 100));
  EXPECT_EQ(InputFiles::Hold(path_), true);
}

TEST_F(InputFileTest, WhatCannotBeReadIsOneSentence) {
  EXPECT_EQ(ReadGiven(path_, 9).error(), path_ + " has more than 9 bytes; more are not read");
  EXPECT_EQ(ReadGiven("/dev/zero", 1 << 20).error(), "/dev/zero has more than 1048576 bytes; more are not read");
  EXPECT_EQ(ReadGiven(folder_.path(), 9).error(), "cannot open " + folder_.path() + ": it is a folder");
  EXPECT_EQ(ReadGiven(folder_ / "none", 9).error(),
            "cannot open " + (folder_ / "none") + ": No such file or directory");
  ASSERT_EQ(chmod(path_.c_str(), 0), 0);
  if (geteuid() != 0) {  // whom no mode keeps out
    EXPECT_EQ(ReadGiven(path_, 100).error(), "cannot open " + path_ + ": Permission denied");
  }
}

TEST_F(InputFileTest, WhatWasOpenedIsKnownByAnyName) {
  WriteFile(folder_ / "b", "");
  ASSERT_EQ(link(path_.c_str(), (folder_ / "c").c_str()), 0);
  EXPECT_EQ(InputFiles::Hold(path_), false);
  {
    const InputFiles files;
    EXPECT_THAT(files.paths(), IsEmpty());
    EXPECT_TRUE(ReadWholeFile(path_, 100));
    EXPECT_TRUE(ReadWholeFile(path_, 100));
    EXPECT_FALSE(ReadWholeFile(folder_ / "none", 100));
    EXPECT_THAT(files.paths(), ElementsAre(path_));
    EXPECT_EQ(InputFiles::Hold(path_), true);
    EXPECT_EQ(InputFiles::Hold(folder_ / "c"), true);
    EXPECT_EQ(InputFiles::Hold(folder_ / "b"), false);
    EXPECT_EQ(InputFiles::Hold(folder_ / "none"), false);
    {
      const InputFiles inner;
      EXPECT_EQ(InputFiles::Hold(path_), false);
    }
    EXPECT_EQ(InputFiles::Hold(path_), true);
  }
  EXPECT_EQ(InputFiles::Hold(path_), false);
}

TEST_F(InputFileTest, NoOutputReplacesWhatWasOpened) {
  const InputFiles files;
  ASSERT_TRUE(ReadWholeFile(path_, 100));
  const auto file = AtomicFile::Create(path_, {});
  ASSERT_FALSE(file);
  EXPECT_THAT(file.error(), HasSubstr("it is what is being read"));
  const auto folder = AtomicFolder::Create(folder_.path(), {}, [](std::string_view) { return true; });
  ASSERT_FALSE(folder);
  EXPECT_THAT(folder.error(), HasSubstr("it is what is being read"));
  EXPECT_EQ(ReadFile(path_), "some bytes");
  EXPECT_TRUE(AtomicFile::Create(folder_ / "b", {}));
}

}  // namespace
}  // namespace thimble::host

#include "host/support/input_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>

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
  EXPECT_EQ(ReadFile(file->path_while_open()), "some bytes");
}

TEST_F(InputFileTest, RefusesWhatIsNoFile) {
  EXPECT_THAT(InputFile::Open(folder_.path()).error(), HasSubstr("it is a folder"));
  EXPECT_THAT(InputFile::Open("/dev/null").error(), HasSubstr("it is not a regular file"));
  EXPECT_THAT(InputFile::Open("/dev/null", InputFile::Accept::kFileOrDevice).error(), HasSubstr("neither a file nor"));
  EXPECT_THAT(InputFile::Open(folder_ / "none").error(), HasSubstr("cannot open"));
  EXPECT_THAT(ReadWholeFile(path_, 9).error(), HasSubstr("has 10 bytes; more than 9 are not read"));
  EXPECT_EQ(*ReadWholeFile(path_, 10), "some bytes");
}

TEST_F(InputFileTest, WhatWasOpenedIsKnownByAnyName) {
  WriteFile(folder_ / "b", "");
  ASSERT_EQ(link(path_.c_str(), (folder_ / "c").c_str()), 0);
  EXPECT_FALSE(InputFiles::Hold(path_));
  {
    const InputFiles files;
    EXPECT_THAT(files.paths(), IsEmpty());
    EXPECT_TRUE(ReadWholeFile(path_, 100));
    EXPECT_TRUE(ReadWholeFile(path_, 100));
    EXPECT_FALSE(ReadWholeFile(folder_ / "none", 100));
    EXPECT_THAT(files.paths(), ElementsAre(path_));
    EXPECT_TRUE(InputFiles::Hold(path_));
    EXPECT_TRUE(InputFiles::Hold(folder_ / "c"));
    EXPECT_FALSE(InputFiles::Hold(folder_ / "b"));
    EXPECT_FALSE(InputFiles::Hold(folder_ / "none"));
    {
      const InputFiles inner;
      EXPECT_FALSE(InputFiles::Hold(path_));
    }
    EXPECT_TRUE(InputFiles::Hold(path_));
  }
  EXPECT_FALSE(InputFiles::Hold(path_));
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

#include "host/devices/file_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

namespace thimble::host {
namespace {

class FileDeviceTest : public testing::Test {
 protected:
  ~FileDeviceTest() override { unlink(path_.c_str()); }

  void Write(size_t size) {
    contents_.resize(size);
    for (size_t i = 0; i < size; ++i) contents_[i] = static_cast<std::byte>(i * 7 + i / 256);
    FILE* file = std::fopen(path_.c_str(), "wb");
    ASSERT_NE(file, nullptr);
    if (size != 0) {
      ASSERT_EQ(std::fwrite(contents_.data(), 1, size, file), size);
    }
    std::fclose(file);
  }

  std::string path_ = testing::TempDir() + "file_device_test_" + std::to_string(getpid());
  std::vector<std::byte> contents_;
  alignas(64) std::byte buffer_[4096];
};

TEST_F(FileDeviceTest, ReadsBlocksAndFillsTheTailWithZeros) {
  Write(1300);
  auto device = FileDevice::Open(path_);
  ASSERT_TRUE(device) << device.error();
  EXPECT_EQ((*device)->geometry().size_bytes, 1536u);
  EXPECT_EQ((*device)->geometry().block_bytes, 512u);
  EXPECT_EQ((*device)->file_size_bytes(), 1300u);
  std::memset(buffer_, 0xff, sizeof(buffer_));
  ASSERT_TRUE((*device)->StartRead(512, std::span(buffer_).first(1024)));
  ASSERT_TRUE((*device)->WaitRead());
  EXPECT_EQ(std::memcmp(buffer_, contents_.data() + 512, 788), 0);
  for (size_t i = 788; i < 1024; ++i) ASSERT_EQ(buffer_[i], std::byte{0});
  EXPECT_EQ(buffer_[1024], std::byte{0xff});
}

TEST_F(FileDeviceTest, RefusesWhatBreaksItsGeometryAndASecondRead) {
  Write(4096);
  auto device = FileDevice::Open(path_, 64);
  ASSERT_TRUE(device);
  EXPECT_EQ((*device)->WaitRead().error().code, Code::kInvalidArgument);
  EXPECT_EQ((*device)->StartRead(0, std::span(buffer_).subspan(4, 512)).error().code, Code::kInvalidArgument);
  EXPECT_EQ((*device)->StartRead(100, std::span(buffer_).first(512)).error().code, Code::kInvalidArgument);
  EXPECT_EQ((*device)->StartRead(4096, std::span(buffer_).first(512)).error().code, Code::kInvalidArgument);
  ASSERT_TRUE((*device)->StartRead(0, std::span(buffer_).first(512)));
  EXPECT_EQ((*device)->StartRead(0, std::span(buffer_).first(512)).error().code, Code::kInvalidArgument);
  ASSERT_TRUE((*device)->WaitRead());
  ASSERT_TRUE((*device)->StartRead(0, std::span(buffer_).first(512)));
  ASSERT_TRUE((*device)->Reinitialise());
  EXPECT_EQ((*device)->WaitRead().error().code, Code::kInvalidArgument);
}

TEST_F(FileDeviceTest, AFileThatBecameShorterIsAnError) {
  Write(4096);
  auto device = FileDevice::Open(path_);
  ASSERT_TRUE(device);
  ASSERT_EQ(truncate(path_.c_str(), 1000), 0);
  ASSERT_TRUE((*device)->StartRead(512, std::span(buffer_).first(1024)));
  const Result<void> result = (*device)->WaitRead();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Code::kIo);
  EXPECT_EQ(result.error().offset, 1000u);
  EXPECT_STREQ(result.error().name, "the file has become shorter");
}

TEST_F(FileDeviceTest, SaysWhyAPathCannotBeOpened) {
  EXPECT_THAT(FileDevice::Open(path_).error(), testing::HasSubstr(path_ + ": No such file"));
  EXPECT_THAT(FileDevice::Open("/").error(), testing::HasSubstr("it is a folder"));
  EXPECT_THAT(FileDevice::Open("/dev/null").error(), testing::HasSubstr("neither a file nor a block device"));
  Write(0);
  EXPECT_THAT(FileDevice::Open(path_).error(), testing::HasSubstr("it is empty"));
  unlink(path_.c_str());
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  EXPECT_THAT(FileDevice::Open(path_).error(), testing::HasSubstr("neither a file nor a block device"));
}

}  // namespace
}  // namespace thimble::host

#include "host/support/foreign_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "tests/support/checkpoints.h"
#include "tests/support/tool.h"

namespace thimble::host {
namespace {

using namespace thimble::tests;
using namespace std::string_literals;
using testing::HasSubstr;

const std::string kPointer =
    "version https://git-lfs.github.com/spec/v1\noid sha256:" + std::string(64, '1') + "\nsize 26001408\n";

TEST(ForeignFile, IsKnownByWhatItHolds) {
  const auto says = [](const std::string& start) {
    const Status status = RefuseForeign(start, "FILE");
    return status ? "" : status.error();
  };
  EXPECT_THAT(says(kPointer), HasSubstr("FILE is a Git LFS pointer, not the file itself: run 'git lfs pull'"));
  for (const char* page : {"<!DOCTYPE html><p>", "\xef\xbb\xbf\r\n <HTML lang=en>", "<!doctype HTML>"}) {
    EXPECT_THAT(says(page), HasSubstr("FILE is a web page"));
  }
  EXPECT_EQ(says(""), "FILE is empty: download it again");
  EXPECT_THAT(says("PK\x03\x04..."), HasSubstr("PyTorch checkpoint"));
  EXPECT_THAT(says("\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20j\xa8P\x19."s), HasSubstr("PyTorch checkpoint"));
  const std::string tar = std::string(257, 'x') + "ustar\0"s + "00" + std::string(200, '\0');
  for (const std::string& archive : {"\x1f\x8b\x08\0"s, "\xfd\x37zXZ\0"s, "\x28\xb5\x2f\xfd"s, "BZh9"s, tar}) {
    EXPECT_EQ(says(archive), "FILE is an archive: unpack it first");
  }
  // What is ours, and what only looks like one of these: a llama2.c checkpoint whose dim is 640.
  for (const std::string& ours :
       {"GGUF\3\0\0\0"s, "{\"a\": 1}"s, "\x80\x02\0\0\x00\x07\0\0"s, "\x0a\x0e\n\x05<unk>"s, "P"s}) {
    EXPECT_EQ(says(ours), "") << ours;
  }
}

// Wherever a model, weights or a tokenizer are expected, whatever the name.
TEST(ForeignFile, IsNamedByEveryCommandThatMeetsIt) {
  const TemporaryFolder folder;
  const auto refusal = [&](std::vector<std::string> words) {
    const ToolRun run = RunTool(words);
    EXPECT_EQ(run.exit_code, 1) << words[1];
    EXPECT_EQ(std::count(run.error.begin(), run.error.end(), '\n'), 1) << run.error;
    return run.error;
  };
  for (const char* name : {"m.gguf", "m.bin", "m.img", "m"}) {
    const std::string path = folder / name;
    WriteFile(path, kPointer);
    EXPECT_THAT(refusal({"run", "-m", path, "--ids", "1"}), HasSubstr("Git LFS pointer")) << name;
    EXPECT_THAT(refusal({"convert", path, "-o", folder / "out.gguf"}), HasSubstr("Git LFS pointer")) << name;
    EXPECT_THAT(refusal({"inspect", path}), HasSubstr("Git LFS pointer")) << name;
    EXPECT_THAT(refusal({"card", path, "-o", folder / "out.img"}), HasSubstr("Git LFS pointer")) << name;
    EXPECT_THAT(refusal({"verify", path}), HasSubstr("Git LFS pointer")) << name;
  }
  for (const char* part : {"model.safetensors", "config.json", "tokenizer.model"}) {
    const std::string hf = folder / "hf";
    std::filesystem::remove_all(hf);
    std::filesystem::create_directory(hf);
    for (const auto& file : std::filesystem::directory_iterator("model/thimble-stories")) {
      std::filesystem::copy_file(file.path(), hf + "/" + file.path().filename().string());
    }
    WriteFile(hf + "/" + part, kPointer);
    EXPECT_THAT(refusal({"convert", hf, "-o", folder / "out.gguf"}), HasSubstr("Git LFS pointer")) << part;
    WriteFile(hf + "/" + part, "");
    EXPECT_THAT(refusal({"convert", hf, "-o", folder / "out.gguf"}), HasSubstr("is empty")) << part;
    WriteFile(hf + "/" + part, "<!DOCTYPE html>");
    EXPECT_THAT(refusal({"convert", hf, "-o", folder / "out.gguf"}), HasSubstr("is a web page")) << part;
  }
}

}  // namespace
}  // namespace thimble::host

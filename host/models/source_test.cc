#include "host/models/source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/support/checkpoints.h"

namespace thimble::host {
namespace {

using namespace thimble::tests;
using testing::HasSubstr;

ModelShape Llama2cShape() {
  ModelShape shape = SmallShape();
  shape.hidden_size = shape.num_attention_heads * shape.head_dim;
  return shape;
}

TEST(Source, FoldersAndCheckpointsAreConverted) {
  const TemporaryFolder folder;
  HfModel::Make(SmallShape(), "BF16", 1).Write(folder / "model");
  WriteFile(folder / "stories.bin", Llama2cModel::Make(Llama2cShape(), true, 1).File());
  WriteFile(folder / "tok.bin", Llama2cTokenizerFile(300));
  for (const auto& [name, tokenizer] : {std::pair{"model", ""}, std::pair{"stories.bin", "tok.bin"}}) {
    const std::string tokenizer_path = *tokenizer == '\0' ? "" : folder / tokenizer;
    const auto source = OpenModelSource(folder / name, tokenizer_path);
    ASSERT_TRUE(source) << source.error();
    EXPECT_TRUE(source->is_converted());
    const GgufContent gguf = ReadGguf(source->path());
    EXPECT_EQ(gguf.keys.at("general.architecture"), "llama");
    EXPECT_EQ(gguf.keys.at("tokenizer.ggml.model"), *tokenizer == '\0' ? "no_vocab" : "llama");
  }
  EXPECT_EQ(folder.Names().size(), 3u);
}

TEST(Source, TheConversionGoesWithItsOwner) {
  const TemporaryFolder folder;
  HfModel::Make(SmallShape(), "BF16", 1).Write(folder / "model");
  std::string path;
  {
    auto source = OpenModelSource(folder / "model", "");
    ASSERT_TRUE(source);
    const ModelSource moved = std::move(*source);
    path = moved.path();
    EXPECT_EQ(access(path.c_str(), R_OK), 0);
  }
  EXPECT_NE(access(path.c_str(), R_OK), 0);
}

TEST(Source, ConversionsHaveTheNameOfWhatTheyAreOf) {
  for (const auto& [path, name] :
       {std::pair("a/stories.bin", "stories.gguf"), std::pair("a/Tiny-LLM", "Tiny-LLM.gguf"),
        std::pair(".bin", ".bin.gguf"), std::pair("b/m-00001-of-00003.gguf", "m.gguf"), std::pair("m.x", "m.x.gguf")}) {
    EXPECT_EQ(NameConverted(path), name);
  }
}

TEST(Source, EverythingElseIsHandedOn) {
  const TemporaryFolder folder;
  std::string image(4096, '\0');
  WriteFile(folder / "blank.img", image);
  image[510] = '\x55';
  image[511] = '\xaa';
  WriteFile(folder / "card", image);
  WriteFile(folder / "x.gguf", "GGUF");
  for (const std::string& path : {folder / "blank.img", folder / "card", folder / "x.gguf", std::string("/dev/zero")}) {
    const auto source = OpenModelSource(path, "");
    ASSERT_TRUE(source) << source.error();
    EXPECT_FALSE(source->is_converted());
    EXPECT_EQ(source->path(), path);
    EXPECT_FALSE(OpenModelSource(path, folder / "tok.bin"));
  }
}

// A checkpoint whose weights happen to look like the end of a boot sector is a checkpoint.
TEST(Source, ACheckpointIsToldFromAnImageByItsLength) {
  const TemporaryFolder folder;
  std::string file = Llama2cModel::Make(Llama2cShape(), true, 1).File();
  file[510] = '\x55';
  file[511] = '\xaa';
  file[509] = file[508] = '\0';
  WriteFile(folder / "stories.bin", file);
  const auto source = OpenModelSource(folder / "stories.bin", "");
  ASSERT_TRUE(source) << source.error();
  EXPECT_TRUE(source->is_converted());
}

TEST(Source, WhatIsNothingIsRefused) {
  const TemporaryFolder folder;
  WriteFile(folder / "noise", std::string(5000, 'x'));
  WriteFile(folder / "empty", "");
  WriteFile(folder / "short", "GG");
  for (const char* name : {"noise", "empty", "short", "absent", "."}) {
    const auto source = OpenModelSource(folder / name, "");
    ASSERT_FALSE(source) << name;
    EXPECT_THAT(source.error(), HasSubstr(folder / name));
  }
}

}  // namespace
}  // namespace thimble::host

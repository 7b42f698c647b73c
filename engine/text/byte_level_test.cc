// Byte-level BPE: vocabularies of real models, and made ones against the algorithm written plainly.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "engine/formats/pre_tokenizer.h"
#include "engine/text/tokenizer.h"
#include "engine/text/word_splitter.h"
#include "tests/support/test_vocabulary.h"
#include "tests/support/tokenizer_image.h"

namespace thimble::text {
namespace {

using formats::PreTokenizer;
using testing::ElementsAre;
using testing::HasSubstr;
using tests::ByteLevelVocabulary;
using tests::Letters;
using tests::LoadedTokenizer;
using tests::TokenizerFile;

std::vector<std::string> Words(PreTokenizer pre, std::string_view text) {
  std::vector<std::string> words;
  WordSplitter splitter(pre, text);
  for (std::string_view word = splitter.Next(); !word.empty(); word = splitter.Next()) words.emplace_back(word);
  return words;
}

std::string FileBytes(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// llama.cpp's test set: texts, and their ids, a line each.
class RealVocabularies : public testing::TestWithParam<const char*> {};

TEST_P(RealVocabularies, GiveLlamaCppsIds) {
  const char* models = std::getenv("THIMBLE_REAL_MODELS");
  const std::string name = GetParam();
  const std::string base = models == nullptr ? "" : std::string(models) + "/vocab-bpe/" + name;
  if (!std::filesystem::exists(base + ".gguf")) {
    GTEST_SKIP() << "needs vocab-bpe/" << name << ".gguf in $THIMBLE_REAL_MODELS";
  }
  const ByteLevelVocabulary vocabulary = tests::ReadByteLevelGguf(FileBytes(base + ".gguf"));
  ASSERT_EQ(formats::PreTokenizerName(vocabulary.pre), name);
  const LoadedTokenizer loaded(vocabulary);
  ASSERT_TRUE(loaded.result()) << tests::Sentence(loaded.result().error());
  EXPECT_EQ(loaded.arena().used_bytes(), Tokenizer::TableBytes(loaded.ref()));
  const tests::ImageFile image(loaded.ref(), loaded.tokenizer());
  const tests::LoadedImage from_image(image);
  tests::OpenedImage::Options options;
  options.cache_pages = 8;
  const tests::OpenedImage on_card(image, options);
  ASSERT_TRUE(from_image.result() && on_card.result());

  const std::string texts = FileBytes(base + ".inp");
  std::istringstream lines(FileBytes(base + ".out"));
  constexpr std::string_view kEnd = "\n__ggml_vocab_test__\n";
  size_t num_texts = 0;
  for (size_t at = 0, end = 0; end != texts.size(); at = end + kEnd.size()) {
    end = std::min(texts.find(kEnd, at), texts.size());
    const std::string text = texts.substr(at, end - at);
    std::string line;
    std::getline(lines, line);
    std::istringstream numbers(line);
    const std::vector<TokenId> expected(std::istream_iterator<TokenId>(numbers), {});
    EXPECT_EQ(loaded.Encode(text), expected) << text;
    EXPECT_EQ(tests::Encode(from_image.tokenizer(), text), expected) << text;
    EXPECT_EQ(tests::Encode(on_card.tokenizer(), text), expected) << text;
    EXPECT_EQ(loaded.Decode(expected), text);
    EXPECT_EQ(tests::Decode(on_card.tokenizer(), loaded.ref(), expected), text);
    ++num_texts;
  }
  EXPECT_EQ(num_texts, 47u);
}

INSTANTIATE_TEST_SUITE_P(All, RealVocabularies, testing::Values("gpt-2", "starcoder", "mpt", "deepseek-llm"));

}  // namespace
}  // namespace thimble::text

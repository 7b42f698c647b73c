#include "tests/support/tokenizer_image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/text/detokenizer.h"
#include "engine/text/tokenizer.h"
#include "tests/support/test_vocabulary.h"

namespace thimble::text {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using tests::Crc32cOf;
using tests::ImageFile;
using tests::LoadedImage;
using tests::LoadedTokenizer;
using tests::OpenedImage;
using tests::TestVocabulary;
using tests::TokenizerFile;

constexpr const char* kSpace = "\xE2\x96\x81";

std::string Sentence(const Error& error) {
  char text[256];
  return std::string(text, FormatError(error, text));
}

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

TestVocabulary Small() {
  TestVocabulary vocabulary;
  vocabulary.AddSpecial(true);
  vocabulary.Add(kSpace, -5);
  vocabulary.Add("a", -6);
  vocabulary.Add("b", -7);
  vocabulary.Add("ab", -1);
  vocabulary.Add(std::string(kSpace) + "ab", -2);
  vocabulary.Add("ba", 0, TokenType::kUserDefined);
  vocabulary.Add("abab", -3, TokenType::kUnused);
  return vocabulary;
}

TestVocabulary RandomVocabulary(std::mt19937& random) {
  static constexpr const char* kCharacters[] = {"a", "b", kSpace, "\xC3\xA9", "c", "\xF0\x9F\x98\x80", "\xEF\xBF\xBD"};
  const auto below = [&](size_t n) { return random() % n; };
  TestVocabulary vocabulary;
  vocabulary.AddSpecial(below(2) == 0);
  vocabulary.add_space_prefix = below(2) == 0;
  const size_t max_length = below(20) == 0 ? 200 : 2 + below(9);
  const size_t num_scores = 1 + below(30);
  for (size_t n = below(400); n != 0; --n) {
    std::string piece;
    for (size_t length = below(max_length + 1); length != 0; --length) {
      piece += kCharacters[below(std::size(kCharacters))];
    }
    constexpr TokenType kTypes[] = {TokenType::kNormal, TokenType::kNormal, TokenType::kUnused,
                                    TokenType::kUserDefined};
    vocabulary.Add(piece, -static_cast<float>(below(num_scores)), kTypes[below(12) == 0 ? 3 : below(3)]);
  }
  return vocabulary;
}

std::string RandomText(std::mt19937& random, const TestVocabulary& vocabulary, size_t pieces) {
  std::string text;
  for (; pieces != 0; --pieces) {
    const std::string& piece = vocabulary.pieces[random() % vocabulary.pieces.size()].piece;
    text += random() % 8 == 0 ? std::string(1, static_cast<char>(random())) : piece;
    if (random() % 4 == 0) text += ' ';
  }
  return text;
}

// As an image must answer: from the tokenizer that Load() gave.
struct Answers {
  Answers(const LoadedTokenizer& t, std::span<const std::string> all_texts) : loaded(&t), texts(all_texts) {
    for (const std::string& text : texts) ids.push_back(t.Encode(text, true));
    for (const auto& i : ids) decoded.push_back(t.Decode(i));
  }
  const LoadedTokenizer* loaded;
  std::span<const std::string> texts;
  std::vector<std::vector<TokenId>> ids;
  std::vector<std::string> decoded;
};

// `step`: of the ids that are looked at one by one.
void ExpectSameAnswers(const Answers& expected, const Tokenizer& actual, uint32_t step = 1) {
  const Tokenizer& t = expected.loaded->tokenizer();
  ASSERT_EQ(actual.size(), t.size());
  EXPECT_EQ(actual.bos(), t.bos());
  EXPECT_EQ(actual.eos(), t.eos());
  EXPECT_EQ(actual.unk(), t.unk());
  EXPECT_EQ(actual.add_bos(), t.add_bos());
  EXPECT_EQ(actual.add_space_prefix(), t.add_space_prefix());
  for (TokenId id = 0; id <= t.size(); id += step) {
    ASSERT_EQ(actual.Type(id), t.Type(id)) << id;
    ASSERT_EQ(actual.Piece(id), t.Piece(id)) << id;
  }
  for (size_t i = 0; i < expected.texts.size(); ++i) {
    ASSERT_EQ(tests::Encode(actual, expected.texts[i], true), expected.ids[i]) << expected.texts[i];
    ASSERT_EQ(tests::Decode(actual, expected.loaded->ref(), expected.ids[i]), expected.decoded[i]);
  }
  EXPECT_TRUE(actual.TakeStatus());
}

// In memory and from the card, through caches and blocks of several sizes.
void ExpectImageGivesTheSame(const TokenizerFile& file, std::span<const std::string> texts,
                             std::initializer_list<uint32_t> cache_pages = {1, 2, 7}, uint32_t step = 1) {
  const LoadedTokenizer expected(file);
  ASSERT_TRUE(expected.result()) << Sentence(expected.result().error());
  const Answers answers(expected, texts);
  ImageFile image(file.ref, expected.tokenizer());
  const LoadedImage loaded(image);
  ASSERT_TRUE(loaded.result()) << Sentence(loaded.result().error());
  EXPECT_EQ(loaded.arena().used_bytes(), Tokenizer::TableBytes(file.ref));
  EXPECT_EQ(loaded.arena().peak_bytes(), Tokenizer::TableBytes(file.ref));
  ASSERT_NO_FATAL_FAILURE(ExpectSameAnswers(answers, loaded.tokenizer()));
  EXPECT_EQ(ImageFile(file.ref, loaded.tokenizer()).bytes, image.bytes);
  for (uint32_t pages : cache_pages) {
    for (uint32_t block_bytes : {512u, 128u, 4096u}) {
      const OpenedImage opened(image, {.cache_pages = pages, .block_bytes = block_bytes});
      ASSERT_TRUE(opened.result()) << Sentence(opened.result().error());
      ASSERT_NO_FATAL_FAILURE(ExpectSameAnswers(answers, opened.tokenizer(), step));
    }
  }
}

TEST(TokenizerImageTest, OfSmallVocabularies) {
  const std::vector<std::string> texts = {"", "ab", " ab abab ba", "\xFFx\xC3\xA9", std::string("\0", 1), "abababab"};
  ExpectImageGivesTheSame(TokenizerFile(Small()), texts);
  TestVocabulary no_bytes = Small();
  no_bytes.pieces.erase(no_bytes.pieces.begin() + 3, no_bytes.pieces.begin() + 259);
  ExpectImageGivesTheSame(TokenizerFile(no_bytes), texts);
  TokenizerFile no_unk(no_bytes);
  no_unk.ref.unk = no_unk.ref.bos = card::kNoToken;
  no_unk.ref.add_bos = no_unk.ref.add_space_prefix = false;
  ExpectImageGivesTheSame(no_unk, texts);
}

TEST(TokenizerImageTest, OfRandomVocabularies) {
  std::mt19937 random(1);
  for (int round = 0; round < 100; ++round) {
    const TestVocabulary vocabulary = RandomVocabulary(random);
    std::vector<std::string> texts;
    for (int i = 0; i < 10; ++i) texts.push_back(RandomText(random, vocabulary, random() % 12));
    ASSERT_NO_FATAL_FAILURE(ExpectImageGivesTheSame(TokenizerFile(vocabulary), texts, {1, 3}));
  }
}

// Four bytes an id, two a length, pieces that do not fit a record.
TEST(TokenizerImageTest, OfWideTables) {
  TestVocabulary vocabulary;
  vocabulary.AddSpecial(true);
  for (int i = 0; i < 70000; ++i) {
    std::string piece;
    for (int n = i; n != 0; n /= 26) piece += static_cast<char>('a' + n % 26);
    vocabulary.Add(piece, static_cast<float>(-i));
  }
  const std::string longest(700, 'Z');
  for (size_t length = 1; length <= longest.size(); ++length) vocabulary.Add(longest.substr(0, length), -1);
  const std::vector<std::string> texts = {"hello big wide world", longest + longest + "Z", longest.substr(1)};
  ExpectImageGivesTheSame(TokenizerFile(vocabulary), texts, {5}, 31);
}

TEST(TokenizerImageTest, OfTheBundledModel) {
  const TestVocabulary vocabulary = tests::ParseModelProto(ReadFile(THIMBLE_BUNDLED_MODEL "/tokenizer.model"));
  std::mt19937 random(2);
  std::vector<std::string> texts = {"Once upon a time, there was a little girl named Lily."};
  for (int i = 0; i < 200; ++i) texts.push_back(RandomText(random, vocabulary, random() % 40));
  ExpectImageGivesTheSame(TokenizerFile(vocabulary), texts);
}

TEST(TokenizerImageTest, WithoutAVocabulary) {
  TokenizerFile file(Small());
  file.ref.present = false;
  const LoadedTokenizer none(file);
  EXPECT_EQ(none.tokenizer().ImageBytes(), 0u);
  const ImageFile image(file.ref, none.tokenizer());
  EXPECT_EQ(LoadedImage(image).tokenizer().size(), 0u);
  EXPECT_EQ(OpenedImage(image).tokenizer().size(), 0u);
  EXPECT_TRUE(Tokenizer().TakeStatus());
}

TEST(TokenizerImageTest, RealLlama2) {
  const char* folder = std::getenv("THIMBLE_REAL_MODELS");
  if (folder == nullptr) GTEST_SKIP() << "THIMBLE_REAL_MODELS is not set";
  const std::filesystem::path path = std::filesystem::path(folder) / "tokenizer-llama2-32000";
  const TestVocabulary vocabulary = tests::ParseModelProto(ReadFile(path / "tokenizer.model"));
  const std::string all = ReadFile(path / "ggml-vocab-llama-spm.gguf.inp");
  std::vector<std::string> texts = {all};
  static constexpr std::string_view kBetween = "\n__ggml_vocab_test__\n";
  for (size_t begin = 0, end; (end = all.find(kBetween, begin)) != all.npos; begin = end + kBetween.size()) {
    texts.push_back(all.substr(begin, end - begin));
  }
  std::mt19937 random(3);
  for (int i = 0; i < 50; ++i) texts.push_back(RandomText(random, vocabulary, random() % 60));
  ExpectImageGivesTheSame(TokenizerFile(vocabulary), texts, {1, 7}, 7);
}

// With a cache of 4 KiB: 7 pages.
TEST(TokenizerImageTest, ReadsOfLlama2) {
  const char* folder = std::getenv("THIMBLE_REAL_MODELS");
  if (folder == nullptr) GTEST_SKIP() << "THIMBLE_REAL_MODELS is not set";
  const std::filesystem::path path = std::filesystem::path(folder) / "tokenizer-llama2-32000";
  const TokenizerFile file(tests::ParseModelProto(ReadFile(path / "tokenizer.model")));
  EXPECT_LE(Tokenizer::CacheBytes(file.ref, 512, 7), 4096u);
  EXPECT_GT(Tokenizer::CacheBytes(file.ref, 512, 8), 4096u);
  const LoadedTokenizer loaded(file);
  const ImageFile image(file.ref, loaded.tokenizer());
  RecordProperty("image_bytes", std::to_string(image.image.size_bytes));
  OpenedImage opened(image, {.cache_bytes = 4096});
  ASSERT_TRUE(opened.result());
  EXPECT_EQ(opened.TakeReads(), 1u);

  const std::string prompt =
      "The quick brown fox had lived at the edge of the old forest for as long as anybody in the village could "
      "remember, and every evening, when the lamps were lit, it came down the hill to listen at the gate.";
  EXPECT_EQ(prompt.size(), 200u);
  const std::vector<TokenId> ids = tests::Encode(opened.tokenizer(), prompt);
  const size_t reads = opened.TakeReads();
  RecordProperty("encode_reads", std::to_string(reads));
  EXPECT_LE(reads, 700u);
  size_t most = 0, sum = 0;
  for (TokenId id = 0; id < file.ref.num_tokens; id += 7) {
    opened.tokenizer().Piece(id * 5 % file.ref.num_tokens);
    const size_t n = opened.TakeReads();
    most = std::max(most, n);
    sum += n;
  }
  RecordProperty("piece_reads_most", std::to_string(most));
  RecordProperty("piece_reads_sum", std::to_string(sum));
  EXPECT_LE(most, 3u);
  // Nothing twice.
  const TokenId id = ids.back();
  opened.tokenizer().Piece(id);
  opened.TakeReads();
  opened.tokenizer().Piece(id);
  opened.tokenizer().Piece(id);
  EXPECT_EQ(opened.TakeReads(), 0u);
}

}  // namespace
}  // namespace thimble::text

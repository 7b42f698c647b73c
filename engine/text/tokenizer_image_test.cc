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
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "engine/math/kernels.h"
#include "engine/text/detokenizer.h"
#include "engine/text/tokenizer.h"
#include "host/formats/tokenizer_image_writer.h"
#include "tests/support/test_vocabulary.h"

namespace thimble::text {
namespace {

using testing::HasSubstr;
using tests::ImageFile;
using tests::kSpace;
using tests::LoadedImage;
using tests::LoadedTokenizer;
using tests::OpenedImage;
using tests::Sentence;
using tests::TestVocabulary;
using tests::TokenizerFile;

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

TestVocabulary Small() {
  TestVocabulary vocabulary = tests::SmallVocabulary();
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
  no_unk.ref.unk = no_unk.ref.bos = kNoToken;
  no_unk.ref.add_bos = no_unk.ref.add_space_prefix = false;
  ExpectImageGivesTheSame(no_unk, texts);
}

TEST(TokenizerImageTest, OfRandomVocabularies) {
  std::mt19937 random(1);
  for (int round = 0; round < 40; ++round) {
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
  EXPECT_EQ(host::TokenizerImageBytes(none.tokenizer()), 0u);
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

// With a cache of 4 KiB: 7 pages. docs/tokenizer.md has these numbers.
TEST(TokenizerImageTest, ReadsOfLlama2) {
  const char* folder = std::getenv("THIMBLE_REAL_MODELS");
  if (folder == nullptr) GTEST_SKIP() << "THIMBLE_REAL_MODELS is not set";
  const std::filesystem::path path = std::filesystem::path(folder) / "tokenizer-llama2-32000";
  const TokenizerFile file(tests::ParseModelProto(ReadFile(path / "tokenizer.model")));
  EXPECT_LE(Tokenizer::CacheBytes(file.ref, 512, 7), 4096u);
  EXPECT_GT(Tokenizer::CacheBytes(file.ref, 512, 8), 4096u);
  const LoadedTokenizer loaded(file);
  const ImageFile image(file.ref, loaded.tokenizer());
  EXPECT_EQ(image.image.bytes, 974'336u);
  OpenedImage opened(image, {.cache_bytes = 4096});
  ASSERT_TRUE(opened.result());
  EXPECT_EQ(opened.TakeReads(), 1u);

  const std::string prompt =
      "The quick brown fox had lived at the edge of the old forest for as long as anybody in the village could "
      "remember, and every evening, when the lamps were lit, it came down the hill to listen at a gate.";
  EXPECT_EQ(prompt.size(), 200u);
  const std::vector<TokenId> ids = tests::Encode(opened.tokenizer(), prompt);
  const size_t reads = opened.TakeReads();
  EXPECT_EQ(reads, 344u);
  size_t most = 0, sum = 0;
  std::mt19937 random(6);
  for (int i = 0; i < 1000; ++i) {
    opened.tokenizer().Piece(static_cast<TokenId>(random() % file.ref.num_tokens));
    const size_t n = opened.TakeReads();
    most = std::max(most, n);
    sum += n;
  }
  EXPECT_LE(most, 3u);
  EXPECT_EQ(sum, 2001u);
  // Nothing twice.
  const TokenId id = ids.back();
  opened.tokenizer().Piece(id);
  opened.TakeReads();
  opened.tokenizer().Piece(id);
  opened.tokenizer().Piece(id);
  EXPECT_EQ(opened.TakeReads(), 0u);
}

uint32_t U32(std::span<const std::byte> bytes, size_t at, size_t width = 4) {
  uint32_t value = 0;
  std::memcpy(&value, bytes.data() + at, width);
  return value;
}

// As docs/formats/tokenizer_image.md has it, read by hand.
TEST(TokenizerImageTest, IsWhatTheDocumentSays) {
  const TestVocabulary vocabulary = Small();
  const TokenizerFile file(vocabulary);
  const LoadedTokenizer t(file);
  ImageFile image(file.ref, t.tokenizer());
  std::vector<std::byte> payload;
  for (auto rest = image.image_bytes(); !rest.empty(); rest = rest.subspan(512)) {
    EXPECT_EQ(U32(rest, 508), tests::ChecksumOf(rest.first(508)));
    payload.insert(payload.end(), rest.begin(), rest.begin() + 508);
  }
  const uint32_t n = static_cast<uint32_t>(vocabulary.pieces.size());
  EXPECT_EQ(std::memcmp(payload.data(), "ThTk", 4), 0);
  const uint32_t text_bytes = U32(payload, 48);
  const uint32_t kFields[] = {
      1, n, static_cast<uint32_t>(file.ref.tokens_bytes), 6, 1, 2, 3, 2, 1, n / 4, 0, text_bytes, 4, 6, 1, 1, 1};
  for (size_t i = 0; i < std::size(kFields); ++i) EXPECT_EQ(U32(payload, 4 + 4 * i), kFields[i]) << i;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    EXPECT_EQ(U32(payload, 72 + byte / 32 * 4) >> byte % 32 & 1, byte == 'b' ? 1u : 0u);
  }
  const size_t text = 508 + n * 2 + n * 2 + (n + 31) / 32 * 4 + (n / 4 + 1) * 2 + 512 + n + (n + 3) / 4;
  const size_t offsets = (text + text_bytes + 507) / 508 * 508;
  const size_t hash = (offsets + 4 * (n + 1) + 507) / 508 * 508;
  for (TokenId id = 0; id < n; ++id) {
    const uint32_t begin = U32(payload, offsets + 4 * id);
    const std::string_view piece(reinterpret_cast<char*>(payload.data()) + text + begin,
                                 U32(payload, offsets + 4 * id + 4) - begin);
    EXPECT_EQ(piece, t.tokenizer().Piece(id));
  }
  EXPECT_EQ(payload.size(), hash + 508);
  const uint32_t used = U32(payload, hash, 2);
  std::map<std::string, std::pair<TokenId, uint32_t>> records;
  for (size_t at = hash + 2; at < hash + 2 + used;) {
    const uint32_t head = U32(payload, at, 1);
    records[std::string(reinterpret_cast<char*>(payload.data()) + at + 5, head & 127)] = {
        U32(payload, at + 1, 2), U32(payload, at + 3, 2) + (head & 128) * 1000};
    at += 5 + (head & 127);
  }
  // Scores of the small vocabulary, in their order: 0, -1, -2, -3, -5, -6, -7.
  const std::map<std::string, std::pair<TokenId, uint32_t>> expected = {
      {" ", {259, 4}}, {"a", {260, 5}}, {"b", {261, 6}}, {"ab", {262, 1}}, {" ab", {263, 2}}, {"abab", {265, 128003}}};
  EXPECT_EQ(records, expected);
  // The same on every target.
  EXPECT_EQ(tests::ChecksumOf(payload), 3164008251u);
}

TEST(TokenizerImageTest, ADamagedPageIsNeverTakenForTheTruth) {
  const TokenizerFile file(Small());
  const LoadedTokenizer expected(file);
  const std::vector<std::string> texts = {" ab abab ba", "\xFFx\xC3\xA9"};
  const Answers answers(expected, texts);
  const ImageFile good(file.ref, expected.tokenizer());
  std::mt19937 random(4);
  size_t loaded_pages = 0;
  for (size_t page = 0; page < good.image.bytes / 512; ++page) {
    ImageFile bad = good;
    bad.image_bytes()[page * 512 + random() % 512] ^= std::byte(1u << random() % 8);
    const LoadedImage loaded(bad);
    if (loaded.result()) {
      ++loaded_pages;
      ExpectSameAnswers(answers, loaded.tokenizer());
    } else {
      EXPECT_EQ(loaded.result().error().code, Code::kCorrupt);
      EXPECT_EQ(loaded.result().error().offset, bad.image.offset + page * 512);
      EXPECT_THAT(Sentence(loaded.result().error()), HasSubstr("thimble prepare"));
      EXPECT_EQ(loaded.arena().used_bytes(), 0u);
    }
    const OpenedImage opened(bad, {.cache_pages = 2});
    EXPECT_EQ(opened.result().has_value(), page != 0);
    if (!opened.result()) continue;
    const Tokenizer& t = opened.tokenizer();
    bool failed = false;
    const auto take_status = [&] {
      const Result<void> status = t.TakeStatus();
      failed |= !status;
      if (status) return true;
      EXPECT_EQ(status.error().offset, bad.image.offset + page * 512);
      return false;
    };
    for (TokenId id = 0; id < t.size(); ++id) {
      const std::string piece(t.Piece(id));
      if (take_status()) {
        EXPECT_EQ(piece, expected.tokenizer().Piece(id));
      }
      const TokenType type = t.Type(id);
      if (take_status()) {
        EXPECT_EQ(type, expected.tokenizer().Type(id));
      }
    }
    for (size_t i = 0; i < texts.size(); ++i) {
      std::vector<std::byte> workspace(static_cast<size_t>(Tokenizer::WorkspaceBytes(texts[i].size())));
      std::vector<TokenId> ids(100);
      const Result<size_t> n = t.Encode(texts[i], true, ids, workspace);
      failed |= !n;
      if (!n) {
        EXPECT_EQ(n.error().code, Code::kCorrupt);
        continue;
      }
      ids.resize(*n);
      EXPECT_EQ(ids, answers.ids[i]);
    }
    EXPECT_TRUE(failed || loaded.result().has_value() == false) << page;
  }
  EXPECT_GT(loaded_pages, 0u);
}

TEST(TokenizerImageTest, RefusesWhatIsNotOfThisModel) {
  const TokenizerFile file(Small());
  const LoadedTokenizer t(file);
  const ImageFile good(file.ref, t.tokenizer());
  using Change = std::function<void(ImageFile&)>;
  const std::pair<Change, const char*> kChanges[] = {
      {[](auto& f) { ++f.ref.num_tokens; }, "another model's"},
      {[](auto& f) { ++f.ref.tokens_bytes; }, "another model's"},
      {[](auto& f) { ++f.ref.longest_token_bytes; }, "another model's"},
      {[](auto& f) { f.ref.bos = 5; }, "another model's"},
      {[](auto& f) { f.ref.eos = 5; }, "another model's"},
      {[](auto& f) { f.ref.unk = 5; }, "damaged"},
      {[](auto& f) { f.ref.add_bos = !f.ref.add_bos; }, "another model's"},
      {[](auto& f) { f.ref.add_space_prefix = !f.ref.add_space_prefix; }, "another model's"},
      {[](auto& f) { f.ref.layout = formats::TokenizerLayout::kLlama2c; }, "another model's"},
      {[](auto& f) { f.image_bytes()[4] = std::byte{2}; }, "another version"},
      {[](auto& f) { f.image_bytes()[0] = std::byte{'t'}; }, "another version"},
      {[](auto& f) { f.image.bytes += 512; }, "damaged"},
      {[](auto& f) { f.image.bytes -= 512; }, "damaged"},
      {[](auto& f) { f.image.bytes = 0; }, "damaged"},
      {[](auto& f) { f.image.bytes = ~uint64_t{0}; }, "damaged"},
      {[](auto& f) { f.bytes.resize(f.bytes.size() - 200); }, "damaged"},
  };
  for (const auto& [change, sentence] : kChanges) {
    ImageFile bad = good;
    change(bad);
    if (bad.bytes.size() == good.bytes.size() && bad.image.bytes == good.image.bytes) bad.FixChecksums();
    const auto check = [&, part = sentence](const Result<Tokenizer>& result) {
      ASSERT_FALSE(result.has_value()) << part;
      EXPECT_EQ(result.error().code, Code::kCorrupt);
      EXPECT_THAT(Sentence(result.error()), HasSubstr(part));
      EXPECT_THAT(Sentence(result.error()), HasSubstr("thimble prepare"));
    };
    check(LoadedImage(bad).result());
    check(OpenedImage(bad).result());
  }
  ImageFile odd = good;
  odd.image.offset += 4;
  EXPECT_FALSE(OpenedImage(odd).result());
  EXPECT_FALSE(LoadedImage(odd).result());
}

// Right checksums, wrong contents: refused, or some answer within the vocabulary.
TEST(TokenizerImageTest, SurvivesNonsense) {
  std::mt19937 random(5);
  size_t num_loaded = 0, num_opened = 0, num_failed = 0;
  constexpr int kRounds = 1000;
  for (int round = 0; round < kRounds; ++round) {
    const TestVocabulary vocabulary = round % 10 == 0 ? RandomVocabulary(random) : Small();
    const TokenizerFile file(vocabulary);
    const LoadedTokenizer original(file);
    ImageFile image(file.ref, original.tokenizer());
    for (size_t n = 1 + random() % 6; n != 0; --n) {
      const bool in_header = random() % 4 == 0;
      image.image_bytes()[random() % (in_header ? 104 : image.image_bytes().size())] =
          std::byte(random() % 3 == 0 ? 255 : random());
    }
    image.FixChecksums();
    const LoadedImage loaded(image);
    const OpenedImage opened(image, {.cache_pages = 1 + static_cast<uint32_t>(random() % 4)});
    const std::string texts[] = {"ab b \xFF <s> zzz ababab babab", RandomText(random, vocabulary, 5)};
    const auto check = [&](const Tokenizer& t) {
      for (TokenId id = 0; id < t.size(); ++id) {
        EXPECT_LE(t.Piece(id).size(), file.ref.longest_token_bytes);
        t.Type(id);
        num_failed += !t.TakeStatus();
      }
      for (const std::string& text : texts) {
        std::vector<std::byte> workspace(static_cast<size_t>(Tokenizer::WorkspaceBytes(text.size())));
        std::vector<TokenId> ids(3 * text.size() + 4);
        const Result<size_t> n = t.Encode(text, true, ids, workspace);
        num_failed += !n;
        ids.resize(n.value_or(0));
        for (TokenId id : ids) EXPECT_LT(id, t.size());
        tests::Decode(t, file.ref, ids);
        num_failed += !t.TakeStatus();
      }
    };
    num_loaded += loaded.result().has_value();
    num_opened += opened.result().has_value();
    if (loaded.result()) check(loaded.tokenizer());
    if (opened.result()) check(opened.tokenizer());
  }
  EXPECT_GT(num_loaded, 0u);
  EXPECT_LT(num_loaded, num_opened);
  EXPECT_LT(num_opened, size_t{kRounds});
  EXPECT_GT(num_failed, 0u);
}

TEST(TokenizerImageTest, ReadErrorsAreKeptUntilTheyAreTaken) {
  const TokenizerFile file(Small());
  const LoadedTokenizer t(file);
  const ImageFile image(file.ref, t.tokenizer());
  OpenedImage opened(image);
  ASSERT_TRUE(opened.result());
  const Tokenizer& card = opened.tokenizer();
  // As often as a read is tried before it fails.
  const auto break_one_read = [&] {
    opened.faulty_device().Add({.first_read = opened.faulty_device().starts(), .times = storage::kReadRetries + 2});
  };
  break_one_read();
  EXPECT_EQ(card.Piece(263), "");
  const uint64_t starts = opened.faulty_device().starts();
  EXPECT_EQ(card.Piece(262), "");
  EXPECT_EQ(card.Type(262), TokenType::kNormal);
  EXPECT_EQ(opened.faulty_device().starts(), starts);
  const Tokenizer copy = card;
  const Result<void> status = copy.TakeStatus();
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::kIo);
  EXPECT_TRUE(card.TakeStatus());
  EXPECT_EQ(card.Piece(263), " ab");

  std::vector<std::byte> workspace(static_cast<size_t>(Tokenizer::WorkspaceBytes(2)));
  std::vector<TokenId> ids(10);
  break_one_read();
  const Result<size_t> failed = card.Encode("ab", false, ids, workspace);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, Code::kIo);
  EXPECT_TRUE(card.TakeStatus());
  EXPECT_EQ(card.Encode("ab", false, ids, workspace).value(), 1u);
  EXPECT_EQ(ids[0], 263u);

  break_one_read();
  EXPECT_EQ(card.Piece(100), "");
  EXPECT_EQ(card.Encode("ab", false, ids, workspace).error().code, Code::kIo);  // what Piece() met
  EXPECT_TRUE(card.Encode("ab", false, ids, workspace));
}

// Of a text four times as long, four times as much is looked up: in one word and in many, whole and in stretches.
TEST(TokenizerImageTest, WorkGrowsAsTheText) {
  const TokenizerFile file(Small());
  const LoadedTokenizer t(file);
  const ImageFile image(file.ref, t.tokenizer());
  OpenedImage opened(image, {.cache_pages = 1});
  ASSERT_TRUE(opened.result());
  for (const std::string part : {"ab", "a b ", "-", " ", "\xC3\xA9"}) {
    for (const uint64_t stretch_bytes : {uint64_t{200}, uint64_t{16'000}}) {
      const auto reads = [&](size_t bytes) {
        std::string text;
        while (text.size() < bytes) text += part;
        const uint64_t before = opened.faulty_device().starts();
        EXPECT_EQ(tests::EncodeInStretches(opened.tokenizer(), text, stretch_bytes), t.Encode(text));
        return opened.faulty_device().starts() - before;
      };
      // The first of all reads brings a page that both need.
      EXPECT_LE(reads(16'000), 5 * reads(4'000) + 1) << part << " " << stretch_bytes;
    }
  }
}

TEST(TokenizerImageTest, RefusesCachesThatDoNotDo) {
  const TokenizerFile file(Small());
  const LoadedTokenizer t(file);
  const ImageFile image(file.ref, t.tokenizer());
  EXPECT_EQ(Tokenizer::CacheBytes(file.ref, 512, 1), 512u + 384 + 16 + 16);
  EXPECT_EQ(Tokenizer::CacheBytes(file.ref, 4096, 3), 3 * 4096u + 384 + 32 + 16);
  const OpenedImage small(image, {.cache_bytes = Tokenizer::CacheBytes(file.ref, 512, 1) - 1});
  ASSERT_FALSE(small.result());
  EXPECT_EQ(small.result().error().code, Code::kInvalidArgument);
  EXPECT_EQ(small.result().error().need, Tokenizer::CacheBytes(file.ref, 512, 1));
  // More than the image has pages, and sizes between.
  for (uint64_t bytes : {2000u, 2001u, 2007u, 100'000u})
    EXPECT_TRUE(OpenedImage(image, {.cache_bytes = bytes}).result());

  tests::AlignedMemory memory(4096);
  host::RamDevice device(image.bytes);
  const storage::Extent extent{.size_bytes = image.bytes.size()};
  Ledger ledger;
  storage::FileReader reader(device, {.extents = {&extent, 1}, .size_bytes = image.bytes.size()}, ledger);
  const auto odd =
      Tokenizer::OpenImage(file.ref, reader, image.image, math::BestKernels().xxh32_stripes, memory.span().subspan(8));
  EXPECT_EQ(odd.error().code, Code::kInvalidArgument);
  EXPECT_TRUE(device.reads().empty());
}

}  // namespace
}  // namespace thimble::text

// The tokenizer against libsentencepiece.
#include <gtest/gtest.h>
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/test_vocabulary.h"

namespace thimble::text {
namespace {

using tests::LoadedTokenizer;
using tests::TestPiece;
using tests::TestVocabulary;

constexpr const char* kSpace = "\xE2\x96\x81";

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::filesystem::path RealModels() {
  const char* folder = std::getenv("THIMBLE_REAL_MODELS");
  return folder == nullptr ? std::filesystem::path() : std::filesystem::path(folder);
}

// Both tokenizers of one vocabulary.
struct Pair {
  explicit Pair(const std::string& model) : Pair(model, tests::ParseModelProto(model)) {}
  explicit Pair(const TestVocabulary& v) : Pair(tests::SerializeModelProto(v), v) {}
  Pair(const std::string& model, TestVocabulary v) : vocabulary(std::move(v)), ours(vocabulary) {
    const auto status = theirs.LoadFromSerializedProto(model);
    EXPECT_TRUE(status.ok()) << status.ToString();
    EXPECT_TRUE(ours.result().has_value());
  }

  std::vector<TokenId> Expected(std::string_view text) const {
    std::vector<int> ids;
    EXPECT_TRUE(theirs.Encode(text, &ids).ok());
    return {ids.begin(), ids.end()};
  }

  TestVocabulary vocabulary;
  LoadedTokenizer ours;
  sentencepiece::SentencePieceProcessor theirs;
};

std::string Escaped(std::string_view text) {
  std::string out;
  for (char c : text) {
    char hex[8];
    std::snprintf(hex, sizeof(hex), "\\x%02x", static_cast<uint8_t>(c));
    out += c >= 0x20 && c < 0x7f && c != '\\' ? std::string(1, c) : hex;
  }
  return out;
}

void AppendUtf8(std::string& out, char32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | c >> 6);
    out += static_cast<char>(0x80 | (c & 63));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | c >> 12);
    out += static_cast<char>(0x80 | (c >> 6 & 63));
    out += static_cast<char>(0x80 | (c & 63));
  } else {
    out += static_cast<char>(0xF0 | c >> 18);
    out += static_cast<char>(0x80 | (c >> 12 & 63));
    out += static_cast<char>(0x80 | (c >> 6 & 63));
    out += static_cast<char>(0x80 | (c & 63));
  }
}

// Texts that mix what a tokenizer can trip over.
class RandomText {
 public:
  RandomText(const TestVocabulary& vocabulary, uint32_t seed) : vocabulary_(vocabulary), random_(seed) {}

  // `valid`: only well-formed UTF-8.
  std::string Next(bool valid) {
    std::string text;
    for (size_t parts = Below(20); parts != 0; --parts) AppendPart(text, valid);
    return text;
  }

 private:
  size_t Below(size_t n) { return random_() % n; }

  void AppendPart(std::string& text, bool valid) {
    static constexpr std::pair<char32_t, char32_t> kScripts[] = {
        {'a', 'z'},       {'A', 'Z'},         {'0', '9'},         {'!', '/'},       {0xC0, 0x17F},
        {0x370, 0x3FF},   {0x400, 0x45F},     {0x5D0, 0x5EA},     {0x621, 0x64A},   {0x905, 0x939},
        {0xE01, 0xE30},   {0x3041, 0x3096},   {0x30A1, 0x30FA},   {0x4E00, 0x9FFF}, {0xAC00, 0xD7A3},
        {0x300, 0x36F},   {0x1F300, 0x1F64F}, {0x1F1E6, 0x1F1FF}, {0x200B, 0x200F}, {0xFE00, 0xFE0F},
        {0x0, 0x1F},      {0x7F, 0xA0},       {0xE000, 0xE010},   {0xFFF0, 0xFFFF}, {0x10FFF0, 0x10FFFF},
        {0xD7F0, 0xD7FF}, {0x2580, 0x2582},   {0x20000, 0x20100},
    };
    static constexpr const char* kOddities[] = {
        "\xE2\x96\x81",
        "\xEF\xBF\xBD",
        "<s>",
        "</s>",
        "<unk>",
        "<0x0A>",
        "<0xE2>",
        " \xE2\x96\x81 ",
        "\t",
        "\n",
        "\r\n",
        "\xE2\x81\x87",
        "\xEF\xBB\xBF",
        "\xC2\xA0",
        "\xE3\x80\x80",
        "the",
        " and",
        "ing ",
        "Once upon a time",
        "1234.5",
        "e\xCC\x81",
        "\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA7",
    };
    static constexpr std::string_view kIllFormed[] = {
        "\x80",
        "\xBF",
        "\xC0\x80",
        "\xC1\xBF",
        "\xC3",
        "\xE0\x80\x80",
        "\xE0\x9F\xBF",
        "\xE2\x96",
        "\xE2",
        "\xED\xA0\x80",
        "\xED\xBF\xBF",
        "\xF0\x80\x80\x80",
        "\xF0\x9F\x98",
        "\xF4\x90\x80\x80",
        "\xF5\x80\x80\x80",
        "\xF8\x88\x80\x80\x80",
        "\xFE",
        "\xFF",
        "\xEF\xBF",
        "\xFF\xFF\xFF",
    };
    switch (Below(10)) {
      case 0:
        text += std::string(1 + Below(20), ' ');
        break;
      case 1:
        text += kOddities[Below(std::size(kOddities))];
        break;
      case 2:
        if (valid) {
          text.push_back('\0');
        } else if (Below(2) == 0) {
          text += kIllFormed[Below(std::size(kIllFormed))];
        } else {
          for (size_t n = 1 + Below(4); n != 0; --n) text += static_cast<char>(random_());
        }
        break;
      case 3:
      case 4:
      case 5: {
        const std::string& piece = vocabulary_.pieces[Below(vocabulary_.pieces.size())].piece;
        text += piece.substr(0, valid ? piece.npos : 1 + Below(piece.size() + 4));
        break;
      }
      case 6: {
        const std::string& piece = vocabulary_.pieces[Below(vocabulary_.pieces.size())].piece;
        for (size_t n = 2 + Below(6); n != 0; --n) text += piece;
        break;
      }
      default: {
        const auto [first, last] = kScripts[Below(std::size(kScripts))];
        for (size_t n = 1 + Below(12); n != 0; --n) {
          if (Below(5) == 0) text += ' ';
          AppendUtf8(text, first + static_cast<char32_t>(Below(last - first + 1)));
        }
      }
    }
  }

  const TestVocabulary& vocabulary_;
  std::mt19937 random_;
};

// Whole, and in stretches as short as they may be and longer, if they can be divided so: of a few characters, many
// cannot. Adds to `undivided` those that cannot.
void ExpectSameIds(const Pair& pair, std::string_view text, int* undivided = nullptr) {
  const std::vector<TokenId> expected = pair.Expected(text);
  ASSERT_EQ(pair.ours.Encode(text), expected) << '"' << Escaped(text) << '"';
  for (const uint64_t stretch_bytes : {uint64_t{Tokenizer::kLeastStretchBytes}, 17 + text.size() % 50}) {
    if (stretch_bytes >= text.size()) continue;
    const auto ids = tests::EncodeInStretches(pair.ours.tokenizer(), text, stretch_bytes);
    if (ids) {
      ASSERT_EQ(*ids, expected) << '"' << Escaped(text) << "\" in stretches of " << stretch_bytes;
    } else if (undivided != nullptr) {
      ++*undivided;
    }
  }
}

// A long text, in stretches of a few of the longest pieces.
void ExpectSameIdsInStretches(const Pair& pair, std::string_view text) {
  const std::vector<TokenId> expected = pair.Expected(text);
  for (const uint64_t pieces : {3, 4, 20}) {
    const uint64_t stretch_bytes = std::max<uint64_t>(pieces * pair.ours.ref().longest_token_bytes, 16);
    const auto ids = tests::EncodeInStretches(pair.ours.tokenizer(), text, stretch_bytes);
    ASSERT_TRUE(ids.has_value()) << stretch_bytes;
    ASSERT_EQ(*ids, expected) << stretch_bytes;
  }
}

std::string Repeated(std::string_view part, size_t bytes) {
  std::string text;
  while (text.size() < bytes) text += part;
  return text;
}

void ExpectSameIdsForLongTexts(const Pair& pair, uint32_t seed) {
  constexpr size_t kBytes = 12'000;
  // Spaces alone, which are one word; rules; words without end.
  for (const char* part :
       {" ", "-", "=", "a", "ab", "the", "\xE0\xA4\xA8\xE0\xA4\xAE\xE0\xA4\xB8\xE0\xA5\x8D\xE0\xA4\xA4\xE0\xA5\x87",
        "\xE4\xB8\xAD\xE6\x96\x87", "\xFF", "\xE2\x96\x81", "\xF0\x9F\x98\x80", "-- ",
        "antidisestablishmentarianism"}) {
    ExpectSameIdsInStretches(pair, Repeated(part, kBytes));
    if (testing::Test::HasFatalFailure()) return;
  }
  RandomText texts(pair.vocabulary, seed);
  for (const bool with_spaces : {true, false}) {
    std::string text;
    while (text.size() < kBytes) text += texts.Next(false);
    if (!with_spaces) std::erase(text, ' ');
    ExpectSameIdsInStretches(pair, text);
    if (testing::Test::HasFatalFailure()) return;
  }
}

void ExpectSameIdsForRandomTexts(const Pair& pair, uint32_t seed, int n) {
  RandomText texts(pair.vocabulary, seed);
  for (int i = 0; i < n; ++i) {
    ExpectSameIds(pair, texts.Next(i % 2 == 0));
    if (testing::Test::HasFatalFailure()) return;
  }
}

// decode(encode(text)) is the text, and is what libsentencepiece decodes.
void ExpectRoundTrips(const Pair& pair, uint32_t seed, int n) {
  RandomText texts(pair.vocabulary, seed);
  for (int i = 0; i < n; ++i) {
    std::string text = texts.Next(true);
    const std::vector<TokenId> ids = pair.ours.Encode(text);
    std::string decoded;
    ASSERT_TRUE(pair.theirs.Decode(std::vector<int>(ids.begin(), ids.end()), &decoded).ok());
    ASSERT_EQ(pair.ours.Decode(ids), decoded) << '"' << Escaped(text) << '"';
    // A literal U+2581 is a space.
    for (size_t at = 0; (at = text.find("\xE2\x96\x81", at)) != text.npos; ++at) text.replace(at, 3, " ");
    ASSERT_EQ(pair.ours.Decode(ids), text) << '"' << Escaped(text) << '"';
  }
}

TEST(TokenizerSentencePieceTest, RealLlama2) {
  const auto folder = RealModels();
  if (folder.empty()) GTEST_SKIP() << "THIMBLE_REAL_MODELS is not set";
  const Pair pair(ReadFile(folder / "tokenizer-llama2-32000/tokenizer.model"));
  ASSERT_EQ(pair.vocabulary.pieces.size(), 32000u);
  ExpectSameIdsForRandomTexts(pair, 1, 10000);
  ExpectSameIdsForLongTexts(pair, 12);
  ExpectRoundTrips(pair, 2, 2000);
}

TEST(TokenizerSentencePieceTest, BundledModel) {
  const Pair pair(ReadFile(THIMBLE_BUNDLED_MODEL "/tokenizer.model"));
  ASSERT_GE(pair.vocabulary.pieces.size(), 1000u);
  ExpectSameIdsForRandomTexts(pair, 3, 10000);
  ExpectSameIdsForLongTexts(pair, 13);
  ExpectRoundTrips(pair, 4, 2000);
}

// Sentences of made-up words, the frequent ones short.
class Sentences : public sentencepiece::SentenceIterator {
 public:
  explicit Sentences(uint32_t seed) : random_(seed) { Next(); }
  bool done() const override { return num_made_ > 3000; }
  void Next() override {
    ++num_made_;
    sentence_.clear();
    for (int words = 0; words < 12; ++words) {
      std::mt19937 word(1 + random_() % (1 + random_() % 3000));
      if (words != 0) sentence_ += word() % 40 == 0 ? "  " : " ";
      for (uint32_t n = 1 + word() % 4; n != 0; --n) {
        static constexpr const char* kSyllables[] = {
            "ba",       "ko",           "th",           "e",  "ing", "str", "u",
            "a",        "lo",           "mi",           "ne", "r",   "qu",  "\xC3\xA9",
            "\xD0\xB6", "\xD0\xB0",     "wa",           "un", "de",  "sh",  "12",
            "7",        "\xE4\xB8\xAD", "\xE6\x96\x87", "-",  "...", "!",   ", "};
        sentence_ += kSyllables[word() % std::size(kSyllables)];
      }
    }
  }
  const std::string& value() const override { return sentence_; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  std::mt19937 random_;
  int num_made_ = 0;
  std::string sentence_;
};

std::string Train(const std::string& options) {
  Sentences sentences(7);
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(
      "--model_type=bpe --normalization_rule_name=identity --remove_extra_whitespaces=false "
      "--character_coverage=0.999 --minloglevel=2 " +
          options,
      &sentences, &model);
  EXPECT_TRUE(status.ok()) << status.ToString();
  return model;
}

TEST(TokenizerSentencePieceTest, TrainedWithByteFallback) {
  const Pair pair(Train("--vocab_size=1200 --byte_fallback=true --allow_whitespace_only_pieces=true"));
  ExpectSameIdsForRandomTexts(pair, 5, 5000);
  ExpectSameIdsForLongTexts(pair, 14);
  ExpectRoundTrips(pair, 6, 2000);
}

TEST(TokenizerSentencePieceTest, TrainedWithUserDefinedPiecesAndNoByteFallback) {
  const std::string model = Train(
      "--vocab_size=900 --user_defined_symbols=<sep>,ba,bako,kothe,\xE2\x96\x81the,\xE4\xB8\xAD "
      "--add_dummy_prefix=false");
  TestVocabulary vocabulary = tests::ParseModelProto(model);
  ExpectSameIdsForRandomTexts(Pair(model), 8, 5000);
  // Every third piece that merges make is no longer used.
  std::mt19937 random(9);
  for (TestPiece& piece : vocabulary.pieces) {
    if (piece.type == TokenType::kNormal && random() % 3 == 0) piece.type = TokenType::kUnused;
  }
  vocabulary.add_space_prefix = true;
  const Pair pair(vocabulary);
  ExpectSameIdsForRandomTexts(pair, 10, 5000);
  ExpectSameIdsForLongTexts(pair, 15);
}

// Vocabularies that no trainer makes: pieces without parts, equal scores, parts of pieces that are unused or
// user-defined, characters that are missing. Of few characters, so that everything meets everything.
TEST(TokenizerSentencePieceTest, RandomVocabularies) {
  static constexpr const char* kCharacters[] = {
      "a", "b", "\xE2\x96\x81", "\xC3\xA9", "\xEF\xBF\xBD", "c", "\xF0\x9F\x98\x80"};
  static constexpr const char* kInText[] = {
      "a", "b", " ", "\xC3\xA9", "\xEF\xBF\xBD", "c", "\xF0\x9F\x98\x80", "\xE2\x96\x81", "\xFF", "\xC3", "<s>"};
  std::mt19937 random(11);
  int undivided = 0;
  const auto below = [&](size_t n) { return random() % n; };
  for (int round = 0; round < 2000; ++round) {
    TestVocabulary vocabulary;
    vocabulary.AddSpecial(below(2) == 0);
    vocabulary.add_space_prefix = below(2) == 0;
    const size_t num_characters = 1 + below(std::size(kCharacters));
    const size_t num_scores = 1 + below(30);
    const size_t max_length = 2 + below(9);
    const bool with_user_defined = below(2) == 0;
    const bool with_unused = below(2) == 0;
    const bool spaces_only_first = below(3) == 0;
    std::set<std::string> seen;
    for (size_t n = below(80); n != 0; --n) {
      std::string piece;
      for (size_t length = 1 + below(max_length); length != 0; --length) {
        const std::string_view c = kCharacters[below(num_characters)];
        if (spaces_only_first && c == kSpace && !piece.empty() && !piece.ends_with(kSpace)) continue;
        piece += c;
      }
      if (!seen.insert(piece).second) continue;
      const TokenType type = with_user_defined && below(12) == 0 ? TokenType::kUserDefined
                             : with_unused && below(3) == 0      ? TokenType::kUnused
                                                                 : TokenType::kNormal;
      vocabulary.Add(piece, -static_cast<float>(below(num_scores)), type);
    }
    const Pair pair(vocabulary);
    for (int i = 0; i < 30; ++i) {
      std::string text;
      for (size_t n = below(60); n != 0; --n) text += kInText[below(below(2) == 0 ? 3 : std::size(kInText))];
      ExpectSameIds(pair, text, &undivided);
      if (HasFatalFailure()) return;
    }
  }
  EXPECT_LT(undivided, 6000);
}

TEST(TokenizerSentencePieceTest, EveryShortByteString) {
  TestVocabulary vocabulary;
  vocabulary.AddSpecial(true);
  vocabulary.Add("\xEF\xBF\xBD\xEF\xBF\xBD", -1);
  const Pair pair(vocabulary);
  for (unsigned bytes = 0; bytes < 0x10000; ++bytes) {
    const char text[2] = {static_cast<char>(bytes >> 8), static_cast<char>(bytes)};
    ExpectSameIds(pair, std::string_view(text, 2));
    if (HasFatalFailure()) return;
  }
  // All leads with second bytes at the ends of the ranges, and good bytes after them.
  for (unsigned lead = 0xE0; lead < 0x100; ++lead) {
    for (const unsigned second : {0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0}) {
      const char text[4] = {static_cast<char>(lead), static_cast<char>(second), '\x80', '\xBF'};
      ExpectSameIds(pair, std::string_view(text, 3));
      ExpectSameIds(pair, std::string_view(text, 4));
      if (HasFatalFailure()) return;
    }
  }
}

}  // namespace
}  // namespace thimble::text

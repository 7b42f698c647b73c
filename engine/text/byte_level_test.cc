// Byte-level BPE: vocabularies of real models, and made ones against the algorithm written plainly.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
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
#include "engine/text/detokenizer.h"
#include "engine/text/tokenizer.h"
#include "engine/text/utf8.h"
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

// What merges make of a text, as llama.cpp and tokenizers do it: of all pairs in the list the first, the leftmost of
// these, again and again.
std::vector<TokenId> SlowEncode(const ByteLevelVocabulary& vocabulary, std::string_view text) {
  std::map<std::string, TokenId> ids;
  for (size_t i = vocabulary.tokens.size(); i-- != 0;) {
    if (vocabulary.types[i] == TokenType::kNormal) ids[vocabulary.tokens[i]] = static_cast<TokenId>(i);
  }
  std::map<std::string, size_t> ranks;
  for (size_t i = 0; i < vocabulary.merges.size(); ++i) ranks.emplace(vocabulary.merges[i], i);
  std::vector<TokenId> out;
  for (const std::string& word : Words(vocabulary.pre, text)) {
    if (IgnoresMerges(vocabulary.pre) && ids.contains(Letters(word))) {
      out.push_back(ids[Letters(word)]);
      continue;
    }
    std::vector<std::string> symbols;
    for (const char byte : word) symbols.push_back(tests::LetterOf(static_cast<uint8_t>(byte)));
    for (;;) {
      size_t best = symbols.size();
      size_t best_rank = vocabulary.merges.size();
      for (size_t i = 0; i + 1 < symbols.size(); ++i) {
        const auto rank = ranks.find(symbols[i] + " " + symbols[i + 1]);
        if (rank == ranks.end() || rank->second >= best_rank) continue;
        best = i;
        best_rank = rank->second;
      }
      if (best == symbols.size()) break;
      symbols[best] += symbols[best + 1];
      symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(best) + 1);
    }
    for (const std::string& symbol : symbols) {
      if (ids.contains(symbol)) out.push_back(ids[symbol]);
    }
  }
  return out;
}

// Pieces of a few letters, made by merges in an order that training may give or not.
ByteLevelVocabulary RandomVocabulary(std::mt19937& random) {
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  ByteLevelVocabulary vocabulary;
  vocabulary.pre = below(3) == 0 ? PreTokenizer::kLlamaBpe : PreTokenizer::kGpt2;
  vocabulary.AddBytes();
  std::vector<std::string> pieces = {"a", "b", "c", Letters(" "), Letters("\xC3"), Letters("\xA9")};
  std::vector<std::string> merges;
  for (size_t n = 3 + below(12); n != 0; --n) {
    const std::string left = pieces[below(pieces.size())];
    const std::string right = pieces[below(pieces.size())];
    const std::string merge = left + " " + right;
    if (std::find(merges.begin(), merges.end(), merge) != merges.end()) continue;
    if (below(6) != 0) merges.push_back(merge);
    if (std::find(vocabulary.tokens.begin(), vocabulary.tokens.end(), left + right) != vocabulary.tokens.end())
      continue;
    vocabulary.Add(left + right);
    pieces.push_back(left + right);
  }
  if (below(2) == 0) std::shuffle(merges.begin(), merges.end(), random);
  vocabulary.merges = merges;
  return vocabulary;
}

std::string RandomText(std::mt19937& random) {
  static constexpr std::string_view kParts[] = {"a", "b", "c", "a", "b", " ", "\u00E9", "\xC3", "1", "!"};
  std::string text;
  for (size_t n = random() % 40; n != 0; --n) text += kParts[random() % std::size(kParts)];
  return text;
}

// Each byte that is no part of a character as U+FFFD.
std::string Mended(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const Utf8Step step = NextUtf8(text);
    const bool whole = step.kind == Utf8::kWhole;
    out += whole ? text.substr(0, step.bytes) : kReplacementCharacter;
    text.remove_prefix(whole ? step.bytes : 1);
  }
  return out;
}

TEST(ByteLevelTest, EqualsTheSlowAlgorithm) {
  std::mt19937 random(7);
  int loads = 0, refused = 0, unused = 0, divided = 0;
  for (int i = 0; i < 400; ++i) {
    const ByteLevelVocabulary vocabulary = RandomVocabulary(random);
    const LoadedTokenizer loaded(vocabulary);
    if (!loaded.result()) {
      // What comes far from others that make the same.
      EXPECT_EQ(loaded.result().error().code, Code::kUnsupported) << tests::Sentence(loaded.result().error());
      EXPECT_THAT(tests::Sentence(loaded.result().error()), HasSubstr("far before it"));
      ++refused;
      continue;
    }
    ++loads;
    for (TokenId id = 256; id < loaded.tokenizer().size(); ++id) {
      unused += loaded.tokenizer().Type(id) == TokenType::kUnused ? 1 : 0;
    }
    const tests::ImageFile image(loaded.ref(), loaded.tokenizer());
    const tests::LoadedImage from_image(image);
    const tests::OpenedImage on_card(image);
    ASSERT_TRUE(from_image.result() && on_card.result());
    for (int j = 0; j < 6; ++j) {
      const std::string text = RandomText(random);
      const std::vector<TokenId> expected = SlowEncode(vocabulary, Mended(text));
      ASSERT_EQ(loaded.Encode(text), expected) << text;
      ASSERT_EQ(tests::Encode(from_image.tokenizer(), text), expected) << text;
      ASSERT_EQ(tests::Encode(on_card.tokenizer(), text), expected) << text;
      ASSERT_EQ(loaded.Decode(expected), Mended(text));
      if (const auto ids = tests::EncodeInStretches(loaded.tokenizer(), text, Tokenizer::kLeastStretchBytes)) {
        ASSERT_EQ(*ids, expected) << text;
        ++divided;
      }
    }
  }
  EXPECT_EQ(loads + refused, 400);
  EXPECT_GT(loads, 300);
  EXPECT_GT(unused, 100);
  EXPECT_GT(divided, 1000);
}

// Words that no workspace holds: in stretches that end anywhere, in the middle of a character too.
TEST(ByteLevelTest, LongWordsInStretches) {
  ByteLevelVocabulary vocabulary;
  vocabulary.AddBytes();
  for (const auto& [left, right] : {std::pair("\xC3", "\xA9"), std::pair("a", "b"), std::pair("\xA9", "a"),
                                    std::pair("ab", "c"), std::pair("\xF0\x9F", "\x98"), std::pair("c", "\xF0")}) {
    if (std::string_view(left) == "\xF0\x9F") vocabulary.AddMerge(Letters("\xF0"), Letters("\x9F"));
    vocabulary.AddMerge(Letters(left), Letters(right));
  }
  const LoadedTokenizer loaded(vocabulary);
  ASSERT_TRUE(loaded.result()) << tests::Sentence(loaded.result().error());
  std::mt19937 random(3);
  static constexpr std::string_view kParts[] = {"a", "b", "c", "\u00E9", "\U0001F600", "\xC3", "\xF0\x9F", "abc"};
  for (int i = 0; i < 20; ++i) {
    std::string text;
    while (text.size() < 600) text += kParts[random() % (i % 2 == 0 ? 4 : std::size(kParts))];
    const std::vector<TokenId> whole = SlowEncode(vocabulary, Mended(text));
    EXPECT_EQ(loaded.Encode(text), whole);
    for (const uint64_t bytes : {16, 17, 30, 100}) {
      const auto ids = tests::EncodeInStretches(loaded.tokenizer(), text, bytes);
      ASSERT_TRUE(ids.has_value()) << bytes;
      EXPECT_EQ(*ids, whole) << bytes;
    }
  }
}

TEST(ByteLevelTest, UserDefinedPiecesAreFoundBeforeWords) {
  ByteLevelVocabulary vocabulary;
  vocabulary.AddBytes();
  vocabulary.AddMerge("a", "b");
  vocabulary.Add("b  a", TokenType::kUserDefined);              // 257
  vocabulary.Add("b  ab", TokenType::kUserDefined);             // 258
  vocabulary.Add("\u00E9\U0001F600", TokenType::kUserDefined);  // 259: its text, not letters for bytes
  vocabulary.Add("<|end|>", TokenType::kControl);
  const LoadedTokenizer loaded(vocabulary);
  ASSERT_TRUE(loaded.result());
  const auto letter = [](char c) { return static_cast<TokenId>(static_cast<uint8_t>(c)); };
  EXPECT_THAT(loaded.Encode("ab"), ElementsAre(256));
  EXPECT_THAT(loaded.Encode("ab  ab"), ElementsAre(letter('a'), 258));
  EXPECT_THAT(loaded.Encode("b  aab"), ElementsAre(257, 256));
  EXPECT_THAT(loaded.Encode("\u00E9\U0001F600"), ElementsAre(259));
  EXPECT_EQ(loaded.Encode("<|end|>").size(), 7u);
  const std::vector<TokenId> ids = {259, 260, 256, 258};
  EXPECT_EQ(loaded.Decode(ids), "\u00E9\U0001F600abb  ab");
}

TEST(ByteLevelTest, HalvesOfCharactersAreHeldBack) {
  ByteLevelVocabulary vocabulary;
  vocabulary.AddBytes();
  vocabulary.AddMerge(Letters("a"), Letters("\xF0"));
  vocabulary.AddMerge(Letters("\x9F"), Letters("\x98"));
  const LoadedTokenizer loaded(vocabulary);
  ASSERT_TRUE(loaded.result());
  std::vector<char> memory(static_cast<size_t>(Detokenizer::MemoryBytes(loaded.ref())));
  Detokenizer detokenizer(loaded.tokenizer(), true, memory);
  EXPECT_EQ(detokenizer.Push(256), "a");
  EXPECT_EQ(detokenizer.Push(257), "");
  EXPECT_EQ(detokenizer.Push(0x80), "\U0001F600");
  EXPECT_EQ(detokenizer.Push(257), "\uFFFD\uFFFD");
  EXPECT_EQ(detokenizer.Push(0xF0), "");
  EXPECT_EQ(detokenizer.Push('x'), "\uFFFDx");
  EXPECT_EQ(detokenizer.Push(0xFF), "\uFFFD");
}

TEST(ByteLevelTest, BytesThatAreNoTokensAreLeftOut) {
  ByteLevelVocabulary vocabulary;
  vocabulary.Add("a");
  vocabulary.Add(Letters(" "));
  vocabulary.AddMerge(Letters(" "), "a");
  const LoadedTokenizer loaded(vocabulary);
  ASSERT_TRUE(loaded.result()) << tests::Sentence(loaded.result().error());
  EXPECT_THAT(loaded.Encode("ab a\xFF"), ElementsAre(0, 2));
  EXPECT_THAT(loaded.Encode(""), ElementsAre());
}

TEST(ByteLevelTest, Words) {
  EXPECT_THAT(Words(PreTokenizer::kGpt2, "I'll pay $42  for\n\nit's"),
              ElementsAre("I", "'ll", " pay", " $", "42", " ", " for", "\n", "\n", "it", "'s"));
  EXPECT_THAT(Words(PreTokenizer::kSmollm, " x 123"), ElementsAre(" x", " ", "1", "2", "3"));
  EXPECT_THAT(Words(PreTokenizer::kLlamaBpe, "I'LL pay $12345!\r\n \n  x"),
              ElementsAre("I", "'LL", " pay", " $", "123", "45", "!\r\n", " \n", " ", " x"));
  EXPECT_THAT(Words(PreTokenizer::kQwen2, "a12"), ElementsAre("a", "1", "2"));
  EXPECT_THAT(Words(PreTokenizer::kNone, "a b"), ElementsAre("a b"));
  EXPECT_THAT(Words(PreTokenizer::kDeepseekLlm, "ab  \u4E2D\u6587 12 \n"),
              ElementsAre("ab", "  ", "\u4E2D\u6587", " ", "12", " ", "\n"));
  EXPECT_THAT(Words(PreTokenizer::kFalcon, "a1234 (b)"), ElementsAre("a", "123", "4", " ", "(", "b", ")"));
  EXPECT_THAT(Words(PreTokenizer::kGpt2, ""), ElementsAre());
}

// Every text, whatever its bytes, is its words.
TEST(ByteLevelTest, WordsAreTheText) {
  std::mt19937 random(5);
  for (int i = 0; i < 4000; ++i) {
    const auto pre = static_cast<PreTokenizer>(i % formats::kPreTokenizerNames.size());
    std::string text;
    for (size_t n = random() % 60; n != 0; --n) {
      text += i % 2 == 0 ? static_cast<char>(random()) : " \n\tab'sL1\xE4\xB8\x80!"[random() % 13];
    }
    std::string joined;
    for (const std::string& word : Words(pre, text)) joined += word;
    ASSERT_EQ(joined, text);
  }
}

// The time is in proportion to the text, whatever it is made of: in one word, or in many.
TEST(ByteLevelTest, LongTextsOfOneKind) {
  for (const char* part : {" ", "\n", "a", "1", "!", " \n", "\u4E2D", "'", "\t ", "\xFF"}) {
    std::string text;
    while (text.size() < 20000) text += part;
    text += "x";
    for (size_t pre = 1; pre < formats::kPreTokenizerNames.size(); ++pre) {
      WordSplitter splitter(static_cast<PreTokenizer>(pre), text);
      size_t bytes = 0;
      for (std::string_view word = splitter.Next(); !word.empty(); word = splitter.Next()) bytes += word.size();
      EXPECT_EQ(bytes, text.size());
    }
  }
}

std::string LoadingSays(const ByteLevelVocabulary& vocabulary) {
  const LoadedTokenizer loaded(vocabulary);
  EXPECT_EQ(loaded.arena().used_bytes(), loaded.result() ? Tokenizer::TableBytes(loaded.ref()) : 0);
  return loaded.result() ? "" : tests::Sentence(loaded.result().error());
}

TEST(ByteLevelTest, WhatIsRefused) {
  ByteLevelVocabulary good;
  good.AddBytes();
  good.AddMerge("a", "b");
  EXPECT_EQ(LoadingSays(good), "");
  for (const char* merge : {"", " ", "a", "ab", " a b", "a b ", "a  b", "a b c", " ab", "ab ", "\u4E2D a", "\xFF a"}) {
    ByteLevelVocabulary bad = good;
    bad.merges.push_back(merge);
    EXPECT_THAT(LoadingSays(bad), HasSubstr("merge 1 at byte")) << merge;
    EXPECT_THAT(LoadingSays(bad), HasSubstr("is not two tokens with a space between them")) << merge;
  }
  ByteLevelVocabulary bad = good;
  bad.merges.push_back("b a");
  EXPECT_THAT(LoadingSays(bad), HasSubstr("makes a token that is not in the vocabulary"));
  bad.Add("ba", TokenType::kUserDefined);
  EXPECT_EQ(LoadingSays(bad), "");
  bad.types.back() = TokenType::kControl;
  EXPECT_THAT(LoadingSays(bad), HasSubstr("makes a token that is not in the vocabulary"));
  bad = good;
  bad.merges.push_back(std::string(600, 'a') + " " + std::string(600, 'a'));
  EXPECT_THAT(LoadingSays(bad), HasSubstr("of more than 512 bytes"));
  bad = good;
  bad.types[3] = TokenType::kByte;
  EXPECT_THAT(LoadingSays(bad), HasSubstr("token 3 is a byte token"));
  bad = good;
  bad.types[3] = static_cast<TokenType>(7);
  EXPECT_THAT(LoadingSays(bad), HasSubstr("none of 1 to 6"));
  // a b, then c; but b c is tried first and never comes back.
  bad = good;
  bad.AddMerge("ab", "c");
  bad.AddMerge("b", "d");
  bad.merges.push_back("ab c");
  EXPECT_THAT(LoadingSays(bad), HasSubstr("merges far before it make, too"));
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
  // What docs/tokenizer.md says.
  const std::map<std::string, uint64_t> table_bytes = {
      {"gpt-2", 705840}, {"starcoder", 686368}, {"mpt", 709152}, {"deepseek-llm", 2103536}};
  EXPECT_EQ(loaded.arena().used_bytes(), table_bytes.at(name));
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

#include "engine/text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/test_vocabulary.h"

namespace thimble::text {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using tests::kSpace;
using tests::LoadedTokenizer;
using tests::Sentence;
using tests::SmallVocabulary;
using tests::TestPiece;
using tests::TestVocabulary;
using tests::TokenizerFile;

// Ids of AddSpecial().
constexpr TokenId kUnk = 0, kBos = 1, kEos = 2, kFirstByte = 3, kAfterBytes = 259;

// The algorithm as the papers tell it: look at all pairs, merge the best, again. Characters and pieces as strings;
// what merged into an unused piece is remembered by its spelling.
std::vector<TokenId> SlowEncode(const TestVocabulary& vocabulary, std::string_view text) {
  std::map<std::string, TokenId> ids, user_defined, bytes;
  TokenId unk = 0;
  for (size_t i = vocabulary.pieces.size(); i-- != 0;) {
    const TestPiece& p = vocabulary.pieces[i];
    const TokenId id = static_cast<TokenId>(i);
    if (p.type == TokenType::kByte) bytes[p.piece] = id;
    if (p.type == TokenType::kUnknown) unk = id;
    if (p.type == TokenType::kNormal || p.type == TokenType::kUnused) ids[p.piece] = id;
    if (p.type == TokenType::kUserDefined) user_defined[p.piece] = id;
  }
  const auto type = [&](TokenId id) { return vocabulary.pieces[id].type; };

  std::string escaped = vocabulary.add_space_prefix && !text.empty() ? kSpace : "";
  for (char c : text) escaped += c == ' ' ? std::string(kSpace) : std::string(1, c);

  struct Symbol {
    std::string text;
    bool whole;
  };
  std::vector<Symbol> symbols;
  for (size_t at = 0; at < escaped.size();) {
    std::string longest;
    for (const auto& [piece, id] : user_defined) {
      if (escaped.compare(at, piece.size(), piece) == 0 && piece.size() > longest.size()) longest = piece;
    }
    const bool whole = !longest.empty();
    if (!whole) {
      size_t end = at + 1;
      while (end < escaped.size() && (static_cast<uint8_t>(escaped[end]) & 0xC0) == 0x80) ++end;
      longest = escaped.substr(at, end - at);
    }
    at += longest.size();
    symbols.push_back({longest, whole});
  }

  std::map<std::string, std::pair<std::string, std::string>> parts;
  for (;;) {
    size_t best = symbols.size();
    float best_score = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto found = ids.find(symbols[i].text + symbols[i + 1].text);
      if (symbols[i].whole || symbols[i + 1].whole || found == ids.end()) continue;
      const float score = vocabulary.pieces[found->second].score;
      if (best == symbols.size() || score > best_score) {
        best = i;
        best_score = score;
      }
    }
    if (best == symbols.size()) break;
    const std::string merged = symbols[best].text + symbols[best + 1].text;
    parts[merged] = {symbols[best].text, symbols[best + 1].text};
    symbols[best].text = merged;
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(best) + 1);
  }

  std::vector<TokenId> out;
  bool after_unknown = false;
  const std::function<void(const std::string&)> emit = [&](const std::string& symbol) {
    const auto found = ids.find(symbol);
    if (found != ids.end() && type(found->second) == TokenType::kUnused && parts.contains(symbol)) {
      emit(parts[symbol].first);
      emit(parts[symbol].second);
      return;
    }
    if (found != ids.end()) {
      out.push_back(found->second);
    } else if (bytes.size() == 256) {
      for (char c : symbol) {
        char name[8];
        std::snprintf(name, sizeof(name), "<0x%02X>", static_cast<uint8_t>(c));
        out.push_back(bytes[name]);
      }
    } else if (!after_unknown) {
      out.push_back(unk);
    }
    after_unknown = found == ids.end();
  };
  for (const Symbol& symbol : symbols) {
    if (symbol.whole) {
      out.push_back(user_defined[symbol.text]);
      after_unknown = false;
    } else {
      emit(symbol.text);
    }
  }
  return out;
}

TEST(TokenizerTest, MergesByScoreThenFromTheLeft) {
  const LoadedTokenizer t(SmallVocabulary());
  ASSERT_TRUE(t.result().has_value());
  EXPECT_THAT(t.Encode("ab"), ElementsAre(263));
  EXPECT_THAT(t.Encode("aab"), ElementsAre(259, 260, 262));
  EXPECT_THAT(t.Encode(" ab"), ElementsAre(259, 263));
  EXPECT_THAT(t.Encode(""), ElementsAre());
  EXPECT_THAT(t.Encode("", true), ElementsAre(kBos));
  EXPECT_THAT(t.Encode("b", true), ElementsAre(kBos, 259, 261));
}

TEST(TokenizerTest, LeftmostOfEqualScores) {
  TestVocabulary vocabulary;
  vocabulary.AddSpecial(false);
  vocabulary.add_space_prefix = false;
  vocabulary.Add("a", -1);
  vocabulary.Add("aa", -1);
  const LoadedTokenizer t(vocabulary);
  EXPECT_THAT(t.Encode("aaaaa"), ElementsAre(4, 4, 3));
}

TEST(TokenizerTest, WhatHasNoPieceBecomesItsBytes) {
  const LoadedTokenizer t(SmallVocabulary());
  EXPECT_THAT(t.Encode("\xC3\xA9"), ElementsAre(259, kFirstByte + 0xC3, kFirstByte + 0xA9));
  EXPECT_THAT(t.Encode(std::string_view("\0", 1)), ElementsAre(259, kFirstByte));
  EXPECT_THAT(t.Encode("\xC3"), ElementsAre(259, kFirstByte + 0xEF, kFirstByte + 0xBF, kFirstByte + 0xBD));
  TestVocabulary no_space = SmallVocabulary();
  no_space.pieces[259].type = TokenType::kControl;
  EXPECT_THAT(LoadedTokenizer(no_space).Encode("b"),
              ElementsAre(kFirstByte + 0xE2, kFirstByte + 0x96, kFirstByte + 0x81, 261));
}

TEST(TokenizerTest, UnknownCharactersInARunAreOneTokenWithoutByteTokens) {
  TestVocabulary vocabulary;
  vocabulary.AddSpecial(false);
  vocabulary.add_space_prefix = false;
  vocabulary.Add("a", -1);
  const LoadedTokenizer t(vocabulary);
  ASSERT_TRUE(t.result().has_value());
  EXPECT_THAT(t.Encode("xyazx"), ElementsAre(kUnk, 3, kUnk));
}

// As Hugging Face's tokenizers does it: all bytes of a character or none; an unknown token that may yet be fused comes
// when a piece does, after bytes that were behind it.
TEST(TokenizerTest, SomeByteTokensAreForTheCharactersThatHaveAll) {
  TestVocabulary vocabulary;
  vocabulary.AddSpecial(false);
  vocabulary.add_space_prefix = false;
  vocabulary.Add("a", -1);                        // 3
  vocabulary.Add("<0x78>", 0, TokenType::kByte);  // 4, x
  vocabulary.Add("<0xC3>", 0, TokenType::kByte);  // 5
  vocabulary.Add("<0xA9>", 0, TokenType::kByte);  // 6, with 5 U+00E9
  const LoadedTokenizer t(vocabulary);
  ASSERT_TRUE(t.result().has_value());
  EXPECT_THAT(t.Encode("xya"), ElementsAre(4, kUnk, 3));
  EXPECT_THAT(t.Encode("\u00E9\u00E8a"), ElementsAre(5, 6, kUnk, 3));
  EXPECT_THAT(t.Encode("yxza"), ElementsAre(4, kUnk, 3));
}

TEST(TokenizerTest, NamesOfSpecialTokensAreText) {
  const LoadedTokenizer t(SmallVocabulary());
  for (const char* text : {"<s>", "</s>", "<unk>", "<0x41>"}) {
    for (TokenId id : t.Encode(text)) {
      EXPECT_NE(t.tokenizer().Type(id), TokenType::kControl) << text;
      EXPECT_NE(t.tokenizer().Type(id), TokenType::kUnknown) << text;
    }
    EXPECT_EQ(t.Encode(text).size(), 1 + std::strlen(text)) << text;
  }
}

TEST(TokenizerTest, UserDefinedPiecesAreMatchedFirstLongestFirst) {
  TestVocabulary vocabulary = SmallVocabulary();
  vocabulary.Add("ba", 0, TokenType::kUserDefined);                       // 264
  vocabulary.Add("bab", 0, TokenType::kUserDefined);                      // 265
  vocabulary.Add("babax", 0, TokenType::kUserDefined);                    // 266
  vocabulary.Add(std::string("b") + kSpace, 0, TokenType::kUserDefined);  // 267
  const LoadedTokenizer t(vocabulary);
  EXPECT_THAT(t.Encode("abab"), ElementsAre(259, 260, 265));
  EXPECT_THAT(t.Encode("babaab"), ElementsAre(259, 265, 260, 262));
  EXPECT_THAT(t.Encode("bbabax"), ElementsAre(259, 261, 266));
  EXPECT_THAT(t.Encode("ab b"
                       "\xE2\x96\x81"),
              ElementsAre(259, 260, 267, 267));
}

TEST(TokenizerTest, UnusedPiecesFallApartAgain) {
  TestVocabulary vocabulary;
  vocabulary.AddSpecial(false);
  vocabulary.add_space_prefix = false;
  for (const char* c : {"a", "b", "c"}) vocabulary.Add(c, -9);  // 3, 4, 5
  vocabulary.Add("ab", -1);                                     // 6
  vocabulary.Add("abc", -2, TokenType::kUnused);                // 7
  vocabulary.Add("abca", -3, TokenType::kUnused);               // 8
  vocabulary.Add("d", -9, TokenType::kUnused);                  // 9: nothing to fall into
  const LoadedTokenizer t(vocabulary);
  EXPECT_THAT(t.Encode("abc"), ElementsAre(6, 5));
  EXPECT_THAT(t.Encode("abca"), ElementsAre(6, 5, 3));
  EXPECT_THAT(t.Encode("dab"), ElementsAre(9, 6));
}

TEST(TokenizerTest, TheLowestIdOfEqualPieces) {
  TestVocabulary vocabulary = SmallVocabulary();
  vocabulary.Add("ab", 0);  // as 262, with a better score that does not count
  vocabulary.Add("b", 0, TokenType::kUnused);
  vocabulary.Add("c", -9);                           // 266
  vocabulary.Add("c", -9, TokenType::kUserDefined);  // 267
  vocabulary.Add("c", -9, TokenType::kUserDefined);
  const LoadedTokenizer t(vocabulary);
  EXPECT_THAT(t.Encode("aabb"), ElementsAre(259, 260, 262, 261));
  EXPECT_THAT(t.Encode("cc"), ElementsAre(259, 267, 267));
  EXPECT_EQ(t.tokenizer().Piece(264), "ab");
}

TEST(TokenizerTest, EmptyAndIllFormedPiecesNeverMatch) {
  TestVocabulary vocabulary = SmallVocabulary();
  vocabulary.Add("", 0);
  vocabulary.Add("", 0, TokenType::kUserDefined);
  vocabulary.Add("\xC3", 0);
  vocabulary.Add("\xFF", 0, TokenType::kUserDefined);
  vocabulary.Add("a\xE2\x96", 0);
  const LoadedTokenizer t(vocabulary);
  ASSERT_TRUE(t.result().has_value());
  EXPECT_THAT(t.Encode("ab\xFF"), ElementsAre(263, kFirstByte + 0xEF, kFirstByte + 0xBF, kFirstByte + 0xBD));
  EXPECT_EQ(t.tokenizer().Piece(264), "");
  EXPECT_EQ(t.tokenizer().Piece(266), "\xC3");
  EXPECT_EQ(t.tokenizer().Piece(268), "a\xE2\x96");
}

TEST(TokenizerTest, PiecesAndTypes) {
  TestVocabulary vocabulary = SmallVocabulary();
  vocabulary.Add(std::string(kSpace) + kSpace + "x" + kSpace, -1, TokenType::kUserDefined);
  vocabulary.Add("\xEF\xBF\xBDx", -1, TokenType::kUnused);
  const LoadedTokenizer loaded(vocabulary);
  const Tokenizer& t = loaded.tokenizer();
  EXPECT_EQ(t.size(), 266u);
  EXPECT_EQ(t.Piece(kUnk), "");
  EXPECT_EQ(t.Piece(kBos), "");
  EXPECT_EQ(t.Piece(kFirstByte + 'A'), "A");
  EXPECT_EQ(t.Piece(263), " ab");
  EXPECT_EQ(t.Piece(264), "  x ");
  EXPECT_EQ(t.Piece(265), "\xFFx");
  EXPECT_EQ(t.Piece(266), "");
  EXPECT_EQ(t.Piece(0xFFFFFFFF), "");
  for (TokenId id = 0; id < t.size(); ++id) EXPECT_EQ(t.Type(id), vocabulary.pieces[id].type) << id;
  EXPECT_EQ(t.Type(266), TokenType::kUnknown);
  EXPECT_EQ(t.bos(), kBos);
  EXPECT_EQ(t.eos(), kEos);
  EXPECT_EQ(t.unk(), kUnk);
}

TEST(TokenizerTest, WithoutAVocabulary) {
  const Tokenizer none;
  EXPECT_EQ(none.size(), 0u);
  EXPECT_EQ(none.Piece(0), "");
  EXPECT_EQ(none.Type(0), TokenType::kUnknown);
  std::vector<std::byte> workspace(static_cast<size_t>(Tokenizer::WorkspaceBytes(3)));
  EXPECT_EQ(none.Encode("abc", true, {}, workspace).value(), 0u);

  TokenizerFile file(SmallVocabulary());
  file.ref.present = false;
  EXPECT_EQ(Tokenizer::TableBytes(file.ref), 0u);
  const LoadedTokenizer absent(file);
  ASSERT_TRUE(absent.result().has_value());
  EXPECT_EQ(absent.tokenizer().size(), 0u);
}

// All lengths of stretches, each of which cuts the text elsewhere.
void ExpectTheSameInStretches(const TestVocabulary& vocabulary, const std::string& text, uint64_t least_bytes) {
  const LoadedTokenizer t(vocabulary);
  ASSERT_TRUE(t.result().has_value());
  const std::vector<TokenId> whole = t.Encode(text, true);
  EXPECT_EQ(std::vector<TokenId>(whole.begin() + 1, whole.end()), SlowEncode(vocabulary, text));
  for (uint64_t bytes = least_bytes; bytes < text.size(); ++bytes) {
    const auto ids = tests::EncodeInStretches(t.tokenizer(), text, bytes, true);
    ASSERT_TRUE(ids.has_value()) << bytes;
    EXPECT_EQ(*ids, whole) << bytes;
  }
}

TEST(TokenizerTest, LongTextsAreEncodedInStretches) {
  // Words, one that is longer than the stretch, spaces without end, ill-formed bytes, characters of all lengths,
  // unknown ones on both sides of a cut.
  TestVocabulary words = SmallVocabulary();
  ExpectTheSameInStretches(words, "ab aab b  abababababababababababababababab     a\tb\n ab", 16);
  ExpectTheSameInStretches(words, std::string(60, ' '), 16);
  TestVocabulary unknown;
  unknown.AddSpecial(false);
  for (const char* piece : {"a", "b"}) unknown.Add(piece, -1);
  unknown.Add("ab", 0);
  const std::string kinds = "ab\xFF\xC3\xA9\xF0\x9F\x98\x80 \xE2\x96\x81\xEF\xBF\xBD";
  ExpectTheSameInStretches(unknown, std::string(50, 'z') + kinds + std::string(50, 'y') + "abz", 16);
  for (TestVocabulary* vocabulary : {&words, &unknown}) {
    LoadedTokenizer t(*vocabulary);
    std::string text;
    while (text.size() < 200) text += kinds;
    for (uint64_t bytes = 16; bytes < text.size(); ++bytes) {
      EXPECT_EQ(tests::EncodeInStretches(t.tokenizer(), text, bytes), t.Encode(text)) << bytes;
    }
  }

  // Pieces that reach across words; powers of two, whose last one decides where the rest of a rule is divided.
  TestVocabulary rules;
  rules.AddSpecial(true);
  rules.Add(std::string("a") + kSpace + "b", -1);
  rules.Add(std::string("a") + kSpace, 0);
  for (const size_t n : {2, 4, 8}) rules.Add(std::string(n, '-'), -static_cast<float>(n));
  ExpectTheSameInStretches(rules, "a ba b a b----------a b a ba b a a b", 32);
  for (const size_t n : {61, 62, 63, 64, 65, 66, 67, 68}) ExpectTheSameInStretches(rules, std::string(n, '-'), 32);

  // User-defined pieces, which are matched as far as they reach, and unused ones.
  TestVocabulary defined = SmallVocabulary();
  defined.Add("ba", 0, TokenType::kUserDefined);
  defined.Add("babax", 0, TokenType::kUserDefined);
  defined.Add(std::string("b") + kSpace, 0, TokenType::kUserDefined);
  defined.Add("aab", -1, TokenType::kUnused);
  ExpectTheSameInStretches(defined, "babababaxbaabaabb babababababax ab b b aabaab bababa", 24);
}

// The end of a word decides how all of it is divided: of two pairs that share a character, the later one is better.
TEST(TokenizerTest, AWordThatIsDividedFromItsEndNeedsRoomForAll) {
  TestVocabulary vocabulary;
  vocabulary.AddSpecial(false);
  vocabulary.add_space_prefix = false;
  std::vector<std::string> characters;
  for (int i = 0; i < 100; ++i) {
    characters.push_back({'\xE4', static_cast<char>(0xB8 + i / 64), static_cast<char>(0x80 + i % 64)});
    vocabulary.Add(characters.back(), -1000);
  }
  for (size_t i = 0; i + 1 < characters.size(); ++i) {
    vocabulary.Add(characters[i] + characters[i + 1], static_cast<float>(i));
  }
  const LoadedTokenizer t(vocabulary);
  int num_refused = 0;
  for (const size_t n : {99u, 100u}) {
    std::string text;
    for (size_t i = 0; i < n; ++i) text += characters[i];
    EXPECT_EQ(t.Encode(text), SlowEncode(vocabulary, text));
    EXPECT_EQ(tests::EncodeInStretches(t.tokenizer(), text + " " + text, 3 * n), t.Encode(text + " " + text));
    // Of an even number of characters and an odd one, a stretch can be divided as the whole is in one case only.
    std::vector<std::byte> workspace(static_cast<size_t>(Tokenizer::WorkspaceBytes(60)));
    std::vector<TokenId> ids(100);
    const auto encoded = t.tokenizer().Encode(text, false, ids, workspace);
    if (encoded) {
      ids.resize(*encoded);
      EXPECT_EQ(ids, t.Encode(text));
      continue;
    }
    ++num_refused;
    EXPECT_EQ(encoded.error().code, Code::kInvalidArgument);
    EXPECT_LT(encoded.error().offset, text.size());
    EXPECT_THAT(Sentence(encoded.error()), HasSubstr("from byte " + std::to_string(encoded.error().offset) + " on"));
  }
  EXPECT_GE(num_refused, 1);
}

TEST(TokenizerTest, SaysWhatItNeeds) {
  const LoadedTokenizer t(SmallVocabulary());
  const std::string text = "ab ab b";
  EXPECT_EQ(Tokenizer::WorkspaceBytes(text.size()), 11 * text.size() + 14);
  EXPECT_EQ(Tokenizer::WorkspaceBytes(std::numeric_limits<uint64_t>::max()), std::numeric_limits<uint64_t>::max());
  std::vector<std::byte> workspace(static_cast<size_t>(Tokenizer::WorkspaceBytes(text.size())));
  std::vector<TokenId> ids(5);
  ASSERT_EQ(t.tokenizer().Encode(text, true, ids, workspace).value(), 5u);
  EXPECT_THAT(ids, ElementsAre(kBos, 263, 263, 259, 261));

  const auto too_many = t.tokenizer().Encode(text, true, std::span(ids).first(4), workspace);
  ASSERT_FALSE(too_many.has_value());
  EXPECT_EQ(too_many.error().code, Code::kContextFull);
  EXPECT_EQ(too_many.error().have, 4u);
  EXPECT_EQ(too_many.error().need, 5u);

  const auto too_small = t.tokenizer().Encode(text, true, ids, std::span(workspace).subspan(1));
  ASSERT_FALSE(too_small.has_value());
  EXPECT_EQ(too_small.error().code, Code::kInvalidArgument);
  EXPECT_EQ(too_small.error().need, workspace.size());
}

// docs/tokenizer.md has these numbers. The same on every target.
TEST(TokenizerTest, TableBytesOfKnownSizes) {
  formats::TokenizerRef llama2{.present = true, .num_tokens = 32000, .tokens_bytes = 210919, .longest_token_bytes = 48};
  EXPECT_EQ(Tokenizer::TableBytes(llama2), 399440u);
  formats::TokenizerRef bundled{.present = true, .num_tokens = 2240, .tokens_bytes = 13374, .longest_token_bytes = 15};
  EXPECT_EQ(Tokenizer::TableBytes(bundled), 27056u);
  // Tokens that are nearly all empty: what loading needs for a moment decides, four bytes for each score.
  formats::TokenizerRef empty{.present = true, .num_tokens = 1000, .tokens_bytes = 5, .longest_token_bytes = 5};
  EXPECT_EQ(Tokenizer::TableBytes(empty), 1000u * (2 + 2 + 4));
  formats::TokenizerRef wide{.present = true, .num_tokens = 65536, .tokens_bytes = 1 << 20, .longest_token_bytes = 256};
  EXPECT_EQ(Tokenizer::TableBytes(wide),
            65536u * (4 + 4 + 2) + 65536 / 32 * 4 + (65536 / 4 + 1) * 4 + 256 * 4 + 65536 / 4 + (1u << 20) + 12);
}

TEST(TokenizerTest, TakesExactlyTableBytes) {
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    TestVocabulary vocabulary;
    vocabulary.AddSpecial(round % 2 == 0);
    for (size_t n = random() % 300; n != 0; --n) {
      std::string piece(random() % (round % 7 == 0 ? 400 : 6), 'a');
      for (char& c : piece) c = static_cast<char>('a' + random() % 26);
      vocabulary.Add(piece, -1);
    }
    const TokenizerFile file(vocabulary);
    const LoadedTokenizer t(file);
    ASSERT_TRUE(t.result().has_value());
    EXPECT_EQ(t.arena().used_bytes(), Tokenizer::TableBytes(file.ref));
    EXPECT_EQ(t.arena().peak_bytes(), Tokenizer::TableBytes(file.ref));

    const LoadedTokenizer too_small(file, Tokenizer::TableBytes(file.ref) - kArenaAlign);
    ASSERT_FALSE(too_small.result().has_value());
    EXPECT_EQ(too_small.result().error().code, Code::kOutOfMemory);
  }
}

// More than 65535 tokens and tokens of more than 255 bytes need wider tables.
TEST(TokenizerTest, WideTables) {
  TestVocabulary vocabulary;
  vocabulary.AddSpecial(true);
  for (int i = 0; i < 70000; ++i) {
    std::string piece;
    for (int n = i; n != 0; n /= 26) piece += static_cast<char>('a' + n % 26);
    vocabulary.Add(piece, static_cast<float>(-i));
  }
  const std::string longest(300, 'Z');
  for (size_t length = 1; length <= longest.size(); ++length) vocabulary.Add(longest.substr(0, length), -1);
  for (size_t drop : {size_t{0}, size_t{301}}) {
    vocabulary.pieces.resize(vocabulary.pieces.size() - drop);
    const LoadedTokenizer t(vocabulary);
    ASSERT_TRUE(t.result().has_value());
    for (TokenId id = kAfterBytes + 1; id < vocabulary.pieces.size(); id += 97) {
      ASSERT_EQ(t.tokenizer().Piece(id), vocabulary.pieces[id].piece);
    }
    for (const std::string& text : {std::string("hello big wide world"), longest + longest + "Z"}) {
      EXPECT_EQ(t.Encode(text), SlowEncode(vocabulary, text));
    }
  }
}

TEST(TokenizerTest, EqualsTheSlowAlgorithm) {
  static constexpr const char* kCharacters[] = {"a", "b", kSpace, "\xC3\xA9", "c", "\xF0\x9F\x98\x80"};
  std::mt19937 random(2);
  const auto below = [&](size_t n) { return random() % n; };
  for (int round = 0; round < 1000; ++round) {
    TestVocabulary vocabulary;
    vocabulary.AddSpecial(below(4) == 0);
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
      const TokenType type = with_user_defined && below(12) == 0 ? TokenType::kUserDefined
                             : with_unused && below(3) == 0      ? TokenType::kUnused
                                                                 : TokenType::kNormal;
      if (seen.insert(piece).second) vocabulary.Add(piece, -static_cast<float>(below(num_scores)), type);
    }
    const LoadedTokenizer t(vocabulary);
    ASSERT_TRUE(t.result().has_value());
    for (int i = 0; i < 20; ++i) {
      std::string text;
      for (size_t n = below(40); n != 0; --n) text += kCharacters[below(std::size(kCharacters))];
      ASSERT_EQ(t.Encode(text), SlowEncode(vocabulary, text)) << text;
    }
  }
}

// A megabyte of what keeps a merge queue busiest. An algorithm slower than O(n log n) does not come back.
TEST(TokenizerTest, LongTexts) {
  constexpr size_t kBytes = 1 << 20;
  TestVocabulary vocabulary;
  vocabulary.AddSpecial(true);
  vocabulary.add_space_prefix = false;
  std::string run = "a";
  for (int i = 0; i < 8; ++i, run += run) vocabulary.Add(run, static_cast<float>(-i));  // up to 128
  vocabulary.Add("bc", -9);
  vocabulary.Add("cb", -10);
  vocabulary.Add("bcbc", -11, TokenType::kUnused);
  const LoadedTokenizer t(vocabulary);
  EXPECT_EQ(t.Encode(std::string(kBytes, 'a')), std::vector<TokenId>(kBytes / 128, kAfterBytes + 7));
  EXPECT_EQ(t.Encode(std::string(kBytes, 'x')), std::vector<TokenId>(kBytes, kFirstByte + 'x'));
  std::string alternating;
  while (alternating.size() < kBytes) alternating += "bc";
  EXPECT_EQ(t.Encode(alternating), std::vector<TokenId>(kBytes / 2, kAfterBytes + 8));
  EXPECT_EQ(t.Encode(std::string(kBytes, '\xFF')).size(), 3 * kBytes);
}

struct BadFile {
  const char* name;
  std::function<void(TestVocabulary&)> change;
  Code code;
  const char* sentence;
  std::optional<uint64_t> token;  // `have`
};

TEST(TokenizerTest, RefusesBadVocabularies) {
  const BadFile kBadFiles[] = {
      {"NaN score", [](auto& v) { v.pieces[260].score = std::numeric_limits<float>::quiet_NaN(); }, Code::kCorrupt,
       "not a number", 260},
      {"type 0", [](auto& v) { v.pieces[261].type = static_cast<TokenType>(0); }, Code::kCorrupt, "type of token 261",
       261},
      {"type 7", [](auto& v) { v.pieces[2].type = static_cast<TokenType>(7); }, Code::kCorrupt, "type of token 2", 2},
      {"byte token of letters", [](auto& v) { v.pieces[3].piece = "<0xZZ>"; }, Code::kCorrupt, "<0x00> to <0xFF>", 3},
      {"byte token in lower case", [](auto& v) { v.pieces[3 + 0xAB].piece = "<0xab>"; }, Code::kCorrupt,
       "<0x00> to <0xFF>", 3 + 0xAB},
      {"short byte token", [](auto& v) { v.pieces[4].piece = "<0x1>"; }, Code::kCorrupt, "<0x00> to <0xFF>", 4},
      {"open byte token", [](auto& v) { v.pieces[4].piece = "<0x01]"; }, Code::kCorrupt, "<0x00> to <0xFF>", 4},
      {"not a byte token", [](auto& v) { v.pieces[263].type = TokenType::kByte; }, Code::kCorrupt, "<0x00> to <0xFF>",
       263},
      {"too long a token", [](auto& v) { v.pieces[263].piece = std::string(65536, 'a'); }, Code::kUnsupported,
       "longest token has 65536 bytes", 65536},
      {"nothing for unknown characters",
       [](auto& v) { v.pieces.erase(v.pieces.begin(), v.pieces.begin() + 10); },
       Code::kUnsupported,
       "neither all 256 byte tokens nor an unknown token",
       {}},
  };
  for (const BadFile& bad : kBadFiles) {
    TestVocabulary vocabulary = SmallVocabulary();
    bad.change(vocabulary);
    const LoadedTokenizer t(vocabulary);
    ASSERT_FALSE(t.result().has_value()) << bad.name;
    EXPECT_EQ(t.result().error().code, bad.code) << bad.name;
    EXPECT_THAT(Sentence(t.result().error()), HasSubstr(bad.sentence)) << bad.name;
    EXPECT_EQ(t.result().error().have, bad.token.value_or(t.result().error().have)) << bad.name;
    EXPECT_EQ(t.arena().used_bytes(), 0u) << bad.name;
  }
}

TEST(TokenizerTest, ErrorsPointIntoTheFile) {
  TestVocabulary vocabulary = SmallVocabulary();
  vocabulary.pieces[260].score = std::numeric_limits<float>::quiet_NaN();
  const TokenizerFile file(vocabulary);
  EXPECT_EQ(LoadedTokenizer(file).result().error().offset, file.ref.scores_offset + 4 * 260);
  vocabulary.pieces[260].score = std::numeric_limits<float>::infinity();
  EXPECT_TRUE(LoadedTokenizer(vocabulary).result().has_value());
}

TEST(TokenizerTest, RefusesSpecialIdsOutsideTheVocabulary) {
  for (TokenId formats::TokenizerRef::* id :
       {&formats::TokenizerRef::bos, &formats::TokenizerRef::eos, &formats::TokenizerRef::unk}) {
    TokenizerFile file(SmallVocabulary());
    file.ref.*id = file.ref.num_tokens;
    const LoadedTokenizer t(file);
    ASSERT_FALSE(t.result().has_value());
    EXPECT_EQ(t.result().error().code, Code::kCorrupt);
    EXPECT_EQ(t.result().error().have, file.ref.num_tokens);
    file.ref.*id = kNoToken;
    EXPECT_TRUE(LoadedTokenizer(file).result().has_value());
  }
}

TEST(TokenizerTest, WithoutAnUnknownIdTheFirstOfThatTypeIsUsed) {
  TestVocabulary vocabulary;
  vocabulary.Add("a", 0);
  vocabulary.Add("?", 0, TokenType::kUnknown);
  vocabulary.Add("??", 0, TokenType::kUnknown);
  vocabulary.add_space_prefix = false;
  const LoadedTokenizer t(vocabulary);
  EXPECT_THAT(t.Encode("a?xa"), ElementsAre(0, 1, 0));
}

TEST(TokenizerTest, RefusesTokensThatTheReferenceHasNoRoomFor) {
  const TokenizerFile good(SmallVocabulary());
  TokenizerFile file = good;
  file.ref.longest_token_bytes = 5;  // byte tokens have six
  EXPECT_EQ(LoadedTokenizer(file).result().error().code, Code::kCorrupt);
  file = good;
  file.ref.tokens_bytes -= 1;
  const LoadedTokenizer t(file);
  ASSERT_FALSE(t.result().has_value());
  EXPECT_EQ(t.result().error().code, Code::kCorrupt);
  EXPECT_EQ(t.result().error().have, 263u);
  file = good;
  std::memset(&file.bytes[static_cast<size_t>(file.ref.tokens_offset)], 0xFF, 8);
  EXPECT_EQ(LoadedTokenizer(file).result().error().have, 0u);
}

TEST(TokenizerTest, RefusesFilesThatEndEarly) {
  const TokenizerFile good(SmallVocabulary());
  for (size_t size = 0; size < good.bytes.size(); size += 7) {
    TokenizerFile file = good;
    file.bytes.resize(size);
    const LoadedTokenizer t(file);
    ASSERT_FALSE(t.result().has_value()) << size;
    EXPECT_EQ(t.result().error().code, Code::kCorrupt);
    EXPECT_EQ(t.arena().used_bytes(), 0u);
  }
}

TEST(TokenizerTest, SurvivesDamagedFiles) {
  std::mt19937 random(3);
  const TokenizerFile good(SmallVocabulary());
  int num_loaded = 0;
  for (int round = 0; round < 3000; ++round) {
    TokenizerFile file = good;
    for (size_t n = 1 + random() % 4; n != 0; --n) file.bytes[random() % file.bytes.size()] = std::byte(random());
    const LoadedTokenizer t(file);
    if (!t.result().has_value()) continue;
    ++num_loaded;
    for (TokenId id : t.Encode("ab b \xFF <s> zzz")) EXPECT_LT(id, t.tokenizer().size());
  }
  EXPECT_GT(num_loaded, 0);
  EXPECT_LT(num_loaded, 3000);
}

// llama.cpp's test set for the Llama 2 tokenizer: texts, and the ids that its makers got from SentencePiece.
TEST(TokenizerTest, RealLlama2) {
  const char* folder = std::getenv("THIMBLE_REAL_MODELS");
  if (folder == nullptr) GTEST_SKIP() << "THIMBLE_REAL_MODELS is not set";
  const std::filesystem::path path = std::filesystem::path(folder) / "tokenizer-llama2-32000";
  const auto read = [&](const char* name) {
    std::ifstream file(path / name, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  const TokenizerFile file(tests::ParseModelProto(read("tokenizer.model")));
  EXPECT_EQ(file.ref.num_tokens, 32000u);
  EXPECT_EQ(file.ref.tokens_bytes, 210919u);
  EXPECT_EQ(file.ref.longest_token_bytes, 48u);
  const LoadedTokenizer t(file);
  ASSERT_TRUE(t.result().has_value());

  const std::string texts = read("ggml-vocab-llama-spm.gguf.inp");
  std::istringstream lines(read("ggml-vocab-llama-spm.gguf.out"));
  static constexpr std::string_view kBetween = "\n__ggml_vocab_test__\n";
  int num_cases = 0;
  for (size_t begin = 0, end; (end = texts.find(kBetween, begin)) != texts.npos; begin = end + kBetween.size()) {
    const std::string text = texts.substr(begin, end - begin);
    std::string line;
    ASSERT_TRUE(std::getline(lines, line));
    std::istringstream numbers(line);
    const std::vector<TokenId> expected(std::istream_iterator<TokenId>(numbers), {});
    EXPECT_EQ(t.Encode(text), expected) << text;
    ++num_cases;
  }
  // The last case is what follows the last separator: the empty text, which has no ids and no line.
  EXPECT_TRUE(texts.ends_with(kBetween));
  EXPECT_TRUE(t.Encode("").empty());
  ++num_cases;
  EXPECT_EQ(num_cases, 47);
  std::string line;
  EXPECT_FALSE(std::getline(lines, line)) << "a line without a text: " << line;
}

}  // namespace
}  // namespace thimble::text

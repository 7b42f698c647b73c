#include "host/formats/tokenizer_json.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <set>

#include "host/formats/sentencepiece_model.h"
#include "tests/support/checkpoints.h"
#include "tests/support/peak_memory.h"
#include "tests/support/test_vocabulary.h"

namespace thimble::host {
namespace {

using namespace thimble::tests;
using nlohmann::json;
using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

constexpr char kSpace[] = "\u2581";

Vocabulary Parse(const json& tokenizer, std::vector<std::string>* notes = nullptr) {
  std::vector<std::string> ignored;
  const auto vocabulary = ParseTokenizerJson(tokenizer.dump(), "FILE", notes == nullptr ? ignored : *notes);
  EXPECT_TRUE(vocabulary) << vocabulary.error();
  return vocabulary.value_or(Vocabulary());
}

std::string RefusalOf(const std::string& text) {
  std::vector<std::string> notes;
  const auto vocabulary = ParseTokenizerJson(text, "FILE", notes);
  EXPECT_FALSE(vocabulary) << text.substr(0, 200);
  const std::string sentence = vocabulary ? "" : vocabulary.error();
  EXPECT_THAT(sentence, AllOf(StartsWith("FILE"), Not(EndsWith("."))));
  return sentence;
}
std::string Refusal(const json& tokenizer) { return RefusalOf(tokenizer.dump()); }

LoadedTokenizer Load(const Vocabulary& vocabulary) {
  TestVocabulary test;
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    test.Add(vocabulary.tokens[id], vocabulary.scores[id], vocabulary.types[id]);
  }
  test.add_space_prefix = vocabulary.add_space_prefix;
  return LoadedTokenizer(test);
}

std::vector<std::string> Characters(const std::string& text) {
  std::vector<std::string> characters;
  for (char c : text) {
    if ((static_cast<unsigned char>(c) & 0xc0) != 0x80) characters.emplace_back();
    characters.back() += c;
  }
  return characters;
}

// What huggingface/tokenizers does with the merges of a tokenizer.json, written plainly.
class PlainBpe {
 public:
  explicit PlainBpe(const json& tokenizer)
      : vocab_(tokenizer["model"]["vocab"]),
        byte_fallback_(tokenizer["model"]["byte_fallback"]),
        prefix_(!tokenizer["normalizer"].is_null()),
        split_(!tokenizer["pre_tokenizer"].is_null() && tokenizer["pre_tokenizer"]["split"].get<bool>()) {
    int rank = 0;
    for (const json& merge : tokenizer["model"]["merges"]) {
      ranks_[{merge[0].get<std::string>(), merge[1].get<std::string>()}] = rank++;
    }
  }

  std::vector<TokenId> Encode(const std::string& text) const {
    std::string escaped = prefix_ && !text.empty() ? kSpace : "";
    for (char c : text) escaped += c == ' ' ? std::string(kSpace) : std::string(1, c);
    std::vector<TokenId> ids;
    std::vector<std::string> word;
    for (const std::string& character : Characters(escaped)) {
      if (split_ && character == kSpace) EncodeWord(std::move(word), ids);
      if (split_ && character == kSpace) word.clear();
      word.push_back(character);
    }
    EncodeWord(std::move(word), ids);
    return ids;
  }

 private:
  void EncodeWord(std::vector<std::string> word, std::vector<TokenId>& ids) const {
    while (true) {
      int best = -1;
      size_t at = 0;
      for (size_t i = 0; i + 1 < word.size(); ++i) {
        const auto it = ranks_.find({word[i], word[i + 1]});
        if (it != ranks_.end() && (best < 0 || it->second < best)) {
          best = it->second;
          at = i;
        }
      }
      if (best < 0) break;
      word[at] += word[at + 1];
      word.erase(word.begin() + static_cast<ptrdiff_t>(at) + 1);
    }
    bool after_unknown = false;
    for (const std::string& symbol : word) {
      if (vocab_.contains(symbol)) {
        ids.push_back(vocab_[symbol]);
        after_unknown = false;
      } else if (byte_fallback_) {
        for (char c : symbol) ids.push_back(vocab_[ByteTokenName(static_cast<uint8_t>(c))]);
      } else {
        if (!after_unknown) ids.push_back(0);
        after_unknown = true;
      }
    }
  }

  json vocab_;
  std::map<std::pair<std::string, std::string>, int> ranks_;
  bool byte_fallback_, prefix_, split_;
};

// Merges in any order, of any tokens, several for one token, tokens that nothing makes.
json RandomTokenizer(std::mt19937_64& random) {
  json tokenizer = TokenizerJson(SentencePieceProto::Make(259));
  json& model = tokenizer["model"];
  std::vector<std::string> tokens;
  const auto add = [&](const std::string& token) {
    if (!model["vocab"].contains(token)) {
      model["vocab"][token] = model["vocab"].size();
      tokens.push_back(token);
    }
  };
  for (const char* character : {"a", "b", "c", kSpace, "\u00e9"}) {
    if (random() % 8 != 0 || tokens.empty()) add(character);
  }
  json merges = json::array();
  std::set<std::pair<std::string, std::string>> seen;
  for (size_t n = random() % 25; n > 0; --n) {
    const std::string left = tokens[random() % tokens.size()];
    const std::string right = tokens[random() % tokens.size()];
    if (!seen.emplace(left, right).second) continue;
    add(left + right);
    merges.push_back({left, right});
  }
  for (size_t n = random() % 3; n > 0; --n) {
    add(tokens[random() % tokens.size()] + tokens[random() % tokens.size()] + "c");
  }
  if (random() % 2 == 0) std::shuffle(merges.begin(), merges.end(), random);
  model["merges"] = merges;
  if (random() % 4 == 0) {
    model["byte_fallback"] = false;
    add(kSpace);
  }
  if (random() % 3 == 0) {
    tokenizer["normalizer"] = nullptr;
    tokenizer["pre_tokenizer"] = {
        {"type", "Metaspace"}, {"replacement", kSpace}, {"prepend_scheme", "never"}, {"split", random() % 2 == 0}};
  }
  return tokenizer;
}

TEST(TokenizerJsonTest, IdsAreThoseOfTheMerges) {
  std::mt19937_64 random(3);
  size_t num_unused = 0;
  size_t num_ids = 0;
  for (int i = 0; i < 400; ++i) {
    const json tokenizer = RandomTokenizer(random);
    const Vocabulary vocabulary = Parse(tokenizer);
    num_unused += static_cast<size_t>(std::ranges::count(vocabulary.types, TokenType::kUnused));
    const LoadedTokenizer loaded = Load(vocabulary);
    ASSERT_TRUE(loaded.result().has_value());
    const PlainBpe plain(tokenizer);
    for (int j = 0; j < 20; ++j) {
      std::string text;
      for (size_t n = random() % 24; n > 0; --n) {
        constexpr std::array<const char*, 8> kCharacters = {"a", "b", "c", " ", "a", "b", "\u00e9", "\u65e5"};
        text += kCharacters[random() % kCharacters.size()];
      }
      const std::vector<TokenId> ids = plain.Encode(text);
      num_ids += ids.size();
      ASSERT_EQ(loaded.Encode(text), ids) << text << "\n" << tokenizer["model"]["merges"].dump();
    }
  }
  EXPECT_GT(num_unused, 120u);
  EXPECT_GT(num_ids, 12000u);
}

TEST(TokenizerJsonTest, BothNotationsOfMerges) {
  json tokenizer = TokenizerJson(SentencePieceProto::Make(500));
  const Vocabulary strings = Parse(tokenizer);
  for (json& merge : tokenizer["model"]["merges"]) {
    const auto text = merge.get<std::string>();
    const size_t space = text.find(' ');
    merge = {text.substr(0, space), text.substr(space + 1)};
  }
  const Vocabulary pairs = Parse(tokenizer);
  EXPECT_EQ(strings.tokens, pairs.tokens);
  EXPECT_EQ(strings.scores, pairs.scores);
  EXPECT_EQ(strings.types, pairs.types);
  EXPECT_THAT(std::set<float>(strings.scores.begin(), strings.scores.end()), testing::SizeIs(testing::Gt(200u)));
}

TEST(TokenizerJsonTest, EveryWayToPutASpaceInFront) {
  const json base = TokenizerJson(SentencePieceProto::Make(400));
  const auto metaspace = [](json more) {
    more["type"] = "Metaspace";
    more["replacement"] = kSpace;
    return more;
  };
  const json replace = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kSpace}};
  struct Case {
    json normalizer, pre_tokenizer;
    bool prefix;
    size_t notes;
  };
  const Case cases[] = {
      {base["normalizer"], nullptr, true, 0},
      {replace, nullptr, false, 0},
      {base["normalizer"], metaspace({{"prepend_scheme", "never"}, {"split", false}}), true, 0},
      {nullptr, metaspace({{"prepend_scheme", "always"}, {"split", false}}), true, 1},
      {nullptr, metaspace({{"prepend_scheme", "first"}, {"split", false}}), true, 1},
      {nullptr, metaspace({{"prepend_scheme", "never"}, {"split", false}}), false, 0},
      {nullptr, metaspace({{"add_prefix_space", true}}), true, 1},
      {nullptr, metaspace({{"add_prefix_space", false}}), false, 0},
      {nullptr, metaspace(json::object()), true, 1},
      {nullptr, {{"type", "Sequence"}, {"pretokenizers", {metaspace({{"prepend_scheme", "never"}})}}}, false, 0},
  };
  for (const Case& c : cases) {
    json tokenizer = base;
    tokenizer["normalizer"] = c.normalizer;
    tokenizer["pre_tokenizer"] = c.pre_tokenizer;
    std::vector<std::string> notes;
    EXPECT_EQ(Parse(tokenizer, &notes).add_space_prefix, c.prefix) << tokenizer["pre_tokenizer"];
    EXPECT_EQ(notes.size(), c.notes) << tokenizer["pre_tokenizer"];
  }
}

TEST(TokenizerJsonTest, BeginningAndEnd) {
  json tokenizer = TokenizerJson(SentencePieceProto::Make(300));
  Vocabulary vocabulary = Parse(tokenizer);
  EXPECT_EQ(vocabulary.bos, 1u);
  EXPECT_EQ(vocabulary.eos, 2u);
  EXPECT_EQ(vocabulary.unk, 0u);
  EXPECT_TRUE(vocabulary.add_bos);

  tokenizer["post_processor"] = nullptr;
  vocabulary = Parse(tokenizer);
  EXPECT_EQ(vocabulary.bos, 1u);
  EXPECT_FALSE(vocabulary.add_bos);

  const json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const json special = {{"SpecialToken", {{"id", "X"}, {"type_id", 0}}}};
  const auto with = [&](const json& single) {
    tokenizer["post_processor"] = {
        {"type", "TemplateProcessing"}, {"single", single}, {"special_tokens", {{"X", {{"id", "X"}, {"ids", {2}}}}}}};
    return tokenizer;
  };
  std::vector<std::string> notes;
  EXPECT_EQ(Parse(with({special, text}), &notes).bos, 2u);
  EXPECT_THAT(notes, IsEmpty());
  EXPECT_EQ(Parse(with({text, special}), &notes).add_bos, false);
  EXPECT_THAT(notes, testing::ElementsAre(HasSubstr("end")));
  for (const json& single : {json::array(), json{special}, json{special, special, text}, json{text, text},
                             json{text, special, special}, json(3), json{3}, json{text, special, text}}) {
    EXPECT_THAT(Refusal(with(single)), HasSubstr("post_processor"));
  }
  for (const json& ids : {json::array(), json{1, 2}, json{300}, json{-1}, json("1")}) {
    with({special, text});
    tokenizer["post_processor"]["special_tokens"]["X"]["ids"] = ids;
    EXPECT_THAT(Refusal(tokenizer), HasSubstr("post_processor"));
  }
}

TEST(TokenizerJsonTest, AddedTokens) {
  json tokenizer = TokenizerJson(SentencePieceProto::Make(300));
  json& added = tokenizer["added_tokens"];
  added.push_back({{"id", 300}, {"content", "<user>"}, {"special", false}});
  added.push_back({{"id", 301}, {"content", "<end>"}, {"special", true}, {"rstrip", true}});
  added.push_back({{"id", 262}, {"content", "c"}, {"special", false}});
  const json good = tokenizer;
  std::vector<std::string> notes;
  const Vocabulary vocabulary = Parse(tokenizer, &notes);
  EXPECT_EQ(vocabulary.tokens.size(), 302u);
  EXPECT_EQ(vocabulary.types[300], TokenType::kUserDefined);
  EXPECT_EQ(vocabulary.types[301], TokenType::kControl);
  EXPECT_EQ(vocabulary.types[262], TokenType::kUserDefined);
  EXPECT_EQ(vocabulary.types[0], TokenType::kUnknown);
  EXPECT_EQ(vocabulary.types[3], TokenType::kByte);
  EXPECT_THAT(notes, testing::ElementsAre(HasSubstr("added tokens")));
  const auto refused = [&](const json& token) {
    json bad = good;
    bad["added_tokens"].push_back(token);
    return Refusal(bad);
  };
  EXPECT_THAT(refused({{"id", 302}, {"content", "x y"}, {"lstrip", true}}), HasSubstr("lstrip"));
  EXPECT_THAT(refused({{"id", 303}, {"content", "gap"}}), HasSubstr("302"));
  EXPECT_THAT(refused({{"id", 5}, {"content", "taken"}}), HasSubstr("5"));
  EXPECT_THAT(refused({{"id", 5}, {"content", "a"}}), HasSubstr("260"));
  EXPECT_THAT(refused({{"id", 300}, {"content", "<user>"}}), HasSubstr("twice"));
  EXPECT_THAT(refused({{"id", 302}, {"content", ""}}), HasSubstr("302"));
  EXPECT_THAT(refused({{"id", 302}, {"content", std::string(65536, 'x')}}), HasSubstr("302"));
  EXPECT_THAT(refused({{"id", -1}, {"content", "x"}}), HasSubstr("-1"));
  EXPECT_THAT(refused({{"id", 302}}), HasSubstr("content"));
  EXPECT_THAT(refused("x"), HasSubstr("object"));
}

const json kByteLevel = {
    {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}};
const json kByteLevelAndRegex = {{"type", "ByteLevel"}, {"add_prefix_space", false}};

json Split(const std::string& pattern) {
  return {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}};
}

const char kLlama3Pattern[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// GPT-2's kind: all bytes in their letters, "ab", "abc", a special token and an added one.
json ByteLevelJson() {
  json vocab = json::object();
  for (int byte = 0; byte < 256; ++byte) vocab[tests::LetterOf(static_cast<uint8_t>(byte))] = byte;
  vocab["ab"] = 256;
  vocab["abc"] = 257;
  return {{"version", "1.0"},
          {"added_tokens",
           {{{"id", 258}, {"content", "<|end|>"}, {"special", true}},
            {{"id", 259}, {"content", "a  b"}, {"special", false}}}},
          {"normalizer", nullptr},
          {"pre_tokenizer", kByteLevelAndRegex},
          {"post_processor", {{"type", "ByteLevel"}, {"trim_offsets", false}}},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", ""},
            {"end_of_word_suffix", ""},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", false},
            {"vocab", vocab},
            {"merges", {"a b", "ab c"}}}}};
}

LoadedTokenizer LoadByteLevel(const Vocabulary& vocabulary) {
  return LoadedTokenizer(tests::ByteLevelVocabulary{
      .tokens = vocabulary.tokens, .types = vocabulary.types, .merges = vocabulary.merges, .pre = vocabulary.pre});
}

TEST(TokenizerJsonTest, ByteLevelBpe) {
  std::vector<std::string> notes;
  json tokenizer = ByteLevelJson();
  const Vocabulary vocabulary = Parse(tokenizer, &notes);
  EXPECT_THAT(notes, IsEmpty());
  EXPECT_EQ(vocabulary.pre, formats::PreTokenizer::kGpt2);
  EXPECT_THAT(vocabulary.merges, testing::ElementsAre("a b", "ab c"));
  EXPECT_EQ(vocabulary.types[258], TokenType::kControl);
  EXPECT_EQ(vocabulary.types[259], TokenType::kUserDefined);
  EXPECT_FALSE(vocabulary.bos || vocabulary.eos || vocabulary.unk || vocabulary.add_bos || vocabulary.add_space_prefix);
  EXPECT_THAT(LoadByteLevel(vocabulary).Encode("abca  b<"), testing::ElementsAre(257, 259, 60));

  tokenizer["model"]["merges"] = json::array({json::array({"a", "b"}), json::array({"ab", "c"})});
  EXPECT_EQ(Parse(tokenizer).merges, vocabulary.merges);
  // Llama 3's: the letters only move places, the template puts a begin in front.
  tokenizer["post_processor"] = {
      {"type", "Sequence"},
      {"processors",
       {{{"type", "ByteLevel"}},
        {{"type", "TemplateProcessing"},
         {"single", {{{"SpecialToken", {{"id", "<|end|>"}}}}, {{"Sequence", {{"id", "A"}}}}}},
         {"special_tokens", {{"<|end|>", {{"id", "<|end|>"}, {"ids", {258}}}}}}}}}};
  EXPECT_EQ(Parse(tokenizer).bos, 258u);
  EXPECT_TRUE(Parse(tokenizer).add_bos);
  tokenizer["normalizer"] = {{"type", "NFC"}};
  Parse(tokenizer, &notes);
  EXPECT_THAT(notes, testing::ElementsAre(HasSubstr("NFC")));
}

TEST(TokenizerJsonTest, ByteLevelBpeKeepsTheMergesThatHappen) {
  json tokenizer = ByteLevelJson();
  tokenizer["model"]["vocab"] = ByteLevelJson()["model"]["vocab"];
  tokenizer["model"]["vocab"]["bc"] = 258;
  tokenizer["model"]["vocab"]["cb"] = 259;
  tokenizer["added_tokens"] = json::array();
  // The first is never tried where the second is, and "cb" is what nothing makes.
  tokenizer["model"]["merges"] = {"a bc", "a b", "b c", "ab c"};
  const Vocabulary vocabulary = Parse(tokenizer);
  EXPECT_THAT(vocabulary.merges, testing::ElementsAre("a b", "b c", "ab c"));
  EXPECT_THAT(LoadByteLevel(vocabulary).Encode("abcbccb"), testing::ElementsAre(257, 258, 99, 98));

  // Whether "cb" as a word is one token.
  tokenizer["model"]["ignore_merges"] = true;
  EXPECT_THAT(Refusal(tokenizer), AllOf(HasSubstr("ignore_merges is true"), HasSubstr("gpt-2"), HasSubstr("\"cb\"")));
  tokenizer["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {Split(kLlama3Pattern), kByteLevel}}};
  const Vocabulary whole = Parse(tokenizer);
  EXPECT_THAT(LoadByteLevel(whole).Encode("cb bccb"), testing::ElementsAre(259, 32, 258, 99, 98));
  tokenizer["model"]["ignore_merges"] = false;
  EXPECT_THAT(Refusal(tokenizer), HasSubstr("ignore_merges is false"));
}

TEST(TokenizerJsonTest, ByteLevelBpeIsKnownByWhatItDoes) {
  json tokenizer = ByteLevelJson();
  const auto set_steps = [&](const auto&... steps) {
    json list = json::array();
    (list.push_back(steps), ...);
    tokenizer["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", list}};
  };
  const auto pre = [&](const auto&... steps) {
    set_steps(steps...);
    return std::string(formats::PreTokenizerName(Parse(tokenizer).pre));
  };
  const json digits = {{"type", "Digits"}, {"individual_digits", true}};
  const json punctuation = {{"type", "Punctuation"}, {"behavior", "Contiguous"}};
  const json whitespace = {{"type", "Whitespace"}};
  const std::string gpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
  json removed = Split(kLlama3Pattern);
  removed["behavior"] = "Removed";
  removed["invert"] = true;
  EXPECT_EQ(pre(kByteLevelAndRegex), "gpt-2");
  EXPECT_EQ(pre(Split(gpt2), kByteLevel), "gpt-2");
  EXPECT_EQ(pre(digits, kByteLevelAndRegex), "smollm");
  EXPECT_EQ(pre(Split(R"(\p{N})"), kByteLevelAndRegex), "smollm");
  EXPECT_EQ(pre(Split(kLlama3Pattern), kByteLevel), "llama-bpe");
  EXPECT_EQ(pre(removed, kByteLevel), "llama-bpe");
  EXPECT_EQ(pre(punctuation, kByteLevelAndRegex, Split("[0-9][0-9][0-9]")), "falcon");
  const auto refused = [&](const auto&... steps) {
    set_steps(steps...);
    EXPECT_THAT(Refusal(tokenizer), AllOf(HasSubstr("pre_tokenizer"), HasSubstr("docs/tokenizer.md")));
  };
  refused(Split(R"(\w+)"), kByteLevel);
  refused(Split(R"(\s?[A-Za-z]+)"), kByteLevel);
  refused(Split(R"(\s?[A-]+)"), kByteLevel);
  refused(kByteLevelAndRegex, digits);
  refused(kByteLevel, kByteLevel);
  refused(kByteLevel);
  refused(digits, digits, kByteLevelAndRegex);
  refused(whitespace, kByteLevel);
  json other = kByteLevel;
  other["add_prefix_space"] = true;
  refused(other);
  other.erase("add_prefix_space");
  refused(other);
  other = Split(kLlama3Pattern);
  other["behavior"] = "MergedWithPrevious";
  refused(other, kByteLevel);
  other = Split(kLlama3Pattern);
  other["pattern"] = {{"String", kLlama3Pattern}};
  refused(other, kByteLevel);
}

TEST(TokenizerJsonTest, ByteLevelBpeThatIsRefused) {
  const auto with = [&](const char* pointer, const json& value) {
    json bad = ByteLevelJson();
    bad[json::json_pointer(pointer)] = value;
    return Refusal(bad);
  };
  EXPECT_THAT(with("/normalizer", {{"type", "NFKC"}}), HasSubstr("NFKC"));
  EXPECT_THAT(with("/decoder", nullptr), HasSubstr("decoder"));
  EXPECT_THAT(with("/decoder", {{"type", "Metaspace"}}), HasSubstr("decoder"));
  EXPECT_THAT(with("/decoder", 3), HasSubstr("decoder"));
  EXPECT_THAT(with("/model/byte_fallback", true), HasSubstr("byte_fallback"));
  EXPECT_THAT(with("/model/end_of_word_suffix", "</w>"), HasSubstr("end_of_word_suffix"));
  EXPECT_THAT(with("/post_processor", {{"type", "RobertaProcessing"}}), HasSubstr("RobertaProcessing"));
  EXPECT_THAT(with("/model/merges/0", "a nowhere"), HasSubstr("merge 0"));
  json bad = ByteLevelJson();
  bad["model"]["vocab"].erase("!");
  bad["model"]["vocab"]["other"] = 33;
  Parse(bad);
  bad["model"]["unk_token"] = "<|end|>";
  EXPECT_THAT(Refusal(bad), HasSubstr("unk_token"));
}

TEST(TokenizerJsonTest, WhatBecomesOfATextFirst) {
  json tokenizer = TokenizerJson(SentencePieceProto::Make(300));
  json& steps = tokenizer["normalizer"]["normalizers"];
  const json strip = {{"type", "Strip"}, {"strip_left", false}, {"strip_right", true}};
  const json fuse = {{"type", "Replace"}, {"pattern", {{"Regex", " {2,}"}}}, {"content", kSpace}};
  // A trie of one unit, no string.
  const json map = {{"type", "Precompiled"}, {"precompiled_charsmap", "BAAAAAAAAAA="}};
  EXPECT_FALSE(Parse(tokenizer).remove_extra_whitespaces);
  steps = json::array({map, strip, fuse, steps[0], steps[1]});
  const Vocabulary vocabulary = Parse(tokenizer);
  EXPECT_TRUE(vocabulary.remove_extra_whitespaces);
  EXPECT_EQ(vocabulary.charsmap, std::string("\x04\0\0\0\0\0\0\0", 8));
  for (const char* damaged : {"BAAAAAAAAAA", "BAAAAAAAAA==", "B*AAAAAAAAA=", "CAAAAAAAAAA="}) {
    steps[0]["precompiled_charsmap"] = damaged;
    EXPECT_THAT(Refusal(tokenizer), HasSubstr("precompiled_charsmap"));
  }
  steps.erase(0);
  Parse(tokenizer);
  steps.erase(1);
  EXPECT_THAT(Refusal(tokenizer), HasSubstr("Strip"));
}

TEST(TokenizerJsonTest, UnigramsPiecesAndScores) {
  json tokenizer = TokenizerJson(SentencePieceProto::Make(300));
  tokenizer["added_tokens"] = json::array();
  tokenizer["post_processor"] = nullptr;
  tokenizer["model"] = json::parse(
      "{\"type\": \"Unigram\", \"unk_id\": 1,"
      " \"vocab\": [[\"a\", -1.5], [\"<unk>\", 0], [\"\u2581\", -2], [\"ab\", -0.1]]}");
  const Vocabulary vocabulary = Parse(tokenizer);
  EXPECT_TRUE(vocabulary.is_unigram);
  EXPECT_EQ(vocabulary.unk, 1u);
  EXPECT_EQ(vocabulary.scores, (std::vector<float>{-1.5f, 0, -2, -0.1f}));
  const auto with = [&](const char* pointer, const json& value) {
    json bad = tokenizer;
    bad[json::json_pointer(pointer)] = value;
    return Refusal(bad);
  };
  EXPECT_THAT(with("/model/unk_id", 4), HasSubstr("unk_id"));
  EXPECT_THAT(with("/model/unk_id", nullptr), HasSubstr("unk_id"));
  EXPECT_THAT(with("/model/byte_fallback", true), HasSubstr("byte_fallback"));
  EXPECT_THAT(with("/model/vocab/2", "a"), HasSubstr("token 2"));
  EXPECT_THAT(with("/model/vocab/2/1", 1e300), HasSubstr("token 2"));
  EXPECT_THAT(with("/model/vocab", json::object()), HasSubstr("vocab"));
}

TEST(TokenizerJsonTest, OtherKindsAreRefusedByName) {
  const json good = TokenizerJson(SentencePieceProto::Make(300));
  const auto with = [&](const char* pointer, const json& value) {
    json bad = good;
    bad[json::json_pointer(pointer)] = value;
    return Refusal(bad);
  };
  EXPECT_THAT(with("/model/type", "Unigram"), HasSubstr("unk_id"));
  EXPECT_THAT(with("/model/type", "WordPiece"), HasSubstr("WordPiece"));
  EXPECT_THAT(with("/model/dropout", 0.1), HasSubstr("dropout"));
  EXPECT_THAT(with("/model/ignore_merges", true), HasSubstr("ignore_merges"));
  EXPECT_THAT(with("/model/continuing_subword_prefix", "##"), HasSubstr("continuing_subword_prefix"));
  EXPECT_THAT(with("/model/end_of_word_suffix", "</w>"), HasSubstr("end_of_word_suffix"));
  EXPECT_THAT(with("/model/unk_token", "<nowhere>"), HasSubstr("<nowhere>"));
  EXPECT_THAT(with("/model/vocab", json::array()), HasSubstr("vocab"));
  EXPECT_THAT(with("/model/vocab/a", 7), HasSubstr("7"));
  EXPECT_THAT(with("/model/vocab/a", "7"), HasSubstr("\"a\""));
  EXPECT_THAT(with("/model/vocab/a", 18446744073709551615u), HasSubstr("\"a\""));
  EXPECT_THAT(with("/model/vocab/with space", 300), HasSubstr("with space"));
  EXPECT_THAT(with("/model/merges", nullptr), HasSubstr("merges"));
  for (const json& merge : {json("a"), json("a b c"), json("ab"), json{"a"}, json{"a", "b", "c"}, json{"a", 1}, json(1),
                            json("a nowhere"), json("nowhere a"), json("z z"), json("\u2581 ")}) {
    EXPECT_THAT(with("/model/merges/3", merge), HasSubstr("merge 3")) << merge;
  }
  EXPECT_THAT(with("/model/merges/3", good["model"]["merges"][0]), HasSubstr("merges 0 and 3"));
  EXPECT_THAT(with("/model", nullptr), HasSubstr("model"));
  EXPECT_THAT(with("/pre_tokenizer", {{"type", "ByteLevel"}}),
              AllOf(HasSubstr("ByteLevel"), HasSubstr("byte_fallback")));
  EXPECT_THAT(with("/pre_tokenizer", {{"type", "Whitespace"}}), HasSubstr("Whitespace"));
  EXPECT_THAT(with("/pre_tokenizer", {{"type", "Split"}, {"pattern", {{"Regex", "\\s"}}}}), HasSubstr("Split"));
  EXPECT_THAT(with("/pre_tokenizer", {{"type", "Metaspace"}, {"replacement", "_"}}), HasSubstr("replacement"));
  EXPECT_THAT(with("/pre_tokenizer", {{"type", "Metaspace"}, {"replacement", kSpace}, {"prepend_scheme", "sometimes"}}),
              HasSubstr("sometimes"));
  EXPECT_THAT(with("/pre_tokenizer", {{"type", "Sequence"}}), HasSubstr("pre_tokenizer"));
  EXPECT_THAT(with("/normalizer", {{"type", "NFKC"}}), AllOf(HasSubstr("NFKC"), HasSubstr("tokenizer.model")));
  EXPECT_THAT(with("/normalizer/normalizers/0/prepend", "x"), HasSubstr("Prepend"));
  EXPECT_THAT(with("/normalizer/normalizers/1/content", "_"), HasSubstr("Replace"));
  EXPECT_THAT(with("/normalizer/normalizers/1/pattern", {{"Regex", " "}}), HasSubstr("Regex"));
  EXPECT_THAT(with("/normalizer", 3), HasSubstr("normalizer"));
  EXPECT_THAT(with("/normalizer", nullptr), HasSubstr("U+2581"));
  EXPECT_THAT(with("/decoder", {{"type", "ByteLevel"}}), HasSubstr("ByteLevel"));
  EXPECT_THAT(with("/post_processor", {{"type", "RobertaProcessing"}}), HasSubstr("RobertaProcessing"));
  json bad = good;
  bad["model"]["byte_fallback"] = false;
  bad["model"]["unk_token"] = nullptr;
  EXPECT_THAT(Refusal(bad), HasSubstr("unk_token"));
  bad = good;
  bad["model"]["byte_fallback"] = false;
  bad["pre_tokenizer"] = {{"type", "Metaspace"}, {"replacement", kSpace}, {"split", true}};
  bad["model"]["vocab"]["new"] = bad["model"]["vocab"][kSpace];
  bad["model"]["vocab"].erase(kSpace);
  EXPECT_THAT(Refusal(bad), HasSubstr("U+2581"));
  bad = good;
  bad["model"]["vocab"].erase("<0x0A>");
  bad["model"]["vocab"]["new"] = 13;
  EXPECT_EQ(std::ranges::count(Parse(bad).types, TokenType::kByte), 255);
  bad["model"]["unk_token"] = nullptr;
  EXPECT_THAT(Refusal(bad), HasSubstr("<0x0A>"));
  bad = good;
  bad["model"]["vocab"]["<0x0A>a"] = 300;
  bad["model"]["merges"].push_back("<0x0A> a");
  EXPECT_THAT(Refusal(bad), HasSubstr("byte tokens"));
  for (const char* text : {"", "{", "[]", "{}", "{\"model\": 1}", "{\"model\": {}, \"model\": {}}"}) RefusalOf(text);
}

TEST(TokenizerJsonTest, EveryTruncationIsRefused) {
  const std::string text = TokenizerJson(SentencePieceProto::Make(300)).dump();
  for (size_t n = 0; n < text.size(); n += 13) RefusalOf(text.substr(0, n));
}

// A long token made by many merges costs about its length.
TEST(TokenizerJsonTest, LongTokens) {
  json tokenizer = TokenizerJson(SentencePieceProto::Make(300));
  json& model = tokenizer["model"];
  model["merges"] = json::array();
  std::string token = "a";
  for (int i = 0; i < 15; ++i) {
    model["merges"].push_back({token, token});
    token += token;
    if (!model["vocab"].contains(token)) model["vocab"][token] = model["vocab"].size();
  }
  model["vocab"][token + "b"] = model["vocab"].size();
  const Vocabulary vocabulary = Parse(tokenizer);
  EXPECT_EQ(vocabulary.types[vocabulary.types.size() - 2], TokenType::kNormal);
  EXPECT_EQ(vocabulary.types.back(), TokenType::kUnused);
}

// The vocabulary and the merges are taken one by one: a document of objects would take twenty times its text. Both
// orders, and both spellings of a merge.
TEST(TokenizerJsonTest, NeedsLittleMoreMemoryThanTheFile) {
  json tokenizer = TokenizerJson(SentencePieceProto::Make(259));
  json& model = tokenizer["model"];
  std::string vocab, strings, pairs;
  auto add_token = [&, id = model["vocab"].size()](const std::string& token) mutable {
    vocab += "      \"" + token + "\": " + std::to_string(id++) + ",\n";
  };
  const auto add_merge = [&](const std::string& left, const std::string& right) {
    strings += "      \"" + left + " " + right + "\",\n";
    pairs += "      [\n        \"" + left + "\",\n        \"" + right + "\"\n      ],\n";
  };
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz";
  for (const char a : kLetters) add_token({a});
  for (const char a : kLetters) {
    for (const char b : kLetters) {
      add_token({a, b});
      add_merge({a}, {b});
    }
  }
  for (const char a : kLetters) {
    for (const char b : kLetters) {
      for (const char c : kLetters) {
        add_token({a, b, c});
        add_merge({a, b}, {c});
      }
    }
  }
  std::string small = model["vocab"].dump();
  small.back() = ',';
  const std::string tokens = "\"vocab\": " + small + "\n" + vocab.substr(0, vocab.size() - 2) + "}";
  model.erase("vocab");
  model.erase("merges");
  std::string rest = model.dump();
  rest.back() = ',';
  tokenizer.erase("model");
  std::string outer = tokenizer.dump();
  outer.back() = ',';
  std::optional<Vocabulary> first;
  for (const std::string& merges : {strings, pairs}) {
    const std::string list = "\"merges\": [" + merges.substr(0, merges.size() - 2) + "]";
    for (const bool vocab_first : {true, false}) {
      const std::string text =
          outer + "\"model\": " + rest + (vocab_first ? tokens : list) + ",\n" + (vocab_first ? list : tokens) + "}}";
      std::vector<std::string> notes;
      const std::string path = "FILE";
      const PeakMemory peak;
      const auto vocabulary = ParseTokenizerJson(text, path, notes);
      EXPECT_LE(peak.bytes(), 3 * text.size());
      ASSERT_TRUE(vocabulary) << vocabulary.error();
      ASSERT_GT(vocabulary->tokens.size(), 18'000u);
      if (!first) first = *vocabulary;
      EXPECT_EQ(vocabulary->tokens, first->tokens);
      EXPECT_EQ(vocabulary->scores, first->scores);
      EXPECT_EQ(vocabulary->types, first->types);
    }
  }
}

TEST(TokenizerJsonTest, TheRealOneGivesTheIdsOfTheRealModel) {
  const char* real = std::getenv("THIMBLE_REAL_MODELS");
  if (real == nullptr) GTEST_SKIP() << "THIMBLE_REAL_MODELS is not set";
  const std::string folder = std::string(real) + "/tokenizer-llama2-32000/";
  std::vector<std::string> notes;
  const auto from_json = ParseTokenizerJson(ReadFile(folder + "tokenizer.json"), "FILE", notes);
  const auto from_model = ParseSentencePieceModel(ReadFile(folder + "tokenizer.model"), "FILE");
  ASSERT_TRUE(from_json) << from_json.error();
  ASSERT_TRUE(from_model);
  EXPECT_THAT(notes, IsEmpty());
  EXPECT_EQ(from_json->tokens, from_model->tokens);
  EXPECT_EQ(from_json->types, from_model->types);
  EXPECT_EQ(from_json->bos, from_model->bos);
  EXPECT_EQ(from_json->eos, from_model->eos);
  EXPECT_EQ(from_json->unk, from_model->unk);
  const LoadedTokenizer a = Load(*from_json);
  const LoadedTokenizer b = Load(*from_model);
  const auto expect_same = [&](const std::string& text) { ASSERT_EQ(a.Encode(text), b.Encode(text)) << text; };

  const std::string cases = ReadFile(folder + "ggml-vocab-llama-spm.gguf.inp");
  const std::string between = "\n__ggml_vocab_test__\n";
  int num_cases = 1;  // the last is the empty text
  for (size_t begin = 0, end; (end = cases.find(between, begin)) != cases.npos; begin = end + between.size()) {
    expect_same(cases.substr(begin, end - begin));
    ++num_cases;
  }
  EXPECT_EQ(num_cases, 47);
  std::mt19937_64 random(5);
  for (int i = 0; i < 5000; ++i) {
    std::string text;
    for (size_t n = random() % 12; n > 0; --n) {
      switch (random() % 4) {
        case 0:
          text += static_cast<char>(random());
          break;
        case 1:
          text += ' ';
          break;
        default:
          text += from_model->tokens[random() % from_model->tokens.size()];
      }
    }
    expect_same(text);
  }
}

}  // namespace
}  // namespace thimble::host

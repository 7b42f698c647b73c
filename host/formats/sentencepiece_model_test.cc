#include "host/formats/sentencepiece_model.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <limits>
#include <random>

#include "tests/support/checkpoints.h"

namespace thimble::host {
namespace {

using namespace thimble::tests;
using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

std::string Refusal(std::string_view bytes) {
  const auto vocabulary = ParseSentencePieceModel(bytes, "FILE");
  EXPECT_FALSE(vocabulary);
  const std::string sentence = vocabulary ? "" : vocabulary.error();
  EXPECT_THAT(sentence, AllOf(StartsWith("FILE"), Not(EndsWith("."))));
  return sentence;
}
std::string Refusal(const SentencePieceProto& proto) { return Refusal(proto.Serialize()); }

void ExpectEqualsLibrary(const std::string& model) {
  sentencepiece::SentencePieceProcessor library;
  ASSERT_TRUE(library.LoadFromSerializedProto(model).ok());
  const auto ours = ParseSentencePieceModel(model, "FILE");
  ASSERT_TRUE(ours) << ours.error();
  ASSERT_EQ(ours->tokens.size(), static_cast<size_t>(library.GetPieceSize()));
  for (int id = 0; id < library.GetPieceSize(); ++id) {
    const auto i = static_cast<size_t>(id);
    EXPECT_EQ(ours->tokens[i], library.IdToPiece(id));
    EXPECT_EQ(ours->scores[i], library.GetScore(id));
    EXPECT_EQ(ours->types[i] == TokenType::kUnknown, library.IsUnknown(id));
    EXPECT_EQ(ours->types[i] == TokenType::kControl, library.IsControl(id));
    EXPECT_EQ(ours->types[i] == TokenType::kUnused, library.IsUnused(id));
    EXPECT_EQ(ours->types[i] == TokenType::kByte, library.IsByte(id));
  }
  const auto id_of = [](const std::optional<TokenId>& id) { return id ? static_cast<int>(*id) : -1; };
  EXPECT_EQ(id_of(ours->unk), library.unk_id());
  EXPECT_EQ(id_of(ours->bos), library.bos_id());
  EXPECT_EQ(id_of(ours->eos), library.eos_id());
}

class Sentences : public sentencepiece::SentenceIterator {
 public:
  explicit Sentences(std::vector<std::string> sentences) : sentences_(std::move(sentences)) {}
  bool done() const override { return at_ == sentences_.size(); }
  void Next() override { ++at_; }
  const std::string& value() const override { return sentences_[at_]; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  std::vector<std::string> sentences_;
  size_t at_ = 0;
};

// A model that the library trained.
std::string Trained(const std::string& options, const std::string& type = "bpe",
                    const std::string& normalization = "identity") {
  std::mt19937_64 random(1);
  std::vector<std::string> sentences;
  for (int i = 0; i < 300; ++i) {
    std::string sentence;
    for (int word = 0; word < 8; ++word) {
      sentence += " ";
      for (uint64_t n = 1 + random() % 6; n > 0; --n) sentence += static_cast<char>('a' + random() % 9);
    }
    sentences.push_back(sentence + " \u00e4\u20ac");
  }
  Sentences iterator(std::move(sentences));
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(
      fmt::format("--vocab_size=400 --remove_extra_whitespaces=false --minloglevel=2 --model_type={} "
                  "--normalization_rule_name={} {}",
                  type, normalization, options),
      &iterator, &model);
  EXPECT_TRUE(status.ok()) << status.ToString();
  return model;
}

TEST(SentencePieceModel, EqualsWhatTheLibraryReads) {
  ExpectEqualsLibrary(Trained("--byte_fallback=true"));
  ExpectEqualsLibrary(Trained("--byte_fallback=false"));
  ExpectEqualsLibrary(Trained("--byte_fallback=true --user_defined_symbols=<x>,abc --control_symbols=<c>"));
  ExpectEqualsLibrary(Trained("--byte_fallback=true --unk_id=3 --bos_id=1 --eos_id=0 --pad_id=2"));
  ExpectEqualsLibrary(Trained("--byte_fallback=true --bos_id=-1 --eos_id=-1"));
  ExpectEqualsLibrary(Trained("--byte_fallback=true --bos_piece=<begin> --eos_piece=<end> --unk_piece=<what>"));
  ExpectEqualsLibrary(SentencePieceProto::Make(300).Serialize());
}

TEST(SentencePieceModel, TheDummyPrefixIsTheModels) {
  SentencePieceProto proto = SentencePieceProto::Make(300);
  EXPECT_TRUE(ParseSentencePieceModel(proto.Serialize(), "FILE")->add_space_prefix);
  proto.add_dummy_prefix = false;
  EXPECT_FALSE(ParseSentencePieceModel(proto.Serialize(), "FILE")->add_space_prefix);
}

TEST(SentencePieceModel, WhatBecomesOfATextIsTheModels) {
  const auto unigram =
      ParseSentencePieceModel(Trained("--byte_fallback=true --hard_vocab_limit=false", "unigram"), "FILE");
  ASSERT_TRUE(unigram) << unigram.error();
  EXPECT_TRUE(unigram->is_unigram);
  EXPECT_TRUE(unigram->charsmap.empty());
  EXPECT_FALSE(unigram->remove_extra_whitespaces);
  const auto mapped = ParseSentencePieceModel(Trained("--byte_fallback=true", "bpe", "nmt_nfkc"), "FILE");
  ASSERT_TRUE(mapped) << mapped.error();
  EXPECT_FALSE(mapped->is_unigram);
  EXPECT_GT(mapped->charsmap.size(), 100'000u);
  SentencePieceProto proto = SentencePieceProto::Make(300);
  proto.remove_extra_whitespaces = true;
  proto.escape_whitespaces = false;
  const auto spaces = ParseSentencePieceModel(proto.Serialize(), "FILE");
  ASSERT_TRUE(spaces) << spaces.error();
  EXPECT_TRUE(spaces->remove_extra_whitespaces);
  EXPECT_FALSE(spaces->escape_whitespaces);
}

TEST(SentencePieceModel, OtherModelsAreRefusedByName) {
  SentencePieceProto proto = SentencePieceProto::Make(300);
  const std::array<const char*, 5> names = {"type 0", "unigram", "BPE", "word", "character"};
  for (int type : {0, 3, 4}) {
    proto.model_type = type;
    EXPECT_THAT(Refusal(proto), HasSubstr(names[static_cast<size_t>(type)]));
  }
  for (int type : {5, 1000}) {
    proto.model_type = type;
    EXPECT_THAT(Refusal(proto), HasSubstr(fmt::format("type {}", type)));
  }
}

TEST(SentencePieceModel, OtherNormalisationIsRefusedByName) {
  const SentencePieceProto good = SentencePieceProto::Make(300);
  SentencePieceProto proto = good;
  proto.normalizer_name = "nfkc";
  const std::string unit(4, '\0');
  // Too short, no trie, a trie that is longer than the map, a string that does not end, one that is too long.
  for (const std::string& map :
       {std::string("x"), unit + "x", "\x08" + std::string(7, '\0'), "\x04" + std::string(7, '\0') + "x",
        "\x04" + std::string(7, '\0') + std::string(256, 'x') + '\0'}) {
    proto.charsmap = map;
    EXPECT_THAT(Refusal(proto), AllOf(HasSubstr("nfkc"), HasSubstr("damaged")));
  }
  proto = good;
  proto.whitespace_as_suffix = true;
  EXPECT_THAT(Refusal(proto), HasSubstr("treat_whitespace_as_suffix"));
}

TEST(SentencePieceModel, BadPiecesAreNamed) {
  const SentencePieceProto good = SentencePieceProto::Make(300);
  const auto changed = [&](size_t id, ProtoPiece piece) {
    SentencePieceProto proto = good;
    proto.pieces[id] = piece;
    return Refusal(proto);
  };
  EXPECT_THAT(changed(299, {"", 0, 1}), HasSubstr("piece 299"));
  EXPECT_THAT(changed(299, {"\xff", 0, 1}), HasSubstr("UTF-8"));
  EXPECT_THAT(changed(299, {"a", 0, 1}), HasSubstr("twice"));
  EXPECT_THAT(changed(299, {"zz", std::numeric_limits<float>::quiet_NaN(), 1}), HasSubstr("score"));
  EXPECT_THAT(changed(299, {"zz", -std::numeric_limits<float>::infinity(), 1}), HasSubstr("score"));
  EXPECT_THAT(changed(299, {"zz", 0, 2}), HasSubstr("second unknown"));
  for (int type : {0, 7, -1}) EXPECT_THAT(changed(299, {"zz", 0, type}), HasSubstr("type"));
  EXPECT_THAT(changed(0, {"<unk>", 0, 1}), HasSubstr("no unknown piece"));
  EXPECT_THAT(changed(299, {"<0x7>", 0, 6}), HasSubstr("byte"));
  SentencePieceProto proto = good;
  proto.byte_fallback = false;
  EXPECT_THAT(Refusal(proto), HasSubstr("byte_fallback is off"));
}

TEST(SentencePieceModel, BrokenFilesAreRefused) {
  Refusal("");
  Refusal("x");
  Refusal(std::string(1000, '\xff'));
  Refusal(R"({"model": {"type": "BPE"}})");
  const std::string good = SentencePieceProto::Make(300).Serialize();
  for (size_t n = 0; n < good.size(); ++n) {
    // Cut inside or between the pieces, a model loses its settings, and with them what it is.
    EXPECT_FALSE(ParseSentencePieceModel(std::string_view(good).substr(0, n), "FILE"));
  }
}

}  // namespace
}  // namespace thimble::host

#include "host/models/prompt_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <bit>
#include <cstring>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "host/models/plan_request.h"
#include "tests/support/checkpoints.h"
#include "tests/support/synth_file.h"

namespace thimble::host {
namespace {

using namespace thimble::tests;
using testing::EndsWith;
using testing::HasSubstr;

constexpr char kShape[] =
    "vocab_size=300,hidden_size=32,intermediate_size=40,num_attention_heads=4,num_key_value_heads=2,head_dim=32,"
    "num_hidden_layers=2,max_position_embeddings=64";
const std::vector<TokenId> kPrompt = {1, 57, 200, 4, 57, 9, 8, 7, 200};

// Little-endian, at a byte of a text.
void Put(std::string& bytes, size_t at, uint64_t value, size_t size) { std::memcpy(&bytes[at], &value, size); }
uint64_t Get(const std::string& bytes, size_t at, size_t size) {
  uint64_t value = 0;
  std::memcpy(&value, &bytes[at], size);
  return value;
}
uint32_t Checksum(std::string_view bytes, uint32_t seed = 0) { return XXH32(bytes.data(), bytes.size(), seed); }

// Both checksums as they should be, whatever else was changed.
void Seal(std::string& bytes) {
  Put(bytes, 68, Checksum(std::string_view(bytes).substr(128)), 4);
  Put(bytes, 12, Checksum(std::string_view(bytes).substr(16, 112)), 4);
}

// A model and a session of it.
struct Opened {
  Opened(const std::string& model, const CacheRequest& types, uint32_t n_ctx = 0) {
    auto opened = LoadedModel::Open({.model = model, .board = "host"});
    EXPECT_TRUE(opened) << opened.error();
    loaded = std::move(*opened);
    auto made = MakePlan(*loaded, {.n_ctx = n_ctx, .cache = types}, {.temperature = 0});
    EXPECT_TRUE(made) << made.error();
    plan = *made;
    auto started = loaded->OpenSession(plan);
    EXPECT_TRUE(started) << started.error();
    session = *started;
  }

  std::vector<TokenId> Write(int n) const {
    std::vector<TokenId> ids;
    for (int i = 0; i < n; ++i) {
      const auto id = session->Next({.temperature = 0});
      EXPECT_TRUE(id);
      ids.push_back(*id);
    }
    return ids;
  }

  std::unique_ptr<LoadedModel> loaded;
  plan::Plan plan;
  Session* session = nullptr;
};

class PromptCacheTest : public testing::Test {
 protected:
  // What is said of it; empty: nothing.
  std::string Note(const PromptCacheRequest& request, Opened& model) {
    const auto cache = PromptCache::Open(request, *model.loaded, *model.session);
    return cache ? cache->not_used() : "refused: " + cache.error();
  }

  // The file of kPrompt.
  std::string Keep(const CacheRequest& types) {
    Opened model(model_, types);
    auto cache = PromptCache::Open({.file = file_}, *model.loaded, *model.session);
    EXPECT_TRUE(cache) << cache.error();
    EXPECT_TRUE(model.session->Prefill(kPrompt));
    EXPECT_TRUE(cache->Save(*model.session, static_cast<uint32_t>(kPrompt.size())));
    EXPECT_EQ(cache->size(), kPrompt.size());
    return ReadFile(file_);
  }

  TemporaryFolder folder_;
  const std::string model_ = WriteSynth(folder_ / "a.gguf", kShape);
  const std::string file_ = folder_ / "a.cache";
};

constexpr auto kF32 = DType::kF32, kF16 = DType::kF16, kQ8 = DType::kQ8_0;
const CacheRequest kTypes[] = {{}, {kF16, kF16}, {kQ8, kQ8}, {kF32, kQ8}};

TEST_F(PromptCacheTest, TheTextIsTheSameWithIt) {
  for (const CacheRequest& types : kTypes) {
    std::filesystem::remove(file_);
    Opened plain(model_, types);
    ASSERT_TRUE(plain.session->Prefill(kPrompt));
    const std::vector<TokenId> want = plain.Write(12);
    Keep(types);

    // The same prompt, one with the same beginning, one that goes on from it, and one with nothing in common.
    std::vector<TokenId> other = kPrompt, longer = kPrompt;
    other[5] = 11;
    longer.insert(longer.end(), {3, 5});
    const std::vector<TokenId> alien = {7, 7, 7};
    for (const auto& [prompt, kept] : {std::pair{kPrompt, 8u}, {other, 5u}, {longer, 9u}, {alien, 0u}}) {
      for (const uint32_t n_ctx : {0u, 24u}) {
        Opened fresh(model_, types, n_ctx);
        ASSERT_TRUE(fresh.session->Prefill(prompt));
        Opened model(model_, types, n_ctx);
        EXPECT_EQ(Note({.file = file_}, model), "");
        const ZoneCounts before = model.loaded->ledger().total();
        const auto replaced = model.session->Replace(prompt);
        ASSERT_TRUE(replaced);
        EXPECT_EQ(*replaced, kept);
        EXPECT_GT(model.loaded->ledger().total().card_bytes, before.card_bytes);
        for (uint32_t i = 0; i < model.session->shape().hidden_size; ++i) {
          ASSERT_EQ(std::bit_cast<uint32_t>(model.session->hidden()[i]),
                    std::bit_cast<uint32_t>(fresh.session->hidden()[i]));
        }
        EXPECT_EQ(model.Write(12), fresh.Write(12));
        if (prompt == kPrompt) {
          ASSERT_TRUE(model.session->Replace(prompt));
          EXPECT_EQ(model.Write(12), want);
        }
      }
    }
    // A context with fewer positions takes as many as it has.
    Opened narrow(model_, types, 6);
    EXPECT_EQ(Note({.file = file_}, narrow), "");
    EXPECT_EQ(narrow.session->n_past(), 6u);
  }
}

// As docs/formats/prompt_cache.md has it.
TEST_F(PromptCacheTest, ByteByByte) {
  for (const CacheRequest& types : kTypes) {
    const DType k = types.k.value_or(kF32), v = types.v.value_or(kF32);
    const std::string bytes = Keep(types);
    const std::string model = ReadFile(model_);
    EXPECT_EQ(bytes.substr(0, 8), "THMBLKV\n");
    EXPECT_EQ(Get(bytes, 8, 4), 1u);
    EXPECT_EQ(Get(bytes, 12, 4), Checksum(std::string_view(bytes).substr(16, 112)));
    EXPECT_EQ(Get(bytes, 16, 8), bytes.size());
    EXPECT_EQ(Get(bytes, 24, 8), model.size());
    EXPECT_EQ(Get(bytes, 32, 4), Checksum(model));
    EXPECT_EQ(Get(bytes, 36, 4), Checksum(model, 1));
    EXPECT_EQ(Get(bytes, 40, 4), 2u);
    EXPECT_EQ(Get(bytes, 44, 4), 2u);
    EXPECT_EQ(Get(bytes, 48, 4), 32u);
    EXPECT_EQ(Get(bytes, 52, 4), 300u);
    EXPECT_EQ(Get(bytes, 56, 4), k == kF32 ? 0u : k == kF16 ? 1u : 3u);
    EXPECT_EQ(Get(bytes, 60, 4), v == kF32 ? 0u : v == kF16 ? 1u : 3u);
    EXPECT_EQ(Get(bytes, 64, 4), 9u);
    EXPECT_EQ(Get(bytes, 68, 4), Checksum(std::string_view(bytes).substr(128)));
    EXPECT_EQ(bytes.substr(72, 56), std::string(56, '\0'));
    size_t at = 128;
    for (const TokenId id : kPrompt) {
      EXPECT_EQ(Get(bytes, at, 4), id);
      at += 4;
    }
    Opened again(model_, types);
    ASSERT_TRUE(again.session->Prefill(kPrompt));
    for (const bool are_values : {false, true}) {
      for (uint32_t layer = 0; layer < 2; ++layer) {
        for (uint32_t head = 0; head < 2; ++head) {
          const auto rows = are_values ? again.session->values(layer, head) : again.session->keys(layer, head);
          const DType type = are_values ? v : k;
          const size_t size = 9 * (type == kF32 ? 128 : type == kF16 ? 64 : 34);
          EXPECT_EQ(std::memcmp(&bytes[at], rows.data(), size), 0);
          at += size;
        }
      }
    }
    EXPECT_EQ(at, bytes.size());
    std::filesystem::remove(file_);
  }
}

TEST_F(PromptCacheTest, WhatIsKeptIsNotWrittenAgainNorWithoutLeave) {
  const std::string kept = Keep({});
  Opened model(model_, {});
  auto cache = PromptCache::Open({.file = file_}, *model.loaded, *model.session);
  ASSERT_TRUE(cache);
  EXPECT_EQ(cache->size(), 9u);
  WriteFile(file_, "other");  // would be replaced
  ASSERT_TRUE(model.session->Replace(kPrompt));
  ASSERT_TRUE(cache->Save(*model.session, 9));
  EXPECT_EQ(ReadFile(file_), "other");
  ASSERT_TRUE(model.session->Replace(std::vector<TokenId>{1, 2, 3}));
  ASSERT_TRUE(cache->Save(*model.session, 100));
  EXPECT_EQ(Get(ReadFile(file_), 64, 4), 3u);

  WriteFile(file_, kept);
  Opened reader(model_, {});
  auto read_only = PromptCache::Open({.file = file_, .read_only = true}, *reader.loaded, *reader.session);
  ASSERT_TRUE(read_only);
  ASSERT_TRUE(reader.session->Replace(std::vector<TokenId>{1, 2, 3}));
  ASSERT_TRUE(read_only->Save(*reader.session, 3));
  EXPECT_EQ(ReadFile(file_), kept);
}

TEST_F(PromptCacheTest, AnothersIsNotUsedAndSaysSo) {
  const std::string kept = Keep({});
  Opened model(model_, {});
  const auto note_of = [&](const std::string& bytes) {
    model.session->Clear();
    WriteFile(file_, bytes);
    const std::string note = Note({.file = file_}, model);
    EXPECT_EQ(model.session->n_past(), note.empty() && !bytes.empty() ? 9u : 0u);
    return note;
  };
  EXPECT_EQ(note_of(kept), "");
  EXPECT_EQ(note_of(""), "");
  const auto changed = [&](size_t at, uint64_t value, size_t size) {
    std::string bytes = kept;
    Put(bytes, at, value, size);
    Seal(bytes);
    return note_of(bytes);
  };
  EXPECT_EQ(changed(8, 2, 4), "the prompt cache " + file_ +
                                  " was written by another version of Thimble; it is not used, and replaced when the "
                                  "text is done");
  for (const size_t of_model : {24, 32, 36, 40, 44, 48, 52}) {
    EXPECT_THAT(changed(of_model, 77, 4), HasSubstr("is of another model; it is not used")) << of_model;
  }
  EXPECT_THAT(changed(56, 1, 4), HasSubstr("has keys as f16, values as f32, and this run keys as f32, values as f32"));
  EXPECT_THAT(note_of("something else"), HasSubstr("refused: --prompt-cache: " + file_ + " is no prompt cache"));
  EXPECT_EQ(ReadFile(file_), "something else");

  // The same shape with other weights.
  WriteFile(file_, kept);
  std::string bytes = ReadFile(model_);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  WriteFile(folder_ / "b.gguf", bytes);
  Opened other(folder_ / "b.gguf", {});
  EXPECT_THAT(Note({.file = file_, .read_only = true}, other), EndsWith("is of another model; it is not used"));
  EXPECT_EQ(ReadFile(file_), kept);
}

TEST_F(PromptCacheTest, DamageIsFoundWhereverItIs) {
  const std::string kept = Keep({kF16, kQ8});
  Opened model(model_, {kF16, kQ8});
  const auto is_refused = [&](const std::string& bytes) {
    WriteFile(file_, bytes);
    const std::string note = Note({.file = file_}, model);
    EXPECT_EQ(model.session->n_past(), 0u);
    return !note.empty();
  };
  for (size_t size = 1; size < kept.size(); size += size < 200 ? 1 : 97) {
    EXPECT_TRUE(is_refused(kept.substr(0, size))) << size;
  }
  EXPECT_TRUE(is_refused(kept + '\0'));
  for (size_t at = 0; at < kept.size(); at += at < 200 ? 1 : 41) {
    std::string bytes = kept;
    bytes[at] = static_cast<char>(bytes[at] ^ 1 << at % 8);
    EXPECT_TRUE(is_refused(bytes)) << at;
  }
  // What somebody made on purpose, with right checksums: counts that are huge, ids that there are not, numbers that
  // are none.
  const auto with = [&](size_t at, uint64_t value, size_t size) {
    std::string bytes = kept;
    Put(bytes, at, value, size);
    Seal(bytes);
    return bytes;
  };
  for (const uint64_t n : {uint64_t{0}, uint64_t{8}, uint64_t{10}, uint64_t{1} << 31, uint64_t{0xffffffff}}) {
    EXPECT_TRUE(is_refused(with(64, n, 4))) << n;
  }
  for (const uint32_t type : {2u, 4u, 11u, 12u, 0xffffffffu}) EXPECT_TRUE(is_refused(with(56, type, 4))) << type;
  EXPECT_TRUE(is_refused(with(16, std::numeric_limits<uint64_t>::max(), 8)));
  EXPECT_TRUE(is_refused(with(100, 1, 1)));
  EXPECT_TRUE(is_refused(with(128 + 8, 300, 4)));
  EXPECT_TRUE(is_refused(with(128 + 9 * 4 + 2, 0x7c00, 2)));   // a key
  EXPECT_TRUE(is_refused(with(kept.size() - 34, 0xfe00, 2)));  // the scale of a value

  // After all that a session is as good as new.
  Opened fresh(model_, {kF16, kQ8});
  ASSERT_TRUE(fresh.session->Prefill(kPrompt));
  ASSERT_TRUE(model.session->Replace(kPrompt));
  EXPECT_EQ(model.Write(9), fresh.Write(9));
}

TEST_F(PromptCacheTest, WhatCannotBeWrittenIsSaidBeforeAnythingRuns) {
  Opened model(model_, {});
  for (const std::string& path : {folder_.path(), folder_ / "none/a.cache", model_, std::string("/dev/full")}) {
    EXPECT_THAT(Note({.file = path}, model), HasSubstr("refused: ")) << path;
  }
  EXPECT_EQ(Note({.file = folder_ / "none/a.cache", .read_only = true}, model), "");
}

}  // namespace
}  // namespace thimble::host

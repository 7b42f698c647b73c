#include "engine/thimble.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <new>

#include "engine/storage/callback_device.h"
#include "engine/story.h"

namespace {

using namespace thimble;

constexpr size_t kMaxSentenceBytes = 320;
constexpr size_t kMaxPieceBytes = 256;

std::span<std::byte> Bytes(void* memory, size_t bytes) {
  return {static_cast<std::byte*>(memory), memory == nullptr ? 0 : bytes};
}

bool IsAligned(const void* memory, size_t alignment) { return reinterpret_cast<uintptr_t>(memory) % alignment == 0; }

}  // namespace

struct thimble_story {
  thimble_story(const thimble_card& given, const thimble_memory& memory)
      : card(given),
        device({.block_bytes = given.block_bytes == 0 ? 512 : given.block_bytes,
                .buffer_align = given.buffer_align == 0 ? 16 : given.buffer_align,
                .size_bytes = given.size_bytes},
               Read, &card),
        story(device, {.dma = Bytes(memory.dma, memory.dma_bytes),
                       .sram = Bytes(memory.sram, memory.sram_bytes),
                       .psram = Bytes(memory.psram, memory.psram_bytes)}) {}

  static bool Read(void* context, uint64_t offset_bytes, void* out, size_t bytes) {
    const auto* const card = static_cast<const thimble_card*>(context);
    return card->read(card->context, offset_bytes, out, bytes) != 0;
  }

  bool Keep(const Result<void>& result) {
    why[0] = '\0';
    if (!result) FormatError(result.error(), why);
    return result.has_value();
  }

  thimble_card card;
  storage::CallbackDevice device;
  Story story;
  std::string_view left;  // of the piece that is given out
  std::array<char, kMaxPieceBytes + 1> piece = {};
  std::array<char, kMaxSentenceBytes> why = {};
};

size_t thimble_story_bytes(void) { return sizeof(thimble_story); }

thimble_options thimble_default_options(void) {
  const head::SamplerOptions usual;
  return {.model = nullptr,
          .n_ctx = 0,
          .temperature = usual.temperature,
          .top_k = usual.top_k,
          .top_p = usual.top_p,
          .seed = usual.seed};
}

thimble_story* thimble_open(const thimble_card* card, const thimble_memory* memory, const thimble_options* options,
                            char* why, size_t why_bytes) {
  const auto refuse = [&](const char* sentence) -> thimble_story* {
    if (why != nullptr && why_bytes > 0) {
      const size_t length = std::min(std::strlen(sentence), why_bytes - 1);
      std::memcpy(why, sentence, length);
      why[length] = '\0';
    }
    return nullptr;
  };
  if (card == nullptr || card->read == nullptr || memory == nullptr) return refuse("a card and memory are needed");
  const uint32_t block_bytes = card->block_bytes == 0 ? 512 : card->block_bytes;
  const uint32_t align = card->buffer_align == 0 ? 16 : card->buffer_align;
  const auto is_power = [](uint32_t n) { return (n & (n - 1)) == 0; };
  if (!is_power(block_bytes) || block_bytes < 512 || !is_power(align) || align > block_bytes ||
      card->size_bytes % block_bytes != 0) {
    return refuse("the card's blocks are a power of two, of 512 bytes at least, and its size is whole blocks");
  }
  if (memory->story == nullptr || memory->story_bytes < sizeof(thimble_story)) {
    return refuse("the story itself needs thimble_story_bytes() of memory");
  }
  if (!IsAligned(memory->story, alignof(thimble_story)) || !IsAligned(memory->dma, std::max<size_t>(align, 16)) ||
      !IsAligned(memory->sram, 16) || !IsAligned(memory->psram, 16)) {
    return refuse("memory must be aligned to 16 bytes, and that for the card as the card wants it");
  }
  auto* const story = new (memory->story) thimble_story(*card, *memory);
  const thimble_options chosen = options == nullptr ? thimble_default_options() : *options;
  StoryOptions open;
  if (chosen.model != nullptr) open.model = chosen.model;
  open.n_ctx = chosen.n_ctx;
  open.sampler.temperature = chosen.temperature;
  open.sampler.top_k = chosen.top_k;
  open.sampler.top_p = chosen.top_p;
  open.sampler.seed = chosen.seed;
  if (!story->Keep(story->story.Open(open))) return refuse(story->why.data());
  return story;
}

int thimble_prompt(thimble_story* story, const char* text, int64_t n_predict) {
  story->left = {};
  return story->Keep(story->story.Prompt(text, n_predict)) ? 1 : 0;
}

const char* thimble_next(thimble_story* story) {
  story->why[0] = '\0';
  if (story->left.empty()) {
    const Result<std::string_view> next = story->story.Next();
    if (!next) FormatError(next.error(), story->why);
    if (!next || next->empty()) return nullptr;
    story->left = *next;
  }
  // At the end of a character.
  size_t length = std::min(story->left.size(), kMaxPieceBytes);
  while (length < story->left.size() && (story->left[length] & 0xC0) == 0x80) --length;
  std::memcpy(story->piece.data(), story->left.data(), length);
  story->piece[length] = '\0';
  story->left.remove_prefix(length);
  return story->piece.data();
}

void thimble_stop(thimble_story* story) { story->story.Stop(); }

const char* thimble_why(const thimble_story* story) { return story->why.data(); }

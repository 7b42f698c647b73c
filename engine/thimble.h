/* A model on a card, a prompt, and its text piece by piece, for C: engine/story.h says what each of these does.
 * No heap: all memory is the caller's. One thread, but for thimble_stop(). */
#ifndef THIMBLE_ENGINE_THIMBLE_H_
#define THIMBLE_ENGINE_THIMBLE_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The card: a function that reads whole blocks, and what it is of. */
typedef struct {
  /* Reads `bytes` bytes from `offset_bytes` on into `out`; 0 if it cannot. Both are multiples of `block_bytes`. */
  int (*read)(void* context, uint64_t offset_bytes, void* out, size_t bytes);
  void* context;
  uint64_t size_bytes;   /* a multiple of block_bytes */
  uint32_t block_bytes;  /* a power of two, 512 at least; 0: 512 */
  uint32_t buffer_align; /* of `out`: a power of two; 0: 16 */
} thimble_card;

/* StoryMemory, each aligned to 16 bytes; `psram` may be null, of 0 bytes. `story` holds the object itself:
 * thimble_story_bytes() of it. */
typedef struct {
  void* story;
  size_t story_bytes;
  void* dma;
  size_t dma_bytes;
  void* sram;
  size_t sram_bytes;
  void* psram;
  size_t psram_bytes;
} thimble_memory;

typedef struct {
  const char* model; /* null: the first on the card */
  uint32_t n_ctx;    /* 0: as many as there is room for */
  float temperature; /* 0: always the likeliest */
  uint32_t top_k;    /* 0: all */
  float top_p;       /* 1: all */
  uint64_t seed;
} thimble_options;

typedef struct thimble_story thimble_story;

size_t thimble_story_bytes(void);

/* The usual sampler: temperature 0.8, top-k 40, top-p 0.95, seed 0. */
thimble_options thimble_default_options(void);

/* Copies what it is given; the memory and the card's context outlive the story. Null, and a sentence in `why`, of
 * `why_bytes` with its 0, if it cannot. `why` may be null. */
thimble_story* thimble_open(const thimble_card* card, const thimble_memory* memory, const thimble_options* options,
                            char* why, size_t why_bytes);

/* 1, or 0: thimble_why(). A negative `n_predict` is no limit. */
int thimble_prompt(thimble_story* story, const char* text, int64_t n_predict);

/* The next piece, UTF-8 with a 0 at its end, valid until the next call. Null at the end, and after a failure:
 * thimble_why() is not empty then. */
const char* thimble_next(thimble_story* story);

void thimble_stop(thimble_story* story);

/* The sentence of the last call that failed; "" if the last one did not. Valid until the next call. */
const char* thimble_why(const thimble_story* story);

#ifdef __cplusplus
}
#endif

#endif /* THIMBLE_ENGINE_THIMBLE_H_ */

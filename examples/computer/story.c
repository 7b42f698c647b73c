/* A model in a file or a card's image tells a story: story MODEL.gguf "Once upon a time" */
#include <stdalign.h>
#include <stdio.h>
#include <thimble.h>

/* An ESP32-CAM's memory; a computer has more to give. */
static alignas(64) unsigned char dma[128 * 1024], sram[128 * 1024], psram[4 * 1024 * 1024], story_memory[64 * 1024];

static int read_file(void* context, uint64_t offset_bytes, void* out, size_t bytes) {
  FILE* const file = context;
  if (fseek(file, (long)offset_bytes, SEEK_SET) != 0) return 0;
  const size_t read = fread(out, 1, bytes, file);
  for (size_t i = read; i < bytes; ++i) ((unsigned char*)out)[i] = 0; /* the last block's rest */
  return !ferror(file);
}

int main(int argc, char** argv) {
  if (argc < 2) return fprintf(stderr, "usage: story MODEL.gguf [PROMPT]\n"), 2;
  FILE* const file = fopen(argv[1], "rb");
  if (file == NULL || fseek(file, 0, SEEK_END) != 0) return perror(argv[1]), 1;
  char why[300];
  const thimble_card card = {read_file, file, ((uint64_t)ftell(file) + 511) / 512 * 512, 0, 0};
  const thimble_memory memory = {story_memory, sizeof story_memory, dma, sizeof dma, sram, sizeof sram, psram, sizeof psram};
  thimble_story* const story = thimble_open(&card, &memory, NULL, why, sizeof why);
  if (story == NULL) return fprintf(stderr, "%s\n", why), 1;
  const char* const prompt = argc > 2 ? argv[2] : "Once upon a time";
  if (!thimble_prompt(story, prompt, 200)) return fprintf(stderr, "%s\n", thimble_why(story)), 1;
  fputs(prompt, stdout);
  for (const char* piece; (piece = thimble_next(story)) != NULL; fflush(stdout)) fputs(piece, stdout);
  printf("\n%s", thimble_why(story));
  return thimble_why(story)[0] != '\0';
}

// A model on the microSD card of an AI-Thinker ESP32-CAM tells a story, on the serial monitor at 115200 baud.
// Board: "AI Thinker ESP32-CAM" of Espressif's Arduino core 3.x, PSRAM enabled. The card: one FAT32 volume with a .gguf.
#include <SD_MMC.h>
#include <esp_heap_caps.h>
#include <thimble.h>

static int readCard(void*, uint64_t offset, void* out, size_t bytes) {
  for (size_t done = 0; done < bytes; done += 512) {
    if (!SD_MMC.readRAW(static_cast<uint8_t*>(out) + done, (offset + done) / 512)) return 0;
  }
  return 1;
}

static void* take(size_t bytes, uint32_t caps) { return heap_caps_aligned_alloc(64, bytes, caps); }

void setup() {
  Serial.begin(115200);
  if (!SD_MMC.begin()) return Serial.println("There is no card that answers."), void();
  const thimble_card card = {readCard, nullptr, uint64_t{512} * SD_MMC.numSectors(), 512, 16};
  const size_t story = thimble_story_bytes(), dma = 64 * 1024, sram = 64 * 1024, psram = 2 * 1024 * 1024;
  const thimble_memory memory = {take(story, MALLOC_CAP_SPIRAM), story, take(dma, MALLOC_CAP_DMA | MALLOC_CAP_INTERNAL), dma,
                                 take(sram, MALLOC_CAP_INTERNAL | MALLOC_CAP_8BIT), sram, take(psram, MALLOC_CAP_SPIRAM), psram};
  char why[300];
  thimble_story* const teller = thimble_open(&card, &memory, nullptr, why, sizeof why);
  if (teller == nullptr) return Serial.println(why), void();
  Serial.print("Once upon a time");
  if (thimble_prompt(teller, "Once upon a time", 200)) {
    while (const char* piece = thimble_next(teller)) Serial.print(piece);
  }
  Serial.println(thimble_why(teller));
}

void loop() { delay(1000); }

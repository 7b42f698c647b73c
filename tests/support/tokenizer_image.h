// Images of tokenizers for tests: written from a loaded one, loaded and opened from a RamDevice.
#ifndef THIMBLE_TESTS_SUPPORT_TOKENIZER_IMAGE_H_
#define THIMBLE_TESTS_SUPPORT_TOKENIZER_IMAGE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/arena.h"
#include "engine/base/error.h"
#include "engine/base/ledger.h"
#include "engine/formats/model_file.h"
#include "engine/storage/file_reader.h"
#include "engine/text/tokenizer.h"
#include "host/devices/faulty_device.h"
#include "host/devices/ram_device.h"
#include "tests/support/test_vocabulary.h"

namespace thimble::tests {

// XXH32 with the seed 0, by xxHash's own library.
uint32_t ChecksumOf(std::span<const std::byte> bytes);

// A file with an image in it and other bytes around.
struct ImageFile {
  ImageFile(const formats::TokenizerRef& tokenizer_ref, const text::Tokenizer& tokenizer);

  std::span<std::byte> image_bytes() {
    return std::span(bytes).subspan(static_cast<size_t>(image.offset), static_cast<size_t>(image.bytes));
  }
  // Of every page, after changes.
  void FixChecksums();

  formats::TokenizerRef ref;
  formats::SectionRef image;
  std::vector<std::byte> bytes;
};

// Tokenizer::LoadImage() with the memory it needs.
class LoadedImage {
 public:
  explicit LoadedImage(const ImageFile& file);

  const Result<text::Tokenizer>& result() const { return result_; }
  const text::Tokenizer& tokenizer() const { return *result_; }
  const Arena& arena() const { return arena_; }

 private:
  AlignedMemory memory_;
  Arena arena_;
  Result<text::Tokenizer> result_;
};

// Tokenizer::OpenImage() with the device it reads and a cache of exactly the bytes asked for.
class OpenedImage {
 public:
  struct Options {
    uint32_t cache_pages = 1;
    std::optional<uint64_t> cache_bytes = {};  // instead
    uint32_t block_bytes = 512;
  };
  explicit OpenedImage(const ImageFile& file) : OpenedImage(file, Options()) {}
  OpenedImage(const ImageFile& file, const Options& options);
  OpenedImage(const OpenedImage&) = delete;
  OpenedImage& operator=(const OpenedImage&) = delete;

  const Result<text::Tokenizer>& result() const { return result_; }
  const text::Tokenizer& tokenizer() const { return *result_; }
  host::RamDevice& device() { return device_; }
  host::FaultyDevice& faulty_device() { return faulty_device_; }
  // Reads since the last call.
  size_t TakeReads();

 private:
  host::RamDevice device_;
  host::FaultyDevice faulty_device_;
  storage::Extent extent_;
  Ledger ledger_;
  storage::FileReader reader_;
  AlignedMemory memory_;
  Result<text::Tokenizer> result_;
};

}  // namespace thimble::tests

#endif  // THIMBLE_TESTS_SUPPORT_TOKENIZER_IMAGE_H_

#include "tests/support/tokenizer_image.h"

#define XXH_INLINE_ALL  // so that 32-bit code needs no library of its own
#include <xxhash.h>

#include <array>
#include <cstring>

#include "engine/math/kernels.h"
#include "host/formats/tokenizer_image_writer.h"

namespace thimble::tests {

uint32_t ChecksumOf(std::span<const std::byte> bytes) { return XXH32(bytes.data(), bytes.size(), 0); }

ImageFile::ImageFile(const formats::TokenizerRef& tokenizer_ref, const text::Tokenizer& tokenizer)
    : ref(tokenizer_ref), image{.offset = 3 * 512, .bytes = host::TokenizerImageBytes(tokenizer)} {
  bytes.assign(static_cast<size_t>(image.offset + image.bytes) + 100, std::byte{0xEE});
  host::WriteTokenizerImage(tokenizer, image_bytes(), math::BestKernels().xxh32_stripes);
}

void ImageFile::FixChecksums() {
  for (std::span<std::byte> rest = image_bytes(); rest.size() >= 512; rest = rest.subspan(512)) {
    const uint32_t checksum = ChecksumOf(rest.first(508));
    std::memcpy(rest.data() + 508, &checksum, sizeof(checksum));
  }
}

LoadedImage::LoadedImage(const ImageFile& file)
    : memory_(text::Tokenizer::TableBytes(file.ref)), arena_(Region::kPsram, memory_.span()) {
  host::RamDevice device(file.bytes);
  const storage::Extent extent{.size_bytes = file.bytes.size()};
  Ledger ledger;
  storage::FileReader reader(device, {.extents = {&extent, 1}, .size_bytes = file.bytes.size()}, ledger);
  alignas(16) std::array<std::byte, 1024> buffer;
  storage::ByteReader byte_reader(reader, buffer);
  result_ = text::Tokenizer::LoadImage(file.ref, byte_reader, file.image, math::BestKernels().xxh32_stripes, arena_);
}

OpenedImage::OpenedImage(const ImageFile& file, const Options& options)
    : device_(file.bytes, options.block_bytes),
      faulty_device_(device_),
      extent_{.size_bytes = file.bytes.size()},
      reader_(faulty_device_, {.extents = {&extent_, 1}, .size_bytes = file.bytes.size()}, ledger_),
      memory_(options.cache_bytes.value_or(
          text::Tokenizer::CacheBytes(file.ref, options.block_bytes, options.cache_pages))) {
  result_ =
      text::Tokenizer::OpenImage(file.ref, reader_, file.image, math::BestKernels().xxh32_stripes, memory_.span());
}

size_t OpenedImage::TakeReads() {
  const size_t reads = device_.reads().size();
  device_.ClearReads();
  return reads;
}

}  // namespace thimble::tests

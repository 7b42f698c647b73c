#include "engine/storage/swap_file.h"

#include <algorithm>
#include <cstring>

#include "engine/storage/sectors.h"

namespace thimble::storage {
namespace {

constexpr std::array<char, 8> kMagic = {'T', 'H', 'I', 'M', 'S', 'W', 'P', '\n'};
constexpr size_t kVersionAt = 8, kFlagsAt = 12, kFileBytesAt = 16, kIdAt = 24, kGenerationAt = 32, kTablesAt = 40;
constexpr size_t kCheckAt = kSwapHeaderUsed - 4;
constexpr uint32_t kKnowsTables = 1;

void Put(std::span<std::byte> bytes, size_t at, uint64_t value, size_t size) {
  for (size_t i = 0; i < size; ++i) bytes[at + i] = static_cast<std::byte>(value >> 8 * i);
}

}  // namespace

std::array<std::byte, kSwapHeaderUsed> EncodeSwapHeader(const SwapHeader& header, Crc32c crc32c) {
  std::array<std::byte, kSwapHeaderUsed> bytes = {};
  std::memcpy(bytes.data(), kMagic.data(), kMagic.size());
  Put(bytes, kVersionAt, kSwapVersion, 4);
  Put(bytes, kFlagsAt, header.tables_check ? kKnowsTables : 0, 4);
  Put(bytes, kFileBytesAt, header.file_bytes, 8);
  Put(bytes, kIdAt, header.id, 8);
  Put(bytes, kGenerationAt, header.generation, 8);
  Put(bytes, kTablesAt, header.tables_check.value_or(0), 4);
  Put(bytes, kCheckAt, crc32c(0, bytes.data(), kCheckAt), 4);
  return bytes;
}

Result<SwapHeader> DecodeSwapHeader(std::span<const std::byte> bytes, Crc32c crc32c) {
  if (bytes.size() < kSwapHeaderUsed || std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0) {
    return Fail({.code = Code::kCorrupt, .what = "it is no swap file: make one with 'thimble card --swap'"});
  }
  if (const uint32_t version = Get(bytes, kVersionAt, 4); version != kSwapVersion) {
    return Fail({.code = Code::kUnsupported,
                 .what =
                     "it is a swap file of version {have}, and this engine knows version {need}: make it again with "
                     "'thimble card --swap'",
                 .have = version,
                 .need = kSwapVersion});
  }
  if (Get(bytes, kCheckAt, 4) != crc32c(0, bytes.data(), kCheckAt)) {
    return Fail({.code = Code::kCorrupt,
                 .what = "the swap file's header is damaged: make it again with 'thimble card --swap'"});
  }
  SwapHeader header = {.file_bytes = Get64(bytes, kFileBytesAt),
                       .id = Get64(bytes, kIdAt),
                       .generation = Get64(bytes, kGenerationAt),
                       .tables_check = {}};
  if ((Get(bytes, kFlagsAt, 4) & kKnowsTables) != 0) header.tables_check = Get(bytes, kTablesAt, 4);
  return header;
}

Result<SwapFile> SwapFile::Open(WritableDevice& device, const FileMap& file, Ledger& ledger,
                                const std::atomic<bool>* cancel, std::span<std::byte> buffer, Crc32c crc32c,
                                std::optional<uint32_t> tables_check) {
  SwapFile swap(device, file, ledger, cancel, crc32c);
  if (file.size_bytes < kSwapHeaderBytes || file.size_bytes % kSwapHeaderBytes != 0) {
    return Fail({.code = Code::kCorrupt,
                 .what = "a swap file has whole pieces of {need} bytes, and this one has {have} bytes: make it again "
                         "with 'thimble card --swap'",
                 .have = file.size_bytes,
                 .need = kSwapHeaderBytes});
  }
  const uint32_t block_bytes = device.geometry().block_bytes;
  const uint32_t header_bytes = std::max(block_bytes, kSwapHeaderUsed);
  if (kSwapHeaderBytes % block_bytes != 0 || buffer.size() < header_bytes) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "a swap file cannot be used on blocks of {have} bytes",
                 .have = block_bytes});
  }
  THIMBLE_TRY(swap.reader_.Start(0, header_bytes, buffer));
  THIMBLE_TRY(swap.reader_.Wait());
  THIMBLE_ASSIGN(SwapHeader header, DecodeSwapHeader(buffer, crc32c));
  if (header.file_bytes != file.size_bytes) {
    return Fail({.code = Code::kCorrupt,
                 .what = "the swap file was made with {need} bytes and has {have}: make it again with 'thimble card "
                         "--swap'",
                 .have = file.size_bytes,
                 .need = header.file_bytes});
  }
  if (header.tables_check && tables_check && *header.tables_check != *tables_check) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "the card's files are others than when its swap file was first used, so nothing is written to "
                         "it: delete it and make it again with 'thimble card --to FOLDER --swap SIZE'"});
  }
  ++header.generation;
  if (!header.tables_check) header.tables_check = tables_check;
  const auto encoded = EncodeSwapHeader(header, crc32c);
  std::ranges::copy(encoded, buffer.begin());
  swap.header_check_ = Get(encoded, kCheckAt, 4);
  THIMBLE_TRY(swap.WriteAnywhere(0, buffer.first(header_bytes)));
  THIMBLE_TRY(swap.CheckSameCard(buffer));
  return swap;
}

Result<void> SwapFile::CheckSameCard(std::span<std::byte> buffer) {
  THIMBLE_TRY(reader_.Start(0, kSwapHeaderUsed, buffer));
  THIMBLE_ASSIGN(const std::span<const std::byte> bytes, reader_.Wait());
  if (Get(bytes, kCheckAt, 4) == header_check_ && crc32c_(0, bytes.data(), kCheckAt) == header_check_) return {};
  return Fail({.code = Code::kInvalidArgument,
               .what = "the card has another swap file than before, or does not keep what is written to it, so nothing "
                       "more is: open the model again"});
}

Result<void> SwapFile::Write(uint64_t offset_bytes, std::span<const std::byte> bytes) {
  if (offset_bytes >= kSwapHeaderBytes) return WriteAnywhere(offset_bytes, bytes);
  return Fail({.code = Code::kInvalidArgument,
               .what = "a write at byte {offset} would meet the swap file's header",
               .offset = offset_bytes});
}

Result<void> SwapFile::WriteAnywhere(uint64_t offset_bytes, std::span<const std::byte> bytes) {
  const uint32_t block_bytes = device_->geometry().block_bytes;
  if (offset_bytes % block_bytes != 0 || bytes.size() % block_bytes != 0 || offset_bytes > file_.size_bytes ||
      bytes.size() > file_.size_bytes - offset_bytes) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "a write of {need} bytes at byte {offset} does not lie in the swap file of {have} bytes",
                 .offset = offset_bytes,
                 .have = file_.size_bytes,
                 .need = bytes.size()});
  }
  while (!bytes.empty()) {
    const Extent* const extent = FindExtent(file_.extents, offset_bytes);
    if (extent == nullptr) {
      return Fail({.code = Code::kInvalidArgument,
                   .what = "no extent of the swap file holds its byte {offset}",
                   .offset = offset_bytes});
    }
    const uint64_t into = offset_bytes - extent->file_offset_bytes;
    const auto size = static_cast<size_t>(std::min<uint64_t>(bytes.size(), extent->size_bytes - into));
    THIMBLE_TRY(WritePiece(extent->device_offset_bytes + into, bytes.first(size)));
    bytes = bytes.subspan(size);
    offset_bytes += size;
  }
  return {};
}

Result<void> SwapFile::WritePiece(uint64_t device_offset_bytes, std::span<const std::byte> bytes) {
  ++ledger_->swap.writes;
  ledger_->swap.written_bytes += bytes.size();
  Result<void> outcome = device_->Write(device_offset_bytes, bytes);
  for (int retries = 0; !outcome; ++retries) {
    Error error = outcome.error();
    error.offset = device_offset_bytes;
    if ((error.code != Code::kIo && error.code != Code::kTimeout) || retries > kReadRetries) return Fail(error);
    if (retries == kReadRetries) {
      ++ledger_->reinitialised;
      THIMBLE_TRY(device_->Reinitialise());
    }
    ++ledger_->retries;
    outcome = device_->Write(device_offset_bytes, bytes);
  }
  return {};
}

}  // namespace thimble::storage

#include "engine/storage/block_device.h"

#include <cstdint>

namespace thimble::storage {

Result<void> CheckRead(const BlockGeometry& geometry, uint64_t offset_bytes, std::span<const std::byte> dst) {
  if (dst.empty() || dst.size() % geometry.block_bytes != 0) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "a read of {have} bytes is not a whole number of blocks of {need} bytes",
                 .offset = offset_bytes,
                 .have = dst.size(),
                 .need = geometry.block_bytes});
  }
  if (offset_bytes % geometry.block_bytes != 0) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "a read at byte {offset} does not start on a block of {need} bytes",
                 .offset = offset_bytes,
                 .have = offset_bytes % geometry.block_bytes,
                 .need = geometry.block_bytes});
  }
  const uint64_t misalignment = reinterpret_cast<uintptr_t>(dst.data()) % geometry.buffer_align;
  if (misalignment != 0) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "a read buffer is {have} bytes beyond a boundary of {need} bytes that the device needs",
                 .offset = offset_bytes,
                 .have = misalignment,
                 .need = geometry.buffer_align});
  }
  if (offset_bytes > geometry.size_bytes || dst.size() > geometry.size_bytes - offset_bytes) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "a read of {need} bytes at byte {offset} goes beyond the end of the device at {have}",
                 .offset = offset_bytes,
                 .have = geometry.size_bytes,
                 .need = dst.size()});
  }
  return {};
}

}  // namespace thimble::storage

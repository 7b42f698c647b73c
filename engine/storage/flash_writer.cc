#include "engine/storage/flash_writer.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace thimble::storage {
namespace {

constexpr size_t kCheckedBytes = 64;  // of the header; its checksum follows
constexpr std::byte kFinished{0};

std::unexpected<Error> DoesNotKeep(uint32_t offset) {
  return Fail({.code = Code::kIo,
               .what =
                   "the flash does not keep what is written to byte {offset} of the partition for weights: it may be "
                   "worn out, or the supply too weak; plan without flash until it is mended",
               .offset = offset});
}

}  // namespace

std::span<std::byte> FlashArenaMemory(const Flash& flash) {
  const std::span<const std::byte> memory = flash.memory();
  if (memory.size() <= kFlashSectorBytes) return {};
  const size_t bytes = std::min<size_t>(memory.size(), size_t{1 + kMaxFlashSectors} * kFlashSectorBytes);
  return {const_cast<std::byte*>(memory.data()) + kFlashSectorBytes, bytes - kFlashSectorBytes};
}

Result<FlashWriter> FlashWriter::Begin(Flash& flash, const FlashContents& contents, Crc32c crc32c) {
  const uint64_t room_bytes = FlashArenaMemory(flash).size();
  if (contents.bytes > room_bytes) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "the partition for weights has {have} bytes and the plan needs {need}",
                 .have = room_bytes,
                 .need = contents.bytes});
  }
  FlashWriter writer;
  writer.flash_ = &flash;
  writer.bytes_ = contents.bytes;
  std::byte* next = writer.header_.data();
  const auto put = [&next](const auto& value) {
    std::memcpy(next, &value, sizeof(value));
    next += sizeof(value);
  };
  put(kFlashMagic);
  put(kFlashVersion);
  put(contents.model_checks);
  put(contents.model_bytes);
  put(contents.bytes);
  put(contents.weights_bytes);
  put(contents.parts);
  const uint32_t crc = crc32c(0, writer.header_.data(), kCheckedBytes);
  std::memcpy(writer.header_.data() + kCheckedBytes, &crc, sizeof(crc));
  if (std::memcmp(flash.memory().data(), writer.header_.data(), writer.header_.size()) != 0) {
    THIMBLE_TRY(writer.WriteHeader(0));
  }
  return writer;
}

// Of this many sectors it says that they are finished.
Result<void> FlashWriter::WriteHeader(uint32_t finished) {
  THIMBLE_TRY(flash_->EraseSector(0));
  THIMBLE_TRY(Program(0, header_));
  for (uint32_t i = 0; i < finished; ++i) THIMBLE_TRY(MarkFinished(i));
  return {};
}

Result<void> FlashWriter::MarkFinished(uint32_t sector) {
  const std::byte mark = kFinished;  // on the stack: a constant would be in flash
  return Program(kFlashMarksOffset + sector, {&mark, 1});
}

bool FlashWriter::IsFinished(uint32_t sector) const {
  return flash_->memory()[kFlashMarksOffset + sector] == kFinished;
}

Result<void> FlashWriter::Program(uint32_t offset, std::span<const std::byte> bytes) {
  THIMBLE_TRY(flash_->Program(offset, bytes));
  if (std::memcmp(flash_->memory().data() + offset, bytes.data(), bytes.size()) != 0) return DoesNotKeep(offset);
  return {};
}

Result<void> FlashWriter::BeginSector(uint32_t sector) {
  THIMBLE_TRY(EndSector());
  sector_ = sector;
  if (IsFinished(sector)) return {};
  state_ = State::kWritten;
  return flash_->EraseSector((1 + sector) * kFlashSectorBytes);
}

Result<void> FlashWriter::EndSector() {
  const State state = std::exchange(state_, State::kNothing);
  if (state != State::kWritten) return {};
  THIMBLE_TRY(MarkFinished(sector_));
  flash_->OnProgress(std::min(bytes_, (sector_ + 1) * kFlashSectorBytes), bytes_);
  return {};
}

// Within one sector.
Result<void> FlashWriter::WritePiece(uint32_t offset, std::span<const std::byte> bytes) {
  const uint32_t sector = offset / kFlashSectorBytes;
  const uint32_t at = kFlashSectorBytes + offset;
  if (sector != sector_) THIMBLE_TRY(BeginSector(sector));
  if (state_ == State::kPassed) return {};
  if (state_ == State::kWritten) return Program(at, bytes);
  if (std::memcmp(flash_->memory().data() + at, bytes.data(), bytes.size()) == 0) {
    state_ = State::kCompared;
    return {};
  }
  // Other bytes than when it was finished, and who knows what the rest is.
  if (is_last_pass_) return DoesNotKeep(at);
  THIMBLE_TRY(WriteHeader(sector));
  if (state_ == State::kCompared) {
    state_ = State::kPassed;
    passed_ = true;
    return {};
  }
  THIMBLE_TRY(BeginSector(sector));
  return Program(at, bytes);
}

Result<void> FlashWriter::Write(std::span<const std::byte> place, std::span<const std::byte> bytes) {
  if (flash_ == nullptr) {
    std::memcpy(const_cast<std::byte*>(place.data()), bytes.data(), bytes.size());
    return {};
  }
  const std::span<const std::byte> all = FlashArenaMemory(*flash_).first(bytes_);
  if (place.data() < all.data() + next_ || place.data() + bytes.size() > all.data() + all.size()) {
    return Fail({.code = Code::kInvalidArgument, .what = "the arena for flash is not the flash's own"});
  }
  auto offset = static_cast<uint32_t>(place.data() - all.data());
  next_ = offset + static_cast<uint32_t>(bytes.size());
  while (!bytes.empty()) {
    const size_t n = std::min<size_t>(bytes.size(), kFlashSectorBytes - offset % kFlashSectorBytes);
    THIMBLE_TRY(WritePiece(offset, bytes.first(n)));
    offset += static_cast<uint32_t>(n);
    bytes = bytes.subspan(n);
  }
  return {};
}

Result<void> FlashWriter::Copy(FileReader& reader, uint64_t offset, std::span<std::byte> place,
                               std::span<std::byte> buffer) {
  return ForBytes(reader, offset, place.size(), buffer, [&](uint64_t at, std::span<const std::byte> bytes) {
    return Write(place.subspan(static_cast<size_t>(at), bytes.size()), bytes);
  });
}

Result<void> FlashWriter::End() {
  if (flash_ == nullptr) return {};
  THIMBLE_TRY(EndSector());
  next_ = 0;
  sector_ = kNoSector;
  return {};
}

bool FlashWriter::NeedsAnotherPass() {
  is_last_pass_ = std::exchange(passed_, false);
  return is_last_pass_;
}

}  // namespace thimble::storage

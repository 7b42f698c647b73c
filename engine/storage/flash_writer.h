// Brings what a plan keeps in flash there: once, whatever happens while it is written.
//
// Format, byte by byte: docs/formats/flash.md of this product. Nothing in flash is trusted: every time a session opens,
// what belongs there is read from the card, with its checksums, and compared with what is there. Only sectors that
// differ, or were not finished, are written; so a second opening writes nothing, a session after a loss of power goes
// on where the one before was cut off, and another model's rows are never used.
#ifndef THIMBLE_ENGINE_STORAGE_FLASH_WRITER_H_
#define THIMBLE_ENGINE_STORAGE_FLASH_WRITER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/checksum.h"
#include "engine/base/error.h"
#include "engine/storage/file_reader.h"
#include "engine/storage/flash.h"

namespace thimble::storage {

// The first sector of a flash says what the others hold: a header, and from this byte on a byte for each of them.
inline constexpr uint32_t kFlashMarksOffset = 256;
inline constexpr uint32_t kFlashVersion = 1;
inline constexpr std::array<char, 8> kFlashMagic = {'T', 'H', 'I', 'M', 'F', 'L', 'S', '\n'};
// The most that one flash holds.
inline constexpr uint32_t kMaxFlashSectors = kFlashSectorBytes - kFlashMarksOffset;

// What the header says of the model, its index and the plan. Where it says something else all is written anew.
struct FlashContents {
  uint64_t model_bytes = 0;   // of the model's file
  uint32_t model_checks = 0;  // checksum of the index's section kBlockChecks; 0 without an index
  uint32_t bytes = 0;         // of all that is kept: rows of the layers' matrices, then records of the screen
  uint32_t weights_bytes = 0;
  std::array<uint32_t, 8> parts = {};  // which rows and records these are, as docs/formats/flash.md lists them
};

// Bytes of a flash that holds so many: whole sectors.
constexpr uint64_t FlashBytes(uint64_t content_bytes) {
  return (1 + (content_bytes + kFlashSectorBytes - 1) / kFlashSectorBytes) * kFlashSectorBytes;
}

// What an arena of Region::kFlash is made over: all but the first sector. Nobody may write to it as to memory.
std::span<std::byte> FlashArenaMemory(const Flash& flash);

// Where the bytes go that are kept in Region::kFlash. They are given in rising order of their places, in one pass, or
// in two:
//
//   do {
//     for each piece: writer.Write(place, bytes);
//     writer.End();
//   } while (writer.NeedsAnotherPass());
class FlashWriter {
 public:
  // The region is memory: bytes are copied there.
  FlashWriter() = default;
  // The region is the first contents.bytes of FlashArenaMemory(flash). Writes the header if the one there says
  // something else. Fails as the flash does, kInvalidArgument if it is too small.
  static Result<FlashWriter> Begin(Flash& flash, const FlashContents& contents, Crc32c crc32c);

  // `bytes` belong at `place`, which is behind all places of this pass before it. Fails as the flash does, and with kIo
  // if it does not keep what is written to it.
  Result<void> Write(std::span<const std::byte> place, std::span<const std::byte> bytes);
  // The bytes of a file from `offset` on, read through `buffer`, as FileReader wants it.
  Result<void> Copy(FileReader& reader, uint64_t offset, std::span<std::byte> place, std::span<std::byte> buffer);

  // After the last piece of a pass.
  Result<void> End();
  // A sector that was finished turned out to differ when part of it had been compared. Once at most.
  bool NeedsAnotherPass();

 private:
  enum class State : uint8_t {
    kNothing,   // of this sector was given yet
    kCompared,  // it is finished; so far it is right
    kWritten,   // it was erased; so far it is written
    kPassed,    // it must be written in another pass
  };
  static constexpr uint32_t kNoSector = ~uint32_t{0};

  Result<void> WriteHeader(uint32_t finished);
  Result<void> BeginSector(uint32_t sector);
  Result<void> EndSector();
  Result<void> WritePiece(uint32_t offset, std::span<const std::byte> bytes);
  Result<void> Program(uint32_t offset, std::span<const std::byte> bytes);
  Result<void> MarkFinished(uint32_t sector);
  bool IsFinished(uint32_t sector) const;

  Flash* flash_ = nullptr;
  std::array<std::byte, 68> header_ = {};
  uint32_t bytes_ = 0;
  uint32_t next_ = 0;  // of the contents: all places from here on
  uint32_t sector_ = kNoSector;
  State state_ = State::kNothing;
  bool passed_ = false;        // a sector of this pass is kPassed
  bool is_last_pass_ = false;  // the one after it
};

}  // namespace thimble::storage

#endif  // THIMBLE_ENGINE_STORAGE_FLASH_WRITER_H_

// The board's card: read in the fastest way that is found to read right, in a slower one when that fails, and again
// when it was pulled and is back.
#ifndef THIMBLE_FIRMWARE_APP_LADDER_CARD_H_
#define THIMBLE_FIRMWARE_APP_LADDER_CARD_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/checksum.h"
#include "engine/base/error.h"
#include "engine/formats/index_file.h"
#include "engine/storage/block_device.h"
#include "firmware/app/card_port.h"

namespace thimble::firmware {

// Refers to what it is given, which outlives it. One task.
//
// Who retries: storage::FileReader makes a failed read four times, then calls Reinitialise(), then reads once more.
// What is here is what happens in Reinitialise(): the same way again, or the next slower one if bits came wrong.
class LadderCard final : public storage::WritableDevice {
 public:
  // `rungs`: the ways to try, the fastest first. `probe`: memory that the card can be read into, of whole sectors, for
  // the reads that tell whether a way reads right; 4 KiB are usual. `buffer_align`: what the DMA wants of addresses.
  LadderCard(CardPort& port, std::span<const CardRung> rungs, std::span<std::byte> probe, uint32_t buffer_align,
             Crc32c crc32c)
      : port_(&port), rungs_(rungs), probe_(probe), buffer_align_(buffer_align), crc32c_(crc32c) {}

  // Takes whatever card there is. Reads five places of it in the slowest way, twice, then in the fastest, three times,
  // and so on down until a way gives the same. kNotFound: no card; kUnsupported: it has no sectors of 512 bytes;
  // kIo: no way reads the same twice.
  Result<void> Mount();
  bool is_mounted() const { return is_mounted_; }

  // Connects in the way of this number and checks it as Mount() does, against what the last Mount() read or, before
  // the first, against itself. The card is not mounted afterwards.
  Result<void> Try(uint32_t rung);

  // After Mount() or Try(): reads whole sectors of the card, whose size is identity().size_bytes, now.
  Result<void> ReadNow(uint64_t first_sector, std::span<std::byte> dst);

  // The same from the card's beginning into `buffer`, over and over, until `bytes` were read.
  Result<void> ReadThrough(std::span<std::byte> buffer, uint64_t bytes);

  // Lets go of the card.
  void Unmount();

  std::span<const CardRung> rungs() const { return rungs_; }

  // After Mount().
  const CardRung& rung() const { return rungs_[rung_]; }
  const CardIdentity& identity() const { return identity_; }
  uint64_t failures() const { return failures_; }            // reads that failed, since Mount()
  uint64_t reinitialised() const { return reinitialised_; }  // times that it came back, since Mount()
  bool is_gone() const { return is_gone_; }                  // it did not come back when it was last asked

  // storage::BlockDevice. A buffer that the card cannot be read into straight is refused with kInvalidArgument. Of a
  // card that is gone reads fail with kTimeout at once, until Reinitialise() finds it again.
  storage::BlockGeometry geometry() const override;
  Result<void> StartRead(uint64_t offset_bytes, std::span<std::byte> dst) override;
  Result<void> WaitRead() override;
  // Of what was written nothing counts as a change that somebody else made.
  Result<void> Write(uint64_t offset_bytes, std::span<const std::byte> src) override;
  // Connects again, and reads as Mount() did: in the same way after a card that did not answer, in the next slower
  // after one whose bits came wrong, and further down until the card reads as it did. kNotFound: it is gone, or it is
  // another one, or was written to since: Mount() and look for the files anew.
  Result<void> Reinitialise() override;

 private:
  Result<uint32_t> ReadPlaces();
  Result<void> CheckTransfer(uint64_t offset_bytes, std::span<const std::byte> buffer) const;
  bool IsProbed(uint64_t offset_bytes, uint64_t size_bytes) const;
  Result<void> CheckRung(uint32_t rung, int times);
  Result<uint32_t> FindReference();
  bool IsSpi(uint32_t rung) const { return rungs_[rung].bus == CardBus::kSpi; }

  CardPort* port_;
  std::span<const CardRung> rungs_;
  std::span<std::byte> probe_;
  uint32_t buffer_align_;
  Crc32c crc32c_;
  CardIdentity identity_;
  uint32_t sum_ = 0;  // of what ReadPlaces() read in the slowest way
  uint32_t rung_ = 0;
  uint64_t failures_ = 0;
  uint64_t reinitialised_ = 0;
  Code last_failure_ = Code::kTimeout;
  bool is_mounted_ = false;
  bool is_gone_ = false;
  bool in_flight_ = false;
};

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_APP_LADDER_CARD_H_

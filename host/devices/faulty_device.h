// A block device that fails where it is told to: for tests of retries, re-initialisation and error paths.
#ifndef THIMBLE_HOST_DEVICES_FAULTY_DEVICE_H_
#define THIMBLE_HOST_DEVICES_FAULTY_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "engine/storage/block_device.h"

namespace thimble::host {

// Which reads fail, and how. A read that fails in WaitRead() has delivered the first half of its data and rubbish after
// it, as a broken transfer would.
struct Fault {
  static constexpr uint64_t kForever = std::numeric_limits<uint64_t>::max();
  enum class In : uint8_t { kStart, kWait };

  In in = In::kWait;
  Code code = Code::kIo;
  uint64_t first_read = 0;           // how many calls of StartRead() pass before the fault shows
  uint64_t times = 1;                // how many calls from there on fail, or kForever
  bool until_reinitialised = false;  // the fault ends at the next Reinitialise() after it showed
  uint64_t offset_begin = 0;         // only reads that touch device bytes [offset_begin, offset_end) fail
  uint64_t offset_end = kForever;
};

// Passes all calls on to `device`, which must outlive this, except where a fault says otherwise.
class FaultyDevice final : public storage::BlockDevice {
 public:
  explicit FaultyDevice(storage::BlockDevice& device, std::vector<Fault> faults = {});

  storage::BlockGeometry geometry() const override { return device_->geometry(); }
  Result<void> StartRead(uint64_t offset_bytes, std::span<std::byte> dst) override;
  Result<void> WaitRead() override;
  Result<void> Reinitialise() override;

  void Add(const Fault& fault) { faults_.push_back(fault); }
  // The next `times` calls of Reinitialise() fail with kIo.
  void set_reinitialise_failures(uint64_t times) { reinitialise_failures_ = times; }

  uint64_t starts() const { return starts_; }
  uint64_t waits() const { return waits_; }
  uint64_t reinitialisations() const { return reinitialisations_; }

 private:
  // The fault that hits the read now starting, or null.
  Fault* FindFault(uint64_t offset_bytes, uint64_t size_bytes);

  storage::BlockDevice* device_;
  std::vector<Fault> faults_;
  uint64_t reinitialise_failures_ = 0;
  uint64_t starts_ = 0;
  uint64_t waits_ = 0;
  uint64_t reinitialisations_ = 0;
  bool fail_wait_ = false;
  Code wait_code_ = Code::kIo;
  std::span<std::byte> dst_;
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_DEVICES_FAULTY_DEVICE_H_

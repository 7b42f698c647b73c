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

// Which reads, or which writes, fail, and how. A read that fails in WaitRead() has delivered the first half of its data
// and rubbish after it, as a broken transfer would; a write that fails has written the first half of its blocks.
struct Fault {
  static constexpr uint64_t kForever = std::numeric_limits<uint64_t>::max();
  enum class In : uint8_t { kStart, kWait, kWrite };

  In in = In::kWait;
  Code code = Code::kIo;
  uint64_t first_read = 0;           // how many calls of StartRead(), or of Write(), pass before the fault shows
  uint64_t times = 1;                // how many calls from there on fail, or kForever
  bool until_reinitialised = false;  // the fault ends at the next Reinitialise() after it showed
  uint64_t offset_begin = 0;         // only what touches device bytes [offset_begin, offset_end) fail
  uint64_t offset_end = kForever;
};

// Passes all calls on to `device`, which must outlive this, except where a fault says otherwise.
class FaultyDevice final : public storage::WritableDevice {
 public:
  explicit FaultyDevice(storage::BlockDevice& device, std::vector<Fault> faults = {});
  explicit FaultyDevice(storage::WritableDevice& device, std::vector<Fault> faults = {});

  storage::BlockGeometry geometry() const override { return device_->geometry(); }
  Result<void> StartRead(uint64_t offset_bytes, std::span<std::byte> dst) override;
  Result<void> WaitRead() override;
  Result<void> Reinitialise() override;
  Result<void> Write(uint64_t offset_bytes, std::span<const std::byte> src) override;

  void Add(const Fault& fault) { faults_.push_back(fault); }
  // The next `times` calls of Reinitialise() fail with kIo.
  void set_reinitialise_failures(uint64_t times) { reinitialise_failures_ = times; }

  uint64_t starts() const { return starts_; }
  uint64_t waits() const { return waits_; }
  uint64_t writes() const { return writes_; }
  uint64_t reinitialisations() const { return reinitialisations_; }

 private:
  // The fault that hits the read, or the write, now starting, or null.
  Fault* FindFault(bool is_write, uint64_t offset_bytes, uint64_t size_bytes);

  storage::BlockDevice* device_;
  storage::WritableDevice* writable_ = nullptr;  // the same, if it is one
  std::vector<Fault> faults_;
  uint64_t reinitialise_failures_ = 0;
  uint64_t starts_ = 0;
  uint64_t waits_ = 0;
  uint64_t writes_ = 0;
  uint64_t reinitialisations_ = 0;
  bool fail_wait_ = false;
  Code wait_code_ = Code::kIo;
  std::span<std::byte> dst_;
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_DEVICES_FAULTY_DEVICE_H_

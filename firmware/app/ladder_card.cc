#include "firmware/app/ladder_card.h"

#include <algorithm>
#include <array>

namespace thimble::firmware {
namespace {

constexpr int kTimesToTrust = 3;

constexpr const char* kNoCard =
    "no card answers: push it in until it clicks; if it was in, clean its contacts, or try another one";
constexpr const char* kGone =
    "the card does not answer any more: put it back; what was asked for can be asked for again then";
constexpr const char* kOther = "this is another card than the one that was opened: choose the model again";
constexpr const char* kReadsWrong =
    "the card reads otherwise than when it was opened: it was written to, its contacts are bad, or it is worn; choose "
    "the model again, or try another card";

}  // namespace

storage::BlockGeometry LadderCard::geometry() const {
  return {.block_bytes = kSectorBytes, .buffer_align = buffer_align_, .size_bytes = identity_.size_bytes};
}

Result<void> LadderCard::ReadNow(uint64_t first_sector, std::span<std::byte> dst) {
  THIMBLE_TRY(port_->StartRead(first_sector, dst));
  return port_->WaitRead();
}

// Five places over the whole card, into one checksum.
Result<uint32_t> LadderCard::ReadPlaces() {
  const uint64_t sectors = identity_.size_bytes / kSectorBytes;
  const uint64_t probed = std::min<uint64_t>(probe_.size() / kSectorBytes, sectors);
  const std::span<std::byte> dst = probe_.first(static_cast<size_t>(probed * kSectorBytes));
  uint32_t crc = 0;
  for (uint64_t quarter = 0; quarter <= 4; ++quarter) {
    // What is left from the way before must not pass for what was read.
    std::fill(dst.begin(), dst.end(), std::byte{0xa5});
    THIMBLE_TRY(ReadNow((sectors - probed) / 4 * quarter, dst));
    crc = crc32c_(crc, dst.data(), dst.size());
  }
  return crc;
}

// Connects, and reads the places `times` times as they were.
Result<void> LadderCard::CheckRung(uint32_t rung, int times) {
  THIMBLE_ASSIGN(const CardIdentity identity, port_->Connect(rungs_[rung]));
  if (identity.serial != identity_.serial || identity.size_bytes != identity_.size_bytes) {
    return Fail({.code = Code::kNotFound, .what = kOther});
  }
  for (int i = 0; i < times; ++i) {
    THIMBLE_ASSIGN(const uint32_t sum, ReadPlaces());
    if (sum != sum_) return Fail({.code = Code::kIo, .what = kReadsWrong});
  }
  return {};
}

// The slowest way in which the card reads the same twice; SPI if there is no other.
Result<uint32_t> LadderCard::FindReference() {
  Error error = {.code = Code::kNotFound, .what = kNoCard};
  for (const bool is_spi : {false, true}) {
    for (auto rung = static_cast<uint32_t>(rungs_.size()); rung-- > 0;) {
      if (IsSpi(rung) != is_spi) continue;
      const Result<CardIdentity> identity = port_->Connect(rungs_[rung]);
      if (!identity) {
        if (identity.error().code == Code::kIo) error = identity.error();
        continue;
      }
      if (identity->size_bytes == 0 || identity->size_bytes % kSectorBytes != 0) {
        return Fail({.code = Code::kUnsupported, .what = "the card has no sectors of 512 bytes: use another card"});
      }
      identity_ = *identity;
      const Result<uint32_t> first = ReadPlaces();
      const Result<uint32_t> second = first ? ReadPlaces() : first;
      if (second && *first == *second) {
        sum_ = *second;
        return rung;
      }
      error = second ? Error{.code = Code::kIo,
                             .what = "the card reads otherwise each time: clean its contacts, or try another one"}
                     : second.error();
    }
  }
  return Fail(error);
}

Result<void> LadderCard::Mount() {
  Unmount();
  failures_ = reinitialised_ = 0;
  const Result<uint32_t> reference = FindReference();
  if (!reference) {
    port_->Disconnect();
    return std::unexpected(reference.error());
  }
  // From SPI there is no way back.
  for (rung_ = IsSpi(*reference) ? *reference : 0; rung_ < rungs_.size(); ++rung_) {
    const Result<void> checked = CheckRung(rung_, kTimesToTrust);
    if (checked) {
      is_mounted_ = true;
      return {};
    }
    if (rung_ >= *reference) {
      port_->Disconnect();
      return checked;
    }
  }
  return Fail({.code = Code::kNotFound, .what = kNoCard});
}

Result<void> LadderCard::Try(uint32_t rung) {
  if (IsSpi(rung) && !IsSpi(rung_)) {
    return Fail({.code = Code::kUnsupported,
                 .what = "not tried: a card that was once spoken to by SPI must be switched off to answer otherwise"});
  }
  Unmount();
  if (identity_.size_bytes == 0) THIMBLE_TRY(FindReference());
  return CheckRung(rung, kTimesToTrust);
}

Result<void> LadderCard::ReadThrough(std::span<std::byte> buffer, uint64_t bytes) {
  const uint64_t chunk = std::min<uint64_t>(buffer.size(), identity_.size_bytes) / kSectorBytes * kSectorBytes;
  if (chunk == 0) return Fail({.code = Code::kInvalidArgument, .what = "there is no memory to read into"});
  const std::span<std::byte> dst = buffer.first(static_cast<size_t>(chunk));
  uint64_t at = 0;
  for (uint64_t read = 0; read < bytes; read += chunk, at += chunk) {
    if (at + chunk > identity_.size_bytes) at = 0;
    THIMBLE_TRY(ReadNow(at / kSectorBytes, dst));
  }
  return {};
}

void LadderCard::Unmount() {
  if (in_flight_) (void)port_->WaitRead();
  in_flight_ = is_gone_ = is_mounted_ = false;
  port_->Disconnect();
}

// What a read and a write ask of their buffer and of the card before the port is asked.
Result<void> LadderCard::CheckTransfer(uint64_t offset_bytes, std::span<const std::byte> buffer) const {
  if (!is_mounted_) return Fail({.code = Code::kNotFound, .what = kNoCard});
  if (in_flight_) return Fail({.code = Code::kInvalidArgument, .what = "a read is in flight"});
  THIMBLE_TRY(storage::CheckRead(geometry(), offset_bytes, buffer));
  if (!port_->CanReach(buffer)) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "the card's DMA cannot reach this memory: buffers lie in internal RAM"});
  }
  if (is_gone_) return Fail({.code = Code::kTimeout, .what = kGone});
  return {};
}

Result<void> LadderCard::StartRead(uint64_t offset_bytes, std::span<std::byte> dst) {
  THIMBLE_TRY(CheckTransfer(offset_bytes, dst));
  const Result<void> started = port_->StartRead(offset_bytes / kSectorBytes, dst);
  if (!started) {
    ++failures_;
    last_failure_ = started.error().code;
    return started;
  }
  in_flight_ = true;
  return {};
}

Result<void> LadderCard::WaitRead() {
  if (!in_flight_) return Fail({.code = Code::kInvalidArgument, .what = "no read was started"});
  in_flight_ = false;
  const Result<void> read = port_->WaitRead();
  if (!read) {
    ++failures_;
    last_failure_ = read.error().code;
  }
  return read;
}

// Whether ReadPlaces() reads any of these bytes.
bool LadderCard::IsProbed(uint64_t offset_bytes, uint64_t size_bytes) const {
  const uint64_t sectors = identity_.size_bytes / kSectorBytes;
  const uint64_t probed = std::min<uint64_t>(probe_.size() / kSectorBytes, sectors);
  for (uint64_t quarter = 0; quarter <= 4; ++quarter) {
    const uint64_t begin = (sectors - probed) / 4 * quarter * kSectorBytes;
    if (offset_bytes < begin + probed * kSectorBytes && offset_bytes + size_bytes > begin) return true;
  }
  return false;
}

Result<void> LadderCard::Write(uint64_t offset_bytes, std::span<const std::byte> src) {
  THIMBLE_TRY(CheckTransfer(offset_bytes, src));
  const bool is_probed = IsProbed(offset_bytes, src.size());
  Result<void> written = port_->Write(offset_bytes / kSectorBytes, src);
  // A write that failed may have changed some of it, too.
  if (is_probed) {
    if (const Result<uint32_t> sum = ReadPlaces(); sum) sum_ = *sum;
  }
  if (written) return {};
  ++failures_;
  last_failure_ = written.error().code;
  return written;
}

Result<void> LadderCard::Reinitialise() {
  if (!is_mounted_) return Fail({.code = Code::kNotFound, .what = kNoCard});
  if (in_flight_) (void)port_->WaitRead();
  in_flight_ = false;
  const bool bits_came_wrong = !is_gone_ && last_failure_ == Code::kIo;
  const uint32_t last = static_cast<uint32_t>(rungs_.size()) - 1;
  bool answers = false;
  for (uint32_t rung = bits_came_wrong ? std::min(rung_ + 1, last) : rung_; rung <= last; ++rung) {
    if (IsSpi(rung) != IsSpi(rung_)) break;
    const Result<void> checked = CheckRung(rung, 1);
    if (checked) {
      rung_ = rung;
      is_gone_ = false;
      ++reinitialised_;
      return {};
    }
    if (checked.error().what == kOther) {
      is_gone_ = true;
      return checked;
    }
    answers |= checked.error().code == Code::kIo;
  }
  is_gone_ = true;
  return Fail({.code = Code::kNotFound, .what = answers ? kReadsWrong : kGone});
}

}  // namespace thimble::firmware

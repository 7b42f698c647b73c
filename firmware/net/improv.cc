#include "firmware/net/improv.h"

#include <algorithm>
#include <utility>

#include "engine/base/text_buffer.h"

namespace thimble::firmware {
namespace {

constexpr std::string_view kHeader = "IMPROV";
constexpr uint8_t kVersion = 1;
constexpr char kBackspace = '\x7f';
constexpr size_t kMaxTextBytes = 40;

std::string_view TextOf(std::span<const uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

std::string_view Improv::Take(std::string_view typed, std::span<char> out) {
  size_t size = 0;
  const auto pass = [&](char c) {
    if (size < out.size()) out[size++] = c;
  };
  for (const char c : typed) {
    const bool ends_packet = std::exchange(was_packet_, false) && c == '\n';
    if (ends_packet) continue;
    if (packet_bytes_ != 0) {
      OnPacketByte(static_cast<uint8_t>(c));
      continue;
    }
    if (letters_ == kHeader.size() && c == static_cast<char>(kVersion)) {
      letters_ = 0;
      for (size_t i = 0; i < kHeader.size(); ++i) pass(kBackspace);
      OnPacketByte(kVersion);
      continue;
    }
    letters_ = letters_ < kHeader.size() && c == kHeader[letters_] ? letters_ + 1 : c == kHeader[0] ? 1 : 0;
    pass(c);
  }
  return {out.data(), size};
}

void Improv::OnPacketByte(uint8_t byte) {
  packet_[packet_bytes_++] = byte;
  if (packet_bytes_ >= 3 && packet_bytes_ == size_t{3} + packet_[2] + 1) OnPacket();
}

void Improv::OnPacket() {
  const size_t data_bytes = packet_[2];
  packet_bytes_ = 0;
  was_packet_ = true;
  uint32_t sum = 0;
  for (const char c : kHeader) sum += static_cast<uint8_t>(c);
  for (size_t i = 0; i < 3 + data_bytes; ++i) sum += packet_[i];
  if (static_cast<uint8_t>(sum) != packet_[3 + data_bytes]) return SendError(ImprovError::kBadPacket);
  if (packet_[1] == static_cast<uint8_t>(Type::kCommand)) OnCommand(std::span(packet_).subspan(3, data_bytes));
}

void Improv::OnCommand(std::span<const uint8_t> data) {
  if (data.size() < 2 || data[1] != data.size() - 2) return SendError(ImprovError::kBadPacket);
  const auto command = static_cast<Command>(data[0]);
  std::span<const uint8_t> rest = data.subspan(2);
  switch (command) {
    case Command::kJoin: {
      if (rest.empty() || rest[0] + size_t{2} > rest.size()) return SendError(ImprovError::kBadPacket);
      const std::span<const uint8_t> ssid = rest.subspan(1, rest[0]);
      rest = rest.subspan(1 + ssid.size());
      const std::span<const uint8_t> password = rest.subspan(1);
      if (ssid.empty() || password.size() != rest[0]) return SendError(ImprovError::kBadPacket);
      if (state_ == ImprovState::kJoining) return SendError(ImprovError::kOther);
      SendError(ImprovError::kNone);
      state_ = ImprovState::kJoining;
      asked_to_join_ = true;
      SendState();
      return port_->StartJoin(TextOf(ssid), TextOf(password));
    }
    case Command::kState:
      SendError(ImprovError::kNone);
      SendState();
      if (state_ == ImprovState::kJoined) SendResult(command, std::array{port_->url()});
      return;
    case Command::kDevice: {
      SendError(ImprovError::kNone);
      // The texts are the port's until the next call.
      std::array<std::array<char, kMaxTextBytes>, 3> kept;
      std::array<std::string_view, 4> texts = {"Thimble"};
      for (size_t i = 0; i < kept.size(); ++i) {
        const std::string_view text = i == 0 ? port_->version() : i == 1 ? port_->chip() : port_->device_name();
        const size_t size = text.copy(kept[i].data(), kept[i].size());
        texts[i + 1] = {kept[i].data(), size};
      }
      return SendResult(command, texts);
    }
    case Command::kScan:
      SendError(ImprovError::kNone);
      port_->Scan(
          [](void* improv, std::string_view ssid, int rssi_dbm, bool has_password) {
            std::array<char, 8> number;
            TextBuffer rssi(number);
            if (rssi_dbm < 0) rssi.Append("-");
            rssi.Append(static_cast<uint64_t>(rssi_dbm < 0 ? -rssi_dbm : rssi_dbm));
            static_cast<Improv*>(improv)->SendResult(
                Command::kScan, std::array<std::string_view, 3>{
                                    ssid.substr(0, 32), {number.data(), rssi.size()}, has_password ? "YES" : "NO"});
          },
          this);
      return SendResult<0>(command, {});
  }
  SendError(ImprovError::kUnknownCommand);
}

void Improv::OnJoined() {
  state_ = ImprovState::kJoined;
  if (!std::exchange(asked_to_join_, false)) return;
  SendState();
  SendResult(Command::kJoin, std::array{port_->url()});
}

void Improv::OnFailed() {
  state_ = ImprovState::kReady;
  if (!std::exchange(asked_to_join_, false)) return;
  SendState();
  SendError(ImprovError::kCannotJoin);
}

void Improv::Send(Type type, std::span<const uint8_t> data) {
  std::array<char, 6 + 3 + 255 + 2> packet;
  size_t size = kHeader.copy(packet.data(), packet.size());
  const auto add = [&](uint8_t byte) { packet[size++] = static_cast<char>(byte); };
  add(kVersion);
  add(static_cast<uint8_t>(type));
  add(static_cast<uint8_t>(data.size()));
  for (const uint8_t byte : data) add(byte);
  uint32_t sum = 0;
  for (size_t i = 0; i < size; ++i) sum += static_cast<uint8_t>(packet[i]);
  add(static_cast<uint8_t>(sum));
  add('\n');
  port_->Write({packet.data(), size});
}

void Improv::SendState() {
  const auto state = static_cast<uint8_t>(state_);
  Send(Type::kState, {&state, 1});
}

void Improv::SendError(ImprovError error) {
  const auto code = static_cast<uint8_t>(error);
  Send(Type::kError, {&code, 1});
}

// The command, the bytes of all texts with their lengths, and each with its length before it.
template <size_t kTexts>
void Improv::SendResult(Command command, const std::array<std::string_view, kTexts>& texts) {
  std::array<uint8_t, 255> data;
  size_t size = 2;
  for (const std::string_view text : texts) {
    const size_t bytes = std::min(text.size(), data.size() - size - 1);
    data[size++] = static_cast<uint8_t>(bytes);
    text.copy(reinterpret_cast<char*>(data.data()) + size, bytes);
    size += bytes;
    if (size == data.size()) break;
  }
  data[0] = static_cast<uint8_t>(command);
  data[1] = static_cast<uint8_t>(size - 2);
  Send(Type::kResult, std::span(data).first(size));
}

}  // namespace thimble::firmware

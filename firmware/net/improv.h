// Improv Wi-Fi over a serial port: how a web page, as that which flashed the board, tells it a network.
//
// Packets and commands: improv-wifi.com, "Improv via Serial", version 1. A packet is "IMPROV", the version, a type, the
// length of its data, the data, and the sum of all bytes before modulo 256; a newline may follow. It comes over the
// port that the terminal has, so what is no packet goes on to that.
#ifndef THIMBLE_FIRMWARE_NET_IMPROV_H_
#define THIMBLE_FIRMWARE_NET_IMPROV_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace thimble::firmware {

enum class ImprovState : uint8_t { kReady = 2, kJoining = 3, kJoined = 4 };
enum class ImprovError : uint8_t { kNone = 0, kBadPacket = 1, kUnknownCommand = 2, kCannotJoin = 3, kOther = 255 };

// What Improv is told of the board, and has it do. From the task that calls Improv.
class ImprovPort {
 public:
  // A whole packet and its newline, for the serial port.
  virtual void Write(std::string_view packet) = 0;
  // Starts to join this network; Improv::OnJoined() or OnFailed() is called some time later.
  virtual void StartJoin(std::string_view ssid, std::string_view password) = 0;
  // The networks that are in reach, one call of `visit` for each: name, signal in dBm, whether it has a password.
  // May take seconds.
  virtual void Scan(void (*visit)(void* context, std::string_view ssid, int rssi_dbm, bool has_password),
                    void* context) = 0;
  // Of the firmware and the board; texts of up to 40 bytes, valid until the next call of anything here.
  virtual std::string_view version() = 0;
  virtual std::string_view chip() = 0;
  virtual std::string_view device_name() = 0;
  // Where the board is found in the network that it joined: "http://192.168.1.5/".
  virtual std::string_view url() = 0;

 protected:
  ~ImprovPort() = default;
};

// One task. Allocates nothing; some 600 bytes.
class Improv {
 public:
  // `port` outlives this.
  explicit Improv(ImprovPort& port) : port_(&port) {}

  // Takes bytes of the serial port and answers the packets among them. Returns those that are the terminal's, valid
  // until the next call: `out` has room for typed.size() + 6. The letters "IMPROV" reach the terminal before it is
  // known whose they are; where a packet begins behind them it gets six Backspaces.
  std::string_view Take(std::string_view typed, std::span<char> out);

  // How a StartJoin() ended. Without one, as after a start with a network that is known, only the
  // state changes: packets would stand in what people read.
  void OnJoined();
  void OnFailed();

  ImprovState state() const { return state_; }

 private:
  enum class Type : uint8_t { kState = 1, kError = 2, kCommand = 3, kResult = 4 };
  enum class Command : uint8_t { kJoin = 1, kState = 2, kDevice = 3, kScan = 4 };

  void OnPacketByte(uint8_t byte);
  void OnPacket();
  void OnCommand(std::span<const uint8_t> data);
  void Send(Type type, std::span<const uint8_t> data);
  void SendState();
  void SendError(ImprovError error);
  template <size_t kTexts>
  void SendResult(Command command, const std::array<std::string_view, kTexts>& texts);

  ImprovPort* port_;
  ImprovState state_ = ImprovState::kReady;
  bool asked_to_join_ = false;                    // by a command, whose result is still to be sent
  size_t letters_ = 0;                            // of "IMPROV" that came
  bool was_packet_ = false;                       // a newline now belongs to it
  std::array<uint8_t, 3 + 255 + 1> packet_ = {};  // from the version on
  size_t packet_bytes_ = 0;                       // that came; 0: none is under way
};

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_NET_IMPROV_H_

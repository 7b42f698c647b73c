// Which network the board is in: its own, one that it was told, or a cable's. What decides; firmware/main has drivers.
#ifndef THIMBLE_FIRMWARE_NET_NETWORK_CONTROL_H_
#define THIMBLE_FIRMWARE_NET_NETWORK_CONTROL_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "engine/base/error.h"
#include "firmware/app/machine.h"
#include "firmware/app/network.h"
#include "firmware/net/improv.h"
#include "firmware/net/network_settings.h"

namespace thimble::firmware {

// A driver. One task calls it.
class NetworkPort {
 public:
  enum class Link : uint8_t {
    kOwn,      // the board's own network is open
    kJoining,  // trying, or trying again
    kJoined,   // with an address
    kRefused,  // the last try failed: no such network, a wrong password
  };

  // Whether it joins networks by name; else it is a cable, whose link is kJoining or kJoined from the start.
  virtual bool has_names() const = 0;
  virtual std::array<uint8_t, 6> mac() const = 0;
  // Ten random bytes, from a true source.
  virtual std::array<uint8_t, 10> Random() = 0;

  // Opens the board's own network, with the page at kPortalUrl, and leaves the other. False: the driver fails.
  virtual bool OpenOwn(const NetworkName& own) = 0;
  // Starts to join; the board's own network is closed. One that was joined and is lost is joined again by the driver.
  virtual bool Join(const NetworkName& network) = 0;
  virtual Link link() const = 0;
  virtual std::array<uint8_t, 4> address() const = 0;  // of IPv4, while kJoined
  // As ImprovPort::Scan().
  virtual void Scan(void (*visit)(void* context, std::string_view ssid, int rssi_dbm, bool has_password),
                    void* context) = 0;
  virtual void Wait(uint32_t ms) = 0;  // lets others compute

 protected:
  ~NetworkPort() = default;
};

// Tells on the terminal where the page is whenever that changes, without passwords. One task, but for what is said
// otherwise; some 1.2 KB.
class NetworkControl final : public Network, public ImprovPort {
 public:
  // How long a network is tried, in microseconds, before the board opens its own.
  static constexpr uint64_t kTryUs = 20'000'000;

  // All outlive this. `version`: of the firmware; `chip`: "ESP32".
  NetworkControl(Machine& machine, NetworkPort& port, std::string_view version, std::string_view chip)
      : machine_(&machine), port_(&port), version_(version), chip_(chip), improv_(*this) {}

  // Joins the network that is kept, or opens the board's own. Once.
  void Start();
  // What happened since: to be called now and then.
  void Look();
  // Improv::Take().
  std::string_view OnSerial(std::string_view typed, std::span<char> out) { return improv_.Take(typed, out); }
  // Whether the board's own network is open: requests are then answered as a captive portal does. From any task.
  bool is_portal() const { return is_portal_.load(); }

  // Network, for the console: waits for the end of a Join(), which Ctrl-C ends, too.
  void Tell(bool shows_password) override;
  Result<void> Join(std::string_view ssid, std::string_view password) override;
  Result<void> Leave() override;
  Result<void> SetKey(std::string_view key) override;

 private:
  // ImprovPort.
  void Write(std::string_view packet) override { machine_->Write(packet); }
  void StartJoin(std::string_view ssid, std::string_view password) override;
  void Scan(void (*visit)(void* context, std::string_view ssid, int rssi_dbm, bool has_password),
            void* context) override {
    port_->Scan(visit, context);
  }
  std::string_view version() override { return version_; }
  std::string_view chip() override { return chip_; }
  std::string_view device_name() override { return own_.ssid_text(); }
  std::string_view url() override;

  enum class Try : uint8_t { kNone, kUnderWay, kDone, kFailed };
  void Begin(const NetworkName& network, bool keeps);
  void OpenOwn();
  void OnJoined();
  void OnRefused();

  Machine* machine_;
  NetworkPort* port_;
  std::string_view version_, chip_;
  Improv improv_;
  NetworkName own_, joining_;
  bool keeps_ = false;  // the network that is being joined, once it is
  Try try_ = Try::kNone;
  uint64_t try_began_us_ = 0;
  std::atomic<bool> is_portal_ = false;
  std::array<char, 32> url_ = {};
};

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_NET_NETWORK_CONTROL_H_

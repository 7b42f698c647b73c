// What the console's command `wifi` has of whoever has a network: firmware/main, where the firmware is built with one.
#ifndef THIMBLE_FIRMWARE_APP_NETWORK_H_
#define THIMBLE_FIRMWARE_APP_NETWORK_H_

#include <string_view>

#include "engine/base/error.h"

namespace thimble::firmware {

// Of the console's task. What it prints, it prints on the machine's terminal.
class Network {
 public:
  // Says which network the board is in and where its page is. `shows_password`: with the password of the board's own,
  // which nothing else prints.
  virtual void Tell(bool shows_password) = 0;
  // Joins a network and keeps it: says where the page is then. An empty password: it is open. Fails with a sentence;
  // the board stays where it was.
  virtual Result<void> Join(std::string_view ssid, std::string_view password) = 0;
  // Forgets it: the board has its own network again.
  virtual Result<void> Leave() = 0;
  // From the next start on, who asks over HTTP must have this key; empty: none. Says so. Fails for what is none.
  virtual Result<void> SetKey(std::string_view key) = 0;

 protected:
  ~Network() = default;  // never deleted through this interface
};

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_APP_NETWORK_H_

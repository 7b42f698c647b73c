// The service over HTTP as a board has it, and its limits.
#ifndef THIMBLE_FIRMWARE_NET_BOARD_SERVICE_H_
#define THIMBLE_FIRMWARE_NET_BOARD_SERVICE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "engine/base/board.h"
#include "engine/base/error.h"
#include "firmware/app/card_model.h"
#include "firmware/app/machine.h"
#include "firmware/app/settings.h"
#include "firmware/net/served_card.h"
#include "service/service.h"

namespace thimble::firmware {

// What a transport on a board takes, so that memory is bounded: connections at once, bytes of a request's body.
inline constexpr uint32_t kMaxConnections = 7;
inline constexpr size_t kMaxBodyBytes = 16 * 1024;
// Requests for a text behind the one that is being made.
inline constexpr size_t kMaxWaiting = 3;

// Of stack, beside a session's and the console's: what requests, their JSON and answers take, a server's answers too.
// An estimate.
inline constexpr uint32_t kServiceStackBytes = 4096;

// A sentence: why a board with this memory has no room for a network; null: it has.
const char* NoNetwork(const Board& board);

class BoardService {
 public:
  // Both outlive this. As ServedCard says of who may use them.
  BoardService(Machine& machine, CardModel& card) : machine_(&machine), model_(machine, card) {}

  // Opens the model of the settings, or the only one, or the first, and the service for it, with the key that is kept.
  // Once. `version`: of the firmware. Fails as ServedCard::Open(), and with kUnsupported as NoNetwork() says.
  Result<void> Open(const Settings& settings, std::string_view version);

  // After Open().
  service::Service& service() { return *service_; }
  const service::ModelDescription& description() const { return model_.description(); }

 private:
  Machine* machine_;
  ServedCard model_;
  std::optional<service::Service> service_;
};

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_NET_BOARD_SERVICE_H_

#include "firmware/net/board_service.h"

#include <string>

#include "firmware/net/network_settings.h"
#include "service/page.h"

namespace thimble::firmware {

const char* NoNetwork(const Board& board) {
  return board.capacity(Region::kPsram) == 0 ? kNoWifiWithoutPsram : nullptr;
}

Result<void> BoardService::Open(const Settings& settings, std::string_view version) {
  if (const char* const why = NoNetwork(machine_->board()); why != nullptr) {
    return Fail({.code = Code::kUnsupported, .what = why});
  }
  THIMBLE_TRY(model_.Open(settings.model.data(), settings.run));
  service::ServiceOptions options;
  options.api_key = LoadServiceKey(*machine_);
  options.version = version;
  options.page = service::PageHtml();
  options.max_waiting = kMaxWaiting;
  options.sampler = settings.run.start.sampler;
  options.has_seed = !settings.run.draws_seed;
  options.n_predict = settings.run.n;
  service_.emplace(model_, std::move(options));
  return {};
}

}  // namespace thimble::firmware

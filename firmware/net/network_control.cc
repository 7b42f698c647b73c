#include "firmware/net/network_control.h"

#include "engine/base/text_buffer.h"
#include "firmware/app/print.h"
#include "firmware/net/captive_portal.h"

namespace thimble::firmware {

std::string_view NetworkControl::url() {
  if (is_portal()) return kPortalUrl;
  TextBuffer text(url_);
  text.Append("http://");
  const std::array<uint8_t, 4> address = port_->address();
  for (size_t i = 0; i < address.size(); ++i) {
    if (i != 0) text.Append(".");
    text.Append(uint64_t{address[i]});
  }
  text.Append("/");
  return {url_.data(), text.size()};
}

void NetworkControl::Start() {
  own_ = OwnNetwork(*machine_, port_->mac(), port_->Random());
  if (!port_->has_names()) {
    try_ = Try::kUnderWay;
    try_began_us_ = machine_->NowUs();
    return;
  }
  if (const Result<NetworkName> kept = LoadNetwork(*machine_)) return Begin(*kept, /*keeps=*/false);
  OpenOwn();
}

void NetworkControl::OpenOwn() {
  if (!port_->OpenOwn(own_)) {
    Print(*machine_, "network: the radio does not start\n");
    return;
  }
  is_portal_.store(true);
  Tell(/*shows_password=*/false);
}

void NetworkControl::Begin(const NetworkName& network, bool keeps) {
  joining_ = network;
  keeps_ = keeps;
  is_portal_.store(false);
  try_began_us_ = machine_->NowUs();
  try_ = Try::kUnderWay;
  if (!port_->Join(network)) OnRefused();
}

void NetworkControl::OnJoined() {
  try_ = Try::kDone;
  if (keeps_) {
    if (const Result<void> kept = SaveNetwork(*machine_, joining_); !kept) {
      Print(*machine_, "network: it is not kept: ", kept.error(), "\n");
    }
  }
  Tell(/*shows_password=*/false);
  improv_.OnJoined();
}

void NetworkControl::OnRefused() {
  if (!port_->has_names()) {
    // A cable may be plugged in at any time.
    try_began_us_ = machine_->NowUs();
    return;
  }
  try_ = Try::kFailed;
  Print(*machine_, "network: ", Clean{joining_.ssid_text()},
        " cannot be joined: is it in reach, and the password right?\n");
  OpenOwn();
  improv_.OnFailed();
}

void NetworkControl::Look() {
  if (try_ != Try::kUnderWay) return;
  const NetworkPort::Link link = port_->link();
  if (link == NetworkPort::Link::kJoined) return OnJoined();
  if (link == NetworkPort::Link::kRefused || machine_->NowUs() - try_began_us_ > kTryUs) OnRefused();
}

void NetworkControl::StartJoin(std::string_view ssid, std::string_view password) {
  const Result<NetworkName> network = MakeNetworkName(ssid, password);
  if (network && port_->has_names()) return Begin(*network, /*keeps=*/true);
  improv_.OnFailed();
}

void NetworkControl::Tell(bool shows_password) {
  Printer out(*machine_);
  out.Add("network: ");
  if (is_portal()) {
    out.Add("the board's own, ").Add(own_.ssid_text()).Add("; page at ").Add(kPortalUrl);
    if (shows_password) {
      out.Add("; password ").Add(own_.password_text());
    } else {
      out.Add("; 'wifi --password' shows its password");
    }
  } else if (port_->link() == NetworkPort::Link::kJoined) {
    out.Add(port_->has_names() ? Clean{joining_.ssid_text()} : Clean{"cable"}).Add("; page at ").Add(url());
    if (shows_password) out.Add("; the password of the board's own is ").Add(own_.password_text());
  } else {
    out.Add(port_->has_names() ? Clean{joining_.ssid_text()} : Clean{"cable"}).Add(", no address yet");
  }
  out.Add("\n");
}

Result<void> NetworkControl::Join(std::string_view ssid, std::string_view password) {
  constexpr uint32_t kLookMs = 50;
  if (!port_->has_names()) {
    return Fail({.code = Code::kUnsupported, .what = "this board's network is a cable: there is nothing to join"});
  }
  THIMBLE_ASSIGN(const NetworkName network, MakeNetworkName(ssid, password));
  Begin(network, /*keeps=*/true);
  while (try_ == Try::kUnderWay) {
    if (machine_->interrupted().load()) {
      OnRefused();
      break;
    }
    port_->Wait(kLookMs);
    Look();
  }
  return {};
}

Result<void> NetworkControl::Leave() {
  THIMBLE_TRY(ForgetNetwork(*machine_));
  if (!port_->has_names()) return {};
  try_ = Try::kNone;
  OpenOwn();
  return {};
}

Result<void> NetworkControl::SetKey(std::string_view key) {
  THIMBLE_TRY(SaveServiceKey(*machine_, key));
  Print(*machine_, key.empty() ? "network: after the next start everybody in it may ask the board\n"
                               : "network: after the next start who asks the board must have this key\n");
  return {};
}

}  // namespace thimble::firmware

#include "service/server_url.h"

#include <algorithm>
#include <charconv>

namespace thimble::service {
namespace {

constexpr std::string_view kHttp = "http://";
constexpr std::string_view kHttps = "https://";
constexpr size_t kMaxBytes = 2000;
constexpr uint16_t kHttpPort = 80;
constexpr uint16_t kHttpsPort = 443;

std::unexpected<std::string> Wrong(const char* what) {
  return std::unexpected(std::string(what) + ": give http://HOST:PORT or https://HOST:PORT");
}

// Letters, digits and what names and addresses have besides.
bool IsHost(std::string_view host, bool in_brackets) {
  return !host.empty() && std::ranges::all_of(host, [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           (in_brackets ? c == ':' : c == '-' || c == '_');
  });
}

}  // namespace

std::string ServerUrl::Text() const {
  std::string text(is_https ? kHttps : kHttp);
  text += host.find(':') == host.npos ? host : "[" + host + "]";
  if (port != (is_https ? kHttpsPort : kHttpPort)) text += ":" + std::to_string(port);
  return text + path;
}

Answer<ServerUrl> ReadServerUrl(std::string_view text) {
  ServerUrl url;
  url.is_https = text.starts_with(kHttps);
  if (!url.is_https && !text.starts_with(kHttp))
    return Wrong("the server's address begins with neither http:// nor https://");
  if (text.size() > kMaxBytes) return Wrong("the server's address is too long");
  text.remove_prefix(url.is_https ? kHttps.size() : kHttp.size());
  std::string_view host = text.substr(0, std::min(text.find_first_of("/?#"), text.size()));
  std::string_view path = text.substr(host.size());
  if (host.find('@') != host.npos) {
    return std::unexpected(
        std::string("the server's address holds a name or a password: leave them out; a server that wants a key is "
                    "given it by itself"));
  }
  std::string_view port;
  const bool in_brackets = host.starts_with('[');
  if (in_brackets) {
    const size_t end = host.find(']');
    if (end == host.npos) return Wrong("the server's address lacks a ]");
    port = host.substr(end + 1);
    host = host.substr(1, end - 1);
  } else {
    const size_t colon = std::min(host.find(':'), host.size());
    port = host.substr(colon);
    host = host.substr(0, colon);
  }
  if (!IsHost(host, in_brackets)) return Wrong("the server's address has no host, or one that is none");
  url.host = host;
  url.port = url.is_https ? kHttpsPort : kHttpPort;
  if (!port.empty()) {
    const char* const end = port.data() + port.size();
    const auto read = std::from_chars(port.data() + 1, end, url.port);
    if (port.front() != ':' || read.ec != std::errc() || read.ptr != end || url.port == 0) {
      return Wrong("the port of the server's address is not 1 to 65535");
    }
  }
  const bool is_path = std::ranges::all_of(path, [](char c) { return c > ' ' && c < 0x7f && c != '?' && c != '#'; });
  if (!is_path) return Wrong("the server's address ends in what is no path");
  while (path.ends_with('/')) path.remove_suffix(1);
  // However often, so that what is shown is read as the same address.
  while (path.ends_with("/v1")) {
    path.remove_suffix(3);
    while (path.ends_with('/')) path.remove_suffix(1);
  }
  url.path = path;
  return url;
}

}  // namespace thimble::service

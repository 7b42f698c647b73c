#include "host/serve/http_transport.h"

#include <httplib.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "host/serve/read_ahead.h"
#include "service/background_transport.h"

namespace thimble::host {
namespace {

constexpr size_t kMaxHeldBytes = 64 << 10;
constexpr size_t kMaxHeadBytes = 32 << 10;
constexpr size_t kMaxLineBytes = 1024;  // of the first; httplib matches it with std::regex, whose stack grows with it
// What a body may have around its bytes: the shortest chunks have five bytes about one.
constexpr size_t kMaxFramePerByte = 8;
constexpr int kSliceMs = 50;

// An exchange, and what its thread has received for it.
struct Carried {
  service::Exchange& exchange;
  bool is_in_body = false;
  size_t head_bytes = 0;
  bool has_line = false;
  size_t received_bytes = 0;
  size_t body_bytes = 0;
  bool is_odd = false;  // more was sent around an answer than belongs there

  bool is_cancelled() const { return exchange.is_cancelled(); }
};

bool IsReady(int sock, short events, const Carried& carried) {
  while (!carried.is_cancelled()) {
    pollfd entry = {.fd = sock, .events = events, .revents = 0};
    const int n = poll(&entry, 1, kSliceMs);
    if (n > 0) return true;
    if (n < 0 && errno != EINTR) return false;
  }
  return false;
}

// In place of httplib's streams: ends when the request is given up, and bounds what httplib would keep.
class GuardedStream final : public httplib::Stream {
 public:
  // `ssl`: null without TLS.
  GuardedStream(int sock, SSL* ssl, Carried& carried) : sock_(sock), ssl_(ssl), carried_(carried) {}

  bool is_readable() const override {
    return (ssl_ != nullptr && SSL_pending(ssl_) > 0) || IsReady(sock_, POLLIN, carried_);
  }
  bool is_writable() const override { return IsReady(sock_, POLLOUT, carried_); }
  ssize_t read(char* out, size_t size) override {
    const ssize_t n = ahead_.Read(out, size, [&](std::span<char> buffer) { return Receive(buffer); });
    if (n <= 0) return n;
    if (!MayGoOn(std::string_view(out, static_cast<size_t>(n)))) {
      carried_.is_odd = true;
      return -1;
    }
    return n;
  }
  ssize_t write(const char* bytes, size_t size) override {
    if (!is_writable()) return -1;
    if (ssl_ == nullptr) return send(sock_, bytes, size, MSG_NOSIGNAL);
    return SSL_write(ssl_, bytes, static_cast<int>(std::min<size_t>(size, 16 << 10)));
  }
  void get_remote_ip_and_port(std::string&, int&) const override {}
  void get_local_ip_and_port(std::string&, int&) const override {}
  socket_t socket() const override { return sock_; }

 private:
  ssize_t Receive(std::span<char> buffer) {
    if (!is_readable()) return -1;
    if (ssl_ == nullptr) return recv(sock_, buffer.data(), buffer.size(), 0);
    while (true) {
      const int n = SSL_read(ssl_, buffer.data(), static_cast<int>(buffer.size()));
      if (n > 0) return n;
      const int error = SSL_get_error(ssl_, n);
      if (error == SSL_ERROR_ZERO_RETURN) return 0;
      // A record that is not all there; the socket has a time of its own.
      const bool is_early = error == SSL_ERROR_WANT_READ || (error == SSL_ERROR_SYSCALL && errno == EAGAIN);
      if (!is_early || !IsReady(sock_, POLLIN, carried_)) return -1;
    }
  }

  bool MayGoOn(std::string_view bytes) {
    carried_.received_bytes += bytes.size();
    if (carried_.is_in_body) {
      return carried_.received_bytes - carried_.head_bytes <=
             (kMaxFramePerByte + 1) * carried_.body_bytes + kMaxHeldBytes;
    }
    carried_.head_bytes = carried_.received_bytes;
    carried_.has_line = carried_.has_line || bytes.find('\n') != bytes.npos;
    return carried_.head_bytes <= (carried_.has_line ? kMaxHeadBytes : kMaxLineBytes);
  }

  int sock_;
  SSL* ssl_;
  Carried& carried_;
  ReadAhead ahead_;
};

// httplib's client for `Base`'s scheme.
template <class Base>
class Client final : public Base {
 public:
  Client(const std::string& host, int port, Carried& carried) : Base(host, port), carried_(&carried) {}

 private:
  bool process_socket(const typename Base::Socket& socket,
                      std::function<bool(httplib::Stream& stream)> callback) override {
    GuardedStream stream(socket.sock, socket.ssl, *carried_);
    return callback(stream);
  }

  Carried* carried_;
};

std::string Describe(httplib::Error error, const Carried& carried) {
  if (carried.is_odd) return "sends more around its answer than belongs there: another kind of server may be there";
  switch (error) {
    case httplib::Error::Connection:
      return "cannot be reached: nobody listens there, or the network does not know it";
    case httplib::Error::ConnectionTimeout:
      return "cannot be reached: it does not answer";
    case httplib::Error::SSLConnection:
      return "cannot be reached: it speaks no HTTPS that this computer knows";
    case httplib::Error::SSLLoadingCerts:
      return "cannot be reached: this computer's certificates cannot be read";
    case httplib::Error::SSLServerVerification:
      return "cannot be trusted: its certificate is of another name, or of nobody whom this computer trusts";
    default:
      return carried.exchange.has_head() ? "hung up in mid-answer" : "hung up, or sent what is no HTTP";
  }
}

service::ResponseHead HeadOf(const httplib::Response& response) {
  return {.status = response.status,
          .content_type = response.get_header_value("Content-Type"),
          .location = response.get_header_value("Location")};
}

template <class Base>
void RunClient(service::Exchange& exchange) {
  Carried carried{exchange};
  const service::OutgoingRequest& asked = exchange.request();
  Client<Base> client(asked.url.host, asked.url.port, carried);
  client.set_connection_timeout(exchange.most());
  client.set_read_timeout(exchange.most());  // of a socket; the stream above ends earlier
  client.set_tcp_nodelay(true);
  client.set_follow_location(false);
  client.set_decompress(false);
  client.set_keep_alive(false);
  client.set_url_encode(false);

  httplib::Request request;
  request.method = "POST";
  request.path = asked.url.path + asked.path;
  request.headers = {{"Accept", "text/event-stream, application/json"},
                     {"Accept-Encoding", "identity"},
                     {"Content-Type", "application/json"},
                     {"User-Agent", "thimble/" THIMBLE_VERSION}};
  if (!asked.key.empty()) request.headers.emplace("Authorization", "Bearer " + asked.key);
  request.body = asked.body;
  request.response_handler = [&](const httplib::Response& response) {
    carried.is_in_body = true;
    exchange.BeginAnswer(HeadOf(response));
    return !exchange.is_cancelled();
  };
  request.content_receiver = [&](const char* bytes, size_t n, uint64_t, uint64_t) {
    carried.body_bytes += n;
    return exchange.Give({bytes, n});
  };
  httplib::Response response;
  auto error = httplib::Error::Success;
  const bool is_whole = client.send(request, response, error);
  // Of an answer whose head httplib takes for one that nothing can follow, nobody was told.
  if (is_whole && !exchange.has_head() && response.status > 0) exchange.BeginAnswer(HeadOf(response));
  exchange.End(is_whole ? "" : Describe(error, carried));
}

class RequestThread final : public service::Carrier {
 public:
  bool Carry(std::shared_ptr<service::Exchange> exchange) override {
    // Signals are for the thread that waits; a server that hangs up is no signal at all.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    thread_ = std::thread([exchange = std::move(exchange)] {
      if (exchange->request().url.is_https) {
        RunClient<httplib::SSLClient>(*exchange);
      } else {
        RunClient<httplib::ClientImpl>(*exchange);
      }
    });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return true;
  }

  void OnCancelled(bool is_over) override { is_over ? thread_.join() : thread_.detach(); }

 private:
  std::thread thread_;
};

}  // namespace

std::unique_ptr<service::Transport> MakeHttpTransport() {
  return std::make_unique<service::BackgroundTransport>(std::make_unique<RequestThread>(), kMaxHeldBytes);
}

}  // namespace thimble::host

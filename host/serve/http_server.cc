#include "host/serve/http_server.h"

#include <fmt/format.h>
#include <httplib.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "host/serve/read_ahead.h"

namespace thimble::host {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr size_t kMaxRefused = 256;  // connections that wait to be told that there are too many
constexpr milliseconds kSlice(200);  // at most, before a stop is looked for
constexpr milliseconds kRefusal(500);
constexpr milliseconds kFarewell(3000);
constexpr std::string_view kTooMany =
    "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Type: application/json\r\nConnection: close\r\n"
    "Content-Length: 113\r\n\r\n"
    "{\"error\":{\"message\":\"too many connections: try again "
    "later\",\"type\":\"unavailable_error\",\"param\":null,\"code\":null}}";
static_assert(kTooMany.size() - (kTooMany.find("\r\n\r\n") + 4) == 113);

bool WaitFor(int sock, short events, Clock::time_point until) {
  while (true) {
    const auto left = std::chrono::ceil<milliseconds>(until - Clock::now());
    if (left.count() <= 0) return false;
    pollfd entry = {.fd = sock, .events = events, .revents = 0};
    const int n = poll(&entry, 1, static_cast<int>(std::min<int64_t>(left.count(), 60'000)));
    if (n > 0) return true;
    if (n < 0 && errno != EINTR) return false;
  }
}

// A connection whose request must arrive within a time, however slowly it drips.
class TimedStream final : public httplib::Stream {
 public:
  TimedStream(int sock, Clock::time_point read_until, std::chrono::seconds send)
      : sock_(sock), read_until_(read_until), send_(send) {}

  bool is_readable() const override { return WaitFor(sock_, POLLIN, read_until_); }
  bool is_writable() const override { return WaitFor(sock_, POLLOUT, Clock::now() + send_); }
  ssize_t read(char* out, size_t size) override {
    return ahead_.Read(out, size, [&](std::span<char> buffer) -> ssize_t {
      return is_readable() ? recv(sock_, buffer.data(), buffer.size(), 0) : -1;
    });
  }
  ssize_t write(const char* bytes, size_t size) override {
    if (!is_writable()) return -1;
    return send(sock_, bytes, size, MSG_NOSIGNAL);
  }
  void get_remote_ip_and_port(std::string&, int&) const override {}
  void get_local_ip_and_port(std::string&, int&) const override {}
  socket_t socket() const override { return sock_; }

  bool has_more() const { return ahead_.has_more(); }
  void set_read_until(Clock::time_point until) { read_until_ = until; }

 private:
  int sock_;
  Clock::time_point read_until_;
  std::chrono::seconds send_;
  ReadAhead ahead_;
};

// The connection that a thread works for; httplib hands no socket to its handlers.
struct Connection {
  int sock = -1;
  bool must_close = false;  // something of the request was not read
};
thread_local Connection* connection = nullptr;
thread_local bool is_refusing = false;

// Who waits at the other end of the thread's connection.
class SocketClient : public service::Client {
 public:
  bool IsThere() override {
    char byte = 0;
    const ssize_t n = recv(connection->sock, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR));
  }
  bool Send(std::string_view) override { return false; }
};

class SinkClient final : public SocketClient {
 public:
  explicit SinkClient(httplib::DataSink& sink) : sink_(&sink) {}
  bool Send(std::string_view bytes) override {
    is_there_ = is_there_ && sink_->write(bytes.data(), bytes.size());
    return is_there_;
  }
  bool IsThere() override { return is_there_ && SocketClient::IsThere(); }

 private:
  httplib::DataSink* sink_;
  bool is_there_ = true;
};

// A thread for each connection up to a number; one more tells the others that there are too many. Who worked last works
// next, so that few connections at a time need few stacks and caches, however many come.
class Threads final : public httplib::TaskQueue {
 public:
  explicit Threads(uint32_t n) {
    for (uint32_t i = 0; i < n; ++i) workers_.push_back(std::make_unique<Worker>());
    for (const auto& worker : workers_) {
      idle_.push_back(worker.get());
      worker->thread = std::thread([this, &worker = *worker] { Work(worker); });
    }
    refuser_ = std::thread([this] { Refuse(); });
  }
  void enqueue(std::function<void()> task) override {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      Worker& worker = *idle_.back();
      idle_.pop_back();
      worker.task = std::move(task);
      worker.wake.notify_one();
    } else if (refused_.size() < kMaxRefused) {
      refused_.push_back(std::move(task));
      refuser_wake_.notify_one();
    } else {
      // Nobody is told; the system resets the connection.
      is_refusing = true;
      connection_is_dropped = true;
      task();
      is_refusing = connection_is_dropped = false;
    }
  }
  void shutdown() override {
    {
      const std::lock_guard lock(mutex_);
      ends_ = true;
    }
    for (const auto& worker : workers_) worker->wake.notify_one();
    refuser_wake_.notify_one();
    for (const auto& worker : workers_) worker->thread.join();
    refuser_.join();
  }
  static thread_local bool connection_is_dropped;

 private:
  struct Worker {
    std::condition_variable wake;
    std::function<void()> task;  // none: it is idle
    std::thread thread;
  };

  void Work(Worker& worker) {
    std::unique_lock lock(mutex_);
    while (true) {
      worker.wake.wait(lock, [&] { return ends_ || worker.task; });
      if (!worker.task) return;
      lock.unlock();
      std::exchange(worker.task, nullptr)();
      lock.lock();
      idle_.push_back(&worker);
    }
  }

  void Refuse() {
    is_refusing = true;
    std::unique_lock lock(mutex_);
    while (true) {
      refuser_wake_.wait(lock, [&] { return ends_ || !refused_.empty(); });
      if (refused_.empty()) return;
      const std::function<void()> task = std::move(refused_.front());
      refused_.pop_front();
      lock.unlock();
      task();
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<Worker*> idle_;  // the one that worked last is the last
  std::deque<std::function<void()>> refused_;
  std::condition_variable refuser_wake_;
  std::thread refuser_;
  bool ends_ = false;
};
thread_local bool Threads::connection_is_dropped = false;

class Httplib final : public HttpServer, private httplib::Server {
 public:
  Httplib(const HttpOptions& options, service::Service& service) : options_(options), service_(&service) {
    new_task_queue = [n = options.max_connections] { return new Threads(n); };
    // Without SO_REUSEPORT, httplib's default, by which two services would share a port.
    set_socket_options([](socket_t sock) {
      const int yes = 1;
      setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    });
    const auto answer = [this](const httplib::Request& request, httplib::Response& response) {
      Answer(request, "", response);
    };
    const auto answer_body = [this](const httplib::Request& request, httplib::Response& response,
                                    const httplib::ContentReader& reader) {
      std::string body;
      bool is_long = false;
      const bool is_whole = reader([&](const char* bytes, size_t n) {
        is_long = n > options_.max_body_bytes - body.size();
        if (is_long) return false;
        body.append(bytes, n);
        return true;
      });
      if (is_whole) return Answer(request, std::move(body), response);
      connection->must_close = true;
      Give(service::ToResponse(
               {.status = is_long ? 413 : 400,
                .message = is_long ? fmt::format("a request may have {} bytes at most", options_.max_body_bytes)
                                   : "the body does not arrive as its header says"}),
           response);
    };
    constexpr char kAll[] = ".*";
    Get(kAll, answer);
    Options(kAll, answer);
    Post(kAll, answer_body);
    Server::Put(kAll, answer_body);
    Patch(kAll, answer_body);
    Delete(kAll, answer_body);
    set_error_handler([this](const httplib::Request&, httplib::Response& response) {
      // What httplib refuses by itself: a request that is none.
      if (!response.body.empty()) return;
      connection->must_close = true;
      Give(service::ToResponse(
               {.status = response.status < 400 ? 400 : response.status, .message = "this is no HTTP request"}),
           response);
    });
    // Memory that is not there, above all.
    set_exception_handler([this](const httplib::Request&, httplib::Response& response, std::exception_ptr) {
      connection->must_close = true;
      Give(service::ToResponse({.status = 500, .message = "the service failed"}), response);
    });
  }

  Status Bind() {
    port_ = options_.port;
    if (port_ == 0) {
      const int port = bind_to_any_port(options_.host);
      if (port > 0) port_ = static_cast<uint16_t>(port);
    } else if (!bind_to_port(options_.host, options_.port)) {
      return Sentence(
          fmt::format("{}:{} cannot be had: another program may listen there, or this computer has no such "
                      "address; choose another with --host and --port",
                      options_.host, options_.port));
    }
    if (port_ == 0) return Sentence(fmt::format("{}: this computer has no such address", options_.host));
    ::listen(svr_sock_, SOMAXCONN);  // httplib has 5 wait
    return {};
  }

  uint16_t port() const override { return port_; }
  void Run() override {
    runs_.store(true);
    if (!stops_.load()) listen_after_bind();
    runs_.store(false);
  }
  void Stop() override {
    stops_.store(true);
    // httplib breaks off what is being sent once it stops: what is under way ends first.
    const auto until = Clock::now() + kFarewell;
    while (answering_ != 0 && Clock::now() < until) std::this_thread::sleep_for(milliseconds(10));
    // Nor does it hear of a stop before it listens.
    while (runs_.load() && !is_running()) std::this_thread::sleep_for(milliseconds(1));
    if (runs_.load()) stop();
  }

 private:
  void Give(service::Response from, httplib::Response& to) {
    to.status = from.status;
    for (auto& [name, value] : from.headers) to.set_header(name, value);
    if (connection->must_close) to.set_header("Connection", "close");
    if (!from.stream) {
      if (!from.content_type.empty()) to.set_content(from.body, from.content_type);
      return;
    }
    to.set_chunked_content_provider(from.content_type,
                                    [stream = std::move(from.stream)](size_t, httplib::DataSink& sink) {
                                      SinkClient client(sink);
                                      stream(client);
                                      if (!client.IsThere()) return false;
                                      sink.done();
                                      return true;
                                    });
  }

  void Answer(const httplib::Request& request, std::string body, httplib::Response& response) {
    SocketClient client;
    Give(service_->Handle({.method = request.method,
                           .path = request.path,
                           .authorization = request.get_header_value("Authorization"),
                           .origin = request.get_header_value("Origin"),
                           .body = std::move(body)},
                          client),
         response);
  }

  // In place of httplib's own, which has a time for each read but none for a request.
  bool process_and_close_socket(socket_t sock) override {
    if (is_refusing) {
      if (!Threads::connection_is_dropped) Refuse(sock);
      close(sock);
      return false;
    }
    Connection own = {.sock = sock};
    connection = &own;
    const int yes = 1;
    setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    TimedStream stream(sock, {}, std::chrono::seconds(options_.send_s));
    bool ok = true;
    while (ok && !own.must_close && !stops_ && HasRequest(stream, sock)) {
      stream.set_read_until(Clock::now() + std::chrono::seconds(options_.request_s));
      bool closed = false;
      ++answering_;
      ok = process_request(stream, false, closed, nullptr) && !closed;
      --answering_;
    }
    connection = nullptr;
    Hangup(sock);
    close(sock);
    return ok;
  }

  bool HasRequest(const TimedStream& stream, int sock) const {
    if (stream.has_more()) return true;
    const auto until = Clock::now() + std::chrono::seconds(options_.idle_s);
    while (!stops_ && Clock::now() < until) {
      if (WaitFor(sock, POLLIN, std::min(until, Clock::now() + kSlice))) return true;
    }
    return false;
  }

  // Says no more, and reads for a moment what may still be under way: to close before that would make the system throw
  // away what was sent.
  static void Hangup(int sock) {
    ::shutdown(sock, SHUT_WR);
    const auto until = Clock::now() + kRefusal;
    std::array<char, 4096> rest;
    for (int i = 0; i < 64 && WaitFor(sock, POLLIN, until); ++i) {
      if (recv(sock, rest.data(), rest.size(), MSG_DONTWAIT) <= 0) return;
    }
  }

  static void Refuse(int sock) {
    (void)!send(sock, kTooMany.data(), kTooMany.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    Hangup(sock);
  }

  HttpOptions options_;
  service::Service* service_;
  uint16_t port_ = 0;
  std::atomic<bool> runs_ = false;
  std::atomic<bool> stops_ = false;
  std::atomic<int> answering_ = 0;  // requests
};

}  // namespace

Expected<std::unique_ptr<HttpServer>> HttpServer::Listen(const HttpOptions& options, service::Service& service) {
  auto server = std::make_unique<Httplib>(options, service);
  THIMBLE_TRY(server->Bind());
  return server;
}

}  // namespace thimble::host

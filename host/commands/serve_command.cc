// thimble serve: a model over HTTP.
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "host/commands/command.h"
#include "host/commands/model_options.h"
#include "host/commands/plan_options.h"
#include "host/commands/sampler_options.h"
#include "host/models/chat.h"
#include "host/models/loaded_model.h"
#include "host/models/plan_request.h"
#include "host/serve/http_server.h"
#include "host/serve/served_model.h"
#include "host/support/input_file.h"
#include "host/support/messages.h"
#include "host/support/numbers.h"
#include "host/support/paths.h"
#include "host/support/program.h"
#include "host/support/visible_text.h"
#include "service/page.h"
#include "service/plan_for_requests.h"
#include "service/service.h"

namespace thimble::host {
namespace {

constexpr uint64_t kMaxKeyFileBytes = 4096;

struct ServeArguments {
  ModelRequest model;
  PlanRequest plan;
  SamplerArguments sampler;
  HttpOptions http;
  service::ServiceOptions service;
  std::string alias;
  std::string api_key_file;
  std::string chat_template;
  int64_t n_predict = -1;
  bool logprobs = false;
  bool no_page = false;
  bool no_open = false;
};

// The name of a model in answers: its file's, without folder and ending.
std::string NameFor(const ServeArguments& arguments) {
  return arguments.alias.empty() ? StemOf(arguments.model.model) : arguments.alias;
}

Expected<std::string> KeyOf(const ServeArguments& arguments) {
  if (!arguments.api_key_file.empty()) {
    THIMBLE_ASSIGN(std::string text, ReadGiven(arguments.api_key_file, kMaxKeyFileBytes));
    text = text.substr(0, text.find_first_of("\r\n"));
    if (text.empty()) return Sentence(fmt::format("{}: its first line, the key, is empty", arguments.api_key_file));
    return text;
  }
  if (!arguments.service.api_key.empty()) return arguments.service.api_key;
  const char* const variable = std::getenv("THIMBLE_API_KEY");
  return std::string(variable == nullptr ? "" : variable);
}

// "http://127.0.0.1:8080", as a browser on this computer finds it.
std::string UrlOf(const std::string& host, uint16_t port) {
  const std::string shown = host == "0.0.0.0" ? "127.0.0.1" : host == "::" ? "::1" : host;
  return fmt::format("http://{}:{}", shown.find(':') == shown.npos ? shown : "[" + shown + "]", port);
}

bool IsSet(const char* variable) {
  const char* const value = std::getenv(variable);
  return value != nullptr && value[0] != '\0';
}

// In the browser of whoever sits before this computer, if somebody does.
void OpenPage(const std::string& url) {
  if (isatty(STDOUT_FILENO) != 1 || !(IsSet("DISPLAY") || IsSet("WAYLAND_DISPLAY"))) return;
  const Expected<std::string> opener = FindProgram(UsualProgramFolders(), "xdg-open", "xdg-utils");
  if (opener) StartProgram(*opener, {url + "/"});
}

Status Serve(ServeArguments arguments) {
  // Before there is any other thread: SIGINT and SIGTERM are waited for below, and nowhere else.
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGINT);
  sigaddset(&ends, SIGTERM);

  THIMBLE_ASSIGN(arguments.service.api_key, KeyOf(arguments));
  THIMBLE_ASSIGN(arguments.service.sampler, ResolveSampler(arguments.sampler));
  arguments.service.has_seed = arguments.sampler.seed >= 0;
  arguments.service.n_predict = arguments.n_predict;
  arguments.service.keeps_logits = arguments.logprobs;
  arguments.service.version = THIMBLE_VERSION;
  if (!arguments.no_page) arguments.service.page = service::PageHtml();

  THIMBLE_ASSIGN(PlanStart start, ReadPlan(arguments.plan, arguments.model));
  start.options.keep_logits = arguments.logprobs;
  std::atomic<bool> cancel = false;
  THIMBLE_ASSIGN(const std::unique_ptr<LoadedModel> loaded, LoadedModel::Open(arguments.model, &cancel));
  THIMBLE_ASSIGN(
      const plan::Plan plan,
      service::PlanForRequests(arguments.service.sampler, loaded->model().shape.vocab_size,
                               [&](const head::SamplerOptions& sampler) { return MakePlan(*loaded, start, sampler); }));
  THIMBLE_ASSIGN(const std::unique_ptr<ServedModel> model,
                 ServedModel::Open(*loaded, plan, cancel, NameFor(arguments), arguments.chat_template));
  service::Service service(*model, arguments.service);
  THIMBLE_ASSIGN(const std::unique_ptr<HttpServer> server, HttpServer::Listen(arguments.http, service));

  pthread_sigmask(SIG_BLOCK, &ends, nullptr);
  std::thread answers([&] { server->Run(); });
  const std::string url = UrlOf(arguments.http.host, server->port());
  const service::ModelDescription& description = model->description();
  WriteAside(fmt::format("model     {}\nboard     {}: {}\ncontext   {} of the model's {} positions\nchat      {}\n",
                         Visible(loaded->description()), loaded->board().name, Visible(loaded->board().description),
                         model->session().n_ctx(), loaded->model().shape.max_position_embeddings,
                         description.chat_template.empty() ? "no: " + Visible(description.no_chat)
                                                           : "by the template " + description.chat_template));
  NoteCache(plan);
  if (!description.no_texts.empty()) ReportNote(description.no_texts + "; only prompts of token ids are answered");
  const bool is_local =
      arguments.http.host == "127.0.0.1" || arguments.http.host == "::1" || arguments.http.host == "localhost";
  if (!is_local && arguments.service.api_key.empty()) {
    ReportNote(
        fmt::format("everybody who reaches {} may use the model; --api-key KEY asks for a key", arguments.http.host));
  }
  WriteResult(fmt::format("{}  (page at /, OpenAI's API at /v1; Ctrl-C ends)\n", url));
  FlushResult();
  if (!arguments.no_page && !arguments.no_open) OpenPage(url);

  int signal = 0;
  sigwait(&ends, &signal);
  pthread_sigmask(SIG_UNBLOCK, &ends, nullptr);  // a second one ends at once
  service.Stop();
  server->Stop();
  answers.join();
  return {};
}

}  // namespace

void AddServeCommand(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<ServeArguments>();
  CLI::App* command =
      app.add_subcommand("serve", "Serve a chat page, OpenAI's API and llama-server's, inside a board's memory");
  AddModelOptions(*command, arguments->model);
  command->add_option("--host", arguments->http.host, "The address to listen at; 0.0.0.0: all of this computer's")
      ->capture_default_str();
  command->add_option("--port", arguments->http.port, "The port to listen at; 0: any that is free")
      ->capture_default_str();
  command->add_option("--api-key", arguments->service.api_key,
                      "Answer only who sends this key (also: THIMBLE_API_KEY in the environment)");
  command->add_option("--api-key-file", arguments->api_key_file, "Read the key from the first line of this file")
      ->type_name("FILE");
  command->add_option("-a,--alias", arguments->alias, "What answers call the model (default: its file's name)")
      ->type_name("NAME");
  command->add_option("-n,--predict,--n-predict", arguments->n_predict, "Most tokens of a text; -1: no limit")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{-1}, int64_t{1} << 40));
  AddPlanOptions(*command, arguments->plan);
  AddSamplerOptions(*command, arguments->sampler);
  command->add_option("--chat-template", arguments->chat_template,
                      "In place of the model's own chat template: " + ChatTemplateNames());
  command->add_flag("--logprobs", arguments->logprobs,
                    "Keep all logits, so that requests may ask for logprobs; every token scans the whole LM head");
  command->add_option("--max-waiting", arguments->service.max_waiting, "Requests that may wait for their turn")
      ->capture_default_str()
      ->check(CLI::Range(0, 10000));
  command->add_option("--threads-http", arguments->http.max_connections, "Connections at once")
      ->capture_default_str()
      ->check(CLI::Range(1, 4096));
  command->add_option("--timeout", arguments->http.request_s, "Seconds in which a request must have arrived")
      ->capture_default_str()
      ->check(CLI::Range(1, 3600));
  command
      ->add_option("--cors-origin", arguments->service.allowed_origin,
                   "Which pages' scripts may ask; *: any; empty: only the page of the service")
      ->capture_default_str();
  command->add_flag("--no-webui", arguments->no_page, "Without the page at /");
  command->add_flag("--no-open", arguments->no_open,
                    "Do not show the page in the browser, as on a terminal of a desktop");
  command->footer(
      "Examples:\n"
      "  thimble serve -m chat.gguf\n"
      "  thimble serve -m card.img --port 0 --api-key secret\n"
      "  curl http://127.0.0.1:8080/v1/completions -d '{\"prompt\": \"Once upon a time\", \"max_tokens\": 50}'");
  command->callback([arguments, &exit_code] {
    const Status result = Serve(*arguments);
    exit_code = result ? 0 : ReportFailure(result.error());
  });
}

}  // namespace thimble::host

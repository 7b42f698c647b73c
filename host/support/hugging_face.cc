#include "host/support/hugging_face.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <span>

#include "host/support/paths.h"

namespace thimble::host {
namespace {

struct Repository {
  std::string owner;
  std::string name;
  std::string file;  // the one that an address leads to; empty: all of it
};

// Up to the next `end`, which is taken, too.
std::string_view Take(std::string_view& text, char end) {
  const std::string_view taken = text.substr(0, text.find(end));
  text.remove_prefix(std::min(taken.size() + 1, text.size()));
  return taken;
}

constexpr std::string_view kNameLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";

// What huggingface_hub's validate_repo_id() lets pass.
bool IsName(std::string_view name) {
  constexpr std::string_view kNotAtEnds = "-.";
  return !name.empty() && name.size() <= 96 && name.find_first_not_of(kNameLetters) == name.npos &&
         kNotAtEnds.find(name.front()) == kNotAtEnds.npos && kNotAtEnds.find(name.back()) == kNotAtEnds.npos &&
         name.find("..") == name.npos && name.find("--") == name.npos;
}

// A file that is not there, rather than a repository.
bool IsFileName(std::string_view name) {
  constexpr std::array<std::string_view, 9> kExtensions = {".gguf",  ".bin", ".img", ".safetensors", ".json",
                                                           ".model", ".pt",  ".pth", ".thimble"};
  return std::ranges::any_of(kExtensions, [&](std::string_view extension) { return name.ends_with(extension); });
}

// Takes the start of an address, if `text` is one.
bool TakeSite(std::string_view& text) {
  constexpr std::array<std::string_view, 2> kSchemes = {"https://", "http://"};
  constexpr std::array<std::string_view, 3> kSites = {"huggingface.co/", "www.huggingface.co/", "hf.co/"};
  const auto take = [&](std::span<const std::string_view> starts) {
    const auto found = std::ranges::find_if(starts, [&](std::string_view start) { return text.starts_with(start); });
    if (found == starts.end()) return false;
    text.remove_prefix(found->size());
    return true;
  };
  if (take(std::array<std::string_view, 1>{"hf://"})) return true;
  take(kSchemes);
  return take(kSites);
}

std::optional<Repository> ParseRepository(std::string_view text, bool is_surely_one) {
  if (TakeSite(text)) is_surely_one = true;
  Repository repository;
  repository.owner = Take(text, '/');
  std::string_view name = Take(text, '/');
  name = name.substr(0, name.find_first_of(":?#"));  // "NAME:Q4_K_M", as llama.cpp takes it
  repository.name = name;
  if (!IsName(repository.owner) || !IsName(repository.name)) return std::nullopt;
  if (!is_surely_one && (!text.empty() || IsFileName(name))) return std::nullopt;
  // Of a file: .../resolve/main/FILE.
  const std::string_view what = Take(text, '/');
  if (what == "resolve" || what == "blob" || what == "raw") {
    Take(text, '/');
    text = text.substr(0, text.find_first_of("?#"));
    // As a shell takes it.
    const auto is_plain = [](char c) { return c == '/' || kNameLetters.find(c) != kNameLetters.npos; };
    if (std::ranges::all_of(text, is_plain)) repository.file = text;
  }
  return repository;
}

std::string HowToFetch(const Repository& repository) {
  const auto& [owner, name, file] = repository;
  if (file.empty()) {
    return fmt::format("fetch it with 'hf download {}/{} --local-dir {}', then 'thimble convert {} -o {}.gguf'", owner,
                       name, name, name, name);
  }
  return fmt::format("fetch it with 'hf download {}/{} {} --local-dir {}', and give {}/{} here", owner, name, file,
                     name, name, file);
}

}  // namespace

Status RefuseRepository(const std::string& path) {
  if (Exists(path)) return {};
  const std::optional<Repository> repository = ParseRepository(path, /*is_surely_one=*/false);
  if (!repository) return {};
  return Sentence(fmt::format("cannot open {}: there is no such file or folder; if it is a model on Hugging Face, {}",
                              path, HowToFetch(*repository)));
}

std::string RefusedFetch(std::string_view option, std::string_view repository) {
  const std::optional<Repository> parsed = ParseRepository(repository, /*is_surely_one=*/true);
  const std::string how = HowToFetch(parsed ? *parsed : Repository{.owner = "OWNER", .name = "NAME", .file = ""});
  return fmt::format("{}: Thimble downloads nothing: {}", option, how);
}

}  // namespace thimble::host

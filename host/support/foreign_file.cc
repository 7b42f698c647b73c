#include "host/support/foreign_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>

namespace thimble::host {
namespace {

using namespace std::string_view_literals;

// The first bytes of a page, without the case of its letters and what stands before them.
bool IsWebPage(std::string_view start) {
  while (!start.empty() && (start.starts_with("\xef\xbb\xbf") || std::isspace(static_cast<uint8_t>(start[0])))) {
    start.remove_prefix(start.starts_with("\xef\xbb\xbf") ? 3 : 1);
  }
  const auto begins = [&](std::string_view tag) {
    return std::ranges::equal(start.substr(0, tag.size()), tag,
                              [](char a, char b) { return std::tolower(static_cast<uint8_t>(a)) == b; });
  };
  return begins("<!doctype html") || begins("<html");
}

// gzip (RFC 1952), xz, Zstandard (RFC 8878), bzip2, 7z, RAR, tar (POSIX ustar).
bool IsArchive(std::string_view start) {
  constexpr std::array kMagics = {"\x1f\x8b\x08"sv, "\xfd\x37zXZ\0"sv,      "\x28\xb5\x2f\xfd"sv,
                                  "BZh"sv,          "7z\xbc\xaf\x27\x1c"sv, "Rar!\x1a\x07"sv};
  return std::ranges::any_of(kMagics, [&](std::string_view magic) { return start.starts_with(magic); }) ||
         (start.size() > 262 && start.substr(257, 5) == "ustar");
}

// A zip file, as torch.save() writes since PyTorch 1.6, or the number with which it began before.
bool IsPyTorch(std::string_view start) {
  return start.starts_with("PK\x03\x04") || start.starts_with("\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20j\xa8P\x19"sv);
}

}  // namespace

Status RefuseForeign(std::string_view start, const std::string& path) {
  if (start.empty()) return Sentence(fmt::format("{} is empty: download it again", path));
  if (start.starts_with("version https://git-lfs.github.com/spec/")) {
    return Sentence(
        fmt::format("{} is a Git LFS pointer, not the file itself: run 'git lfs pull' in its folder, or get the model "
                    "with 'hf download'",
                    path));
  }
  if (IsWebPage(start)) {
    return Sentence(
        fmt::format("{} is a web page, not the file itself: download the file (on Hugging Face the address with "
                    "/resolve/ in it, not /blob/), or get the model with 'hf download'",
                    path));
  }
  if (IsPyTorch(start)) {
    return Sentence(
        fmt::format("{} is a PyTorch checkpoint or a zip file: save the model as safetensors, or unpack it", path));
  }
  if (IsArchive(start)) return Sentence(fmt::format("{} is an archive: unpack it first", path));
  return {};
}

Status RefuseForeign(const InputFile& file) {
  std::array<char, kForeignStartBytes> start = {};
  const auto size = static_cast<size_t>(std::min<uint64_t>(file.size_bytes(), start.size()));
  THIMBLE_TRY(file.ReadAt(0, std::as_writable_bytes(std::span(start).first(size))));
  return RefuseForeign(std::string_view(start.data(), size), file.path());
}

}  // namespace thimble::host

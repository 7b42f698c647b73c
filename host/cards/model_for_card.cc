#include "host/cards/model_for_card.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <string_view>
#include <utility>

#include "engine/base/arena.h"
#include "engine/base/key_values.h"
#include "engine/formats/card_models.h"
#include "engine/formats/gguf.h"
#include "engine/math/kernels.h"
#include "engine/storage/swap_file.h"
#include "engine/storage/volume.h"
#include "host/cards/card_names.h"
#include "host/models/plan_request.h"
#include "host/support/aligned_buffer.h"
#include "host/support/file_calls.h"
#include "host/support/input_file.h"
#include "host/support/paths.h"
#include "host/support/progress.h"

namespace thimble::host {
namespace {

// The model's name as it will stand on the card.
Expected<std::string> NameOnCard(std::string name, const std::string& model, bool is_converted) {
  if (name.empty()) {
    name = is_converted ? NameConverted(Canonical(model)) : NameOf(Canonical(model));
    if (!name.ends_with(".gguf")) name += ".gguf";
  }
  THIMBLE_TRY(CheckCardName(name));
  return name;
}

// Where an automatic run lies that is meant for a card with the model.
std::string AutorunBeside(const std::string& model) {
  std::string name = PlanName(model);  // without a folder's slash
  name.resize(name.size() - NameOf(name).size());
  return name + std::string(formats::kAutorunFile);
}

// Opens the header as a session would.
Status CheckModel(const OpenedModel& model, const std::string& name) {
  constexpr size_t kMaxTableBytes = 32 << 20;
  AlignedBuffer memory(kMaxTableBytes);
  AlignedBuffer buffer(64 * 1024);
  Arena arena(Region::kSram, memory.bytes());
  Ledger ledger;
  storage::FileReader reader(*model.device, model.file, ledger);
  storage::ByteReader bytes(reader, buffer.bytes());
  if (const auto opened = formats::OpenGguf(bytes, arena); !opened) return Failed(name, opened.error());
  return {};
}

// Whether these are lines of an automatic run; a board says which keys there are. One that nobody named must be of the
// model of this name, or of the first on the card.
Status CheckAutorun(const std::string& path, std::string_view text, std::string_view only_of) {
  if (text.empty()) return Sentence(fmt::format("{} is empty", path));
  if (text.size() > formats::kMaxAutorunBytes) {
    return Sentence(fmt::format("{} is longer than the {} bytes that a board reads of an automatic run", path,
                                formats::kMaxAutorunBytes));
  }
  KeyValues lines(text);
  for (KeyValueLine line; lines.Next(line);) {
    if (!line.has_key) {
      return Sentence(fmt::format("{}: line {} of the automatic run, '{}', is not 'key = value'", path, line.number,
                                  Quote(line.text)));
    }
    if (!only_of.empty() && line.key == "model" && !storage::SameName(line.value, only_of)) {
      return Sentence(fmt::format("{} runs {}, not {}", path, Quote(line.value), only_of));
    }
  }
  return {};
}

Status AddTemporary(const std::string& given, std::string name_on_card, TemporaryFile file, uint64_t bytes,
                    ModelForCard& model) {
  THIMBLE_ASSIGN(std::unique_ptr<FileDevice> device, FileDevice::Open(file.path()));
  const auto& extent = model.text_extents.emplace_back(std::make_unique<storage::Extent>(
      storage::Extent{.file_offset_bytes = 0, .device_offset_bytes = 0, .size_bytes = bytes}));
  model.files.push_back(
      {.given = given,
       .path = file.path(),
       .name_on_card = std::move(name_on_card),
       .bytes = {.device = device.get(), .file = {.extents = {extent.get(), 1}, .size_bytes = bytes}}});
  model.text_files.push_back(std::move(file));
  model.text_devices.push_back(std::move(device));
  return {};
}

// Adds a text that passes its check(text): one that the user named, or one beside the model. One that cannot be read is
// never left behind as if it were none.
template <class Check>
Status AddText(const std::string& given, std::string name_on_card, bool is_named, Check check, ModelForCard& model) {
  constexpr uint64_t kMoreThanAnyBytes = 1 << 20;
  if (!is_named && !Exists(given)) return {};
  THIMBLE_ASSIGN(const std::string text, ReadGiven(given, kMoreThanAnyBytes));
  if (const Status checked = check(text); !checked) {
    if (is_named) return checked;
    model.notes.push_back(fmt::format("{} stays behind: {}", name_on_card, checked.error()));
    return {};
  }
  // What was checked, also where it can be read only once.
  THIMBLE_ASSIGN(TemporaryFile copy, TemporaryFile::Create());
  THIMBLE_TRY(copy.sink().Write(std::as_bytes(std::span(text))));
  return AddTemporary(given, std::move(name_on_card), std::move(copy), text.size(), model);
}

// Adds a swap file that nobody has used: its header, and zeros.
Status AddSwap(const CardContents& contents, ModelForCard& model) {
  constexpr uint64_t kUnit = storage::kSwapHeaderBytes;
  const uint64_t bytes = std::min((contents.swap_bytes + kUnit - 1) / kUnit * kUnit, storage::kMostSwapBytes);
  THIMBLE_ASSIGN(TemporaryFile file, TemporaryFile::Create());
  THIMBLE_TRY(file.sink().Write(
      storage::EncodeSwapHeader({.file_bytes = bytes, .id = contents.swap_id}, math::BestKernels().crc32c)));
  if (const auto sized = SetFileSize(file.fd(), bytes); !sized) {
    return Sentence(fmt::format("cannot make a temporary file of {} bytes: {}", bytes, sized.error()));
  }
  return AddTemporary("the swap file", std::string(storage::kSwapFileName), std::move(file), bytes, model);
}

}  // namespace

Status CopyBytes(const FileForCard& from,
                 const std::function<Status(uint64_t offset, std::span<const std::byte> bytes)>& write) {
  constexpr uint64_t kPieceBytes = 1 << 20;
  const storage::FileMap& file = from.bytes.file;
  Ledger ledger;
  storage::FileReader reader(*from.bytes.device, file, ledger);
  AlignedBuffer buffer(reader.BufferBytes(kPieceBytes));
  Progress progress("copy", file.size_bytes);
  for (uint64_t offset = 0; offset < file.size_bytes; offset += kPieceBytes) {
    const uint64_t size = std::min(kPieceBytes, file.size_bytes - offset);
    const auto started = reader.Start(offset, size, buffer.bytes());
    if (!started) return Failed(from.given, started.error());
    const auto bytes = reader.Wait();
    if (!bytes) return Failed(from.given, bytes.error());
    THIMBLE_TRY(write(offset, *bytes));
    progress.Advance(size);
  }
  return {};
}

Status CompareFiles(const StoredFile& a, const StoredFile& b, const std::string& name) {
  if (a.file.size_bytes != b.file.size_bytes) return Sentence(fmt::format("{}: the copy has another size", name));
  constexpr size_t kChunkBytes = (size_t{1} << 20);
  Ledger ledger;
  storage::FileReader readers[] = {storage::FileReader(*a.device, a.file, ledger),
                                   storage::FileReader(*b.device, b.file, ledger)};
  AlignedBuffer buffers[] = {AlignedBuffer(readers[0].BufferBytes(kChunkBytes)),
                             AlignedBuffer(readers[1].BufferBytes(kChunkBytes))};
  Progress progress("check", a.file.size_bytes);
  for (uint64_t offset = 0; offset < a.file.size_bytes; offset += kChunkBytes) {
    const uint64_t size = std::min<uint64_t>(kChunkBytes, a.file.size_bytes - offset);
    std::array<std::span<const std::byte>, 2> chunks;
    for (size_t i = 0; i < 2; ++i) {
      const auto started = readers[i].Start(offset, size, buffers[i].bytes());
      if (!started) return Failed(name, started.error());
      const auto chunk = readers[i].Wait();
      if (!chunk) return Failed(name, chunk.error());
      chunks[i] = *chunk;
    }
    if (!std::ranges::equal(chunks[0], chunks[1]))
      return Sentence(fmt::format("{}: the copy on the card differs", name));
    progress.Advance(size);
  }
  return {};
}

std::vector<std::string> ModelForCard::others() const {
  std::vector<std::string> names;
  for (size_t i = opened.has_index() ? 2 : 1; i < files.size(); ++i) names.push_back(files[i].name_on_card);
  return names;
}

Expected<ModelForCard> OpenModelForCard(const CardContents& contents, uint64_t max_bytes) {
  const std::string& given = contents.model;
  if (!contents.name_on_card.empty()) THIMBLE_TRY(CheckCardName(contents.name_on_card));
  THIMBLE_ASSIGN(ModelSource source, OpenModelSource(given, contents.tokenizer, /*as_one_file=*/true));
  THIMBLE_ASSIGN(OpenedModel opened, OpenModelFile(source.path(), ""));
  if (!opened.name_on_card.empty()) return Sentence(fmt::format("{} is a card already", given));
  THIMBLE_TRY(CheckModel(opened, given));
  if (opened.file.size_bytes > max_bytes) {
    return Sentence(
        fmt::format("{} has {} bytes; a file on FAT32 has {} at most", given, opened.file.size_bytes, max_bytes));
  }
  THIMBLE_ASSIGN(std::string name, NameOnCard(contents.name_on_card, given, source.is_converted()));
  ModelForCard model = {.source = std::move(source), .opened = std::move(opened), .name_on_card = std::move(name)};
  const OpenedModel& o = model.opened;
  model.files.push_back({.given = given,
                         .path = model.source.path(),
                         .name_on_card = model.name_on_card,
                         .bytes = {.device = o.device.get(), .file = o.file}});
  if (o.has_index()) {
    model.files.push_back({.given = IndexName(given),
                           .path = IndexName(model.source.path()),
                           .name_on_card = IndexName(model.name_on_card),
                           .bytes = {.device = o.index_device.get(), .file = o.index_file}});
  }
  const bool plan_is_named = !contents.plan.empty();
  const std::string plan = plan_is_named ? contents.plan : PlanName(given);
  const auto check_plan = [&](const std::string& text) -> Status {
    THIMBLE_TRY(ParsePlanText(NameOfGiven(plan), text));
    return {};
  };
  THIMBLE_TRY(AddText(plan, PlanName(model.name_on_card), plan_is_named, check_plan, model));
  const bool autorun_is_named = !contents.autorun.empty();
  const std::string autorun = autorun_is_named ? contents.autorun : AutorunBeside(given);
  const auto check_autorun = [&](const std::string& text) {
    return CheckAutorun(NameOfGiven(autorun), text, autorun_is_named ? "" : model.name_on_card);
  };
  THIMBLE_TRY(AddText(autorun, std::string(formats::kAutorunFile), autorun_is_named, check_autorun, model));
  if (contents.swap_bytes != 0) THIMBLE_TRY(AddSwap(contents, model));
  return model;
}

}  // namespace thimble::host

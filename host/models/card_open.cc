#include "host/models/card_open.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "engine/formats/card_models.h"
#include "engine/formats/index_file.h"
#include "engine/storage/volume.h"
#include "host/support/hugging_face.h"
#include "host/support/paths.h"

namespace thimble::host {
namespace {

constexpr size_t kMaxNamesShown = 8;

// A model on a card.
struct FoundModel {
  storage::DirEntry entry;
  bool is_folder = false;
};

// The models of the root folder, or what is called `name`, which may be any file. Where there are files, folders are
// not looked at.
Expected<std::vector<FoundModel>> FindModels(storage::Volume& volume, const std::string& path,
                                             const std::string& name) {
  std::vector<FoundModel> models;
  const auto is_wanted = [&](const storage::DirEntry& entry) {
    return name.empty() || storage::SameName(entry.name.data(), name);
  };
  auto listed = volume.ListRoot([&](const storage::DirEntry& entry) {
    if (name.empty() ? formats::IsModelName(entry.name.data()) : is_wanted(entry)) models.push_back({entry, false});
    return true;
  });
  if (!listed) return Failed(path, listed.error());
  if (!models.empty()) return models;
  Status looked;
  listed = volume.ListRootFolders([&](const storage::DirEntry& entry) {
    if (!is_wanted(entry)) return true;
    const Result<bool> holds_model = formats::HoldsModel(volume, entry);
    if (!holds_model) looked = Failed(path, holds_model.error());
    if (holds_model && *holds_model) models.push_back({entry, true});
    return looked.has_value();
  });
  if (!listed) return Failed(path, listed.error());
  THIMBLE_TRY(looked);
  return models;
}

std::string ListOf(std::span<const FoundModel> models) {
  std::vector<std::string> names;
  for (const FoundModel& model : models) {
    if (names.size() == kMaxNamesShown) {
      names.push_back("...");
      break;
    }
    names.push_back(Quote(model.entry.name.data()));
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

// The model to open, chosen by name or for being the only one.
Expected<FoundModel> ChooseModel(storage::Volume& volume, const std::string& path, const std::string& name) {
  THIMBLE_ASSIGN(std::vector<FoundModel> models, FindModels(volume, path, name));
  if (models.empty() && !name.empty()) {
    THIMBLE_ASSIGN(models, FindModels(volume, path, ""));
    return Sentence(fmt::format("{} has no file \"{}\" in its root folder{}", path, Quote(name),
                                models.empty() ? "" : "; its models are " + ListOf(models)));
  }
  if (models.empty()) {
    return Sentence(fmt::format("{} is {} card without a .gguf file in its root folder; copy a model there", path,
                                volume.format() == storage::VolumeFormat::kExFat ? "an exFAT" : "a FAT32"));
  }
  if (models.size() == 1) return models.front();
  return Sentence(fmt::format("{} holds several models: {}; choose one of them by its name", path, ListOf(models)));
}

std::string NameBeside(const std::string& model, std::string_view extension) {
  return std::string(formats::StemOf(WithoutLastSeparators(model))) + std::string(extension);
}

// Makes room for the files of a folder.
void StartFolder(OpenedModel& model) {
  model.folder_files.resize(formats::FolderFileCount(formats::kUsualFolderLayers));
  model.folder = formats::ModelFolder(model.folder_files);
}

Expected<OpenedModel> OpenOnCard(std::unique_ptr<FileDevice> device, storage::Volume& volume, const std::string& path,
                                 const std::string& file_on_card, IndexUse index_use) {
  THIMBLE_ASSIGN(const FoundModel found, ChooseModel(volume, path, file_on_card));
  OpenedModel model;
  if (found.is_folder) StartFolder(model);
  model.extents.resize(found.is_folder ? formats::kMaxFolderPieces : storage::kUsualExtents);
  const auto map = found.is_folder ? formats::MapFolder(volume, found.entry, model.folder, model.extents)
                                   : volume.MapFile(found.entry, model.extents);
  if (!map) return Failed(path, map.error());
  model.extents.resize(map->extents.size());
  model.file = {.extents = model.extents, .size_bytes = map->size_bytes};
  model.name_on_card = found.entry.name.data();
  model.description = fmt::format("{} on the card {} ({} piece{})", Quote(model.name_on_card), path,
                                  model.extents.size(), model.extents.size() == 1 ? "" : "s");
  model.device = std::move(device);
  if (index_use == IndexUse::kIgnore) return model;
  const std::string index_name = IndexName(model.name_on_card);
  std::optional<storage::DirEntry> index;
  const auto listed = volume.ListRoot([&](const storage::DirEntry& entry) {
    if (storage::SameName(entry.name.data(), index_name)) index = entry;
    return !index;
  });
  if (!listed) return Failed(path, listed.error());
  if (index) {
    model.index_extents.resize(storage::kUsualExtents);
    const auto index_map = volume.MapFile(*index, model.index_extents);
    if (!index_map) return Failed(path, index_map.error());
    model.index_extents.resize(index_map->extents.size());
    model.index_file = {.extents = model.index_extents, .size_bytes = index_map->size_bytes};
    model.index_name = fmt::format("{} on the card {}", Quote(index->name.data()), path);
  }
  return model;
}

// `given` is the index's path, or empty: it is beside the model, if there is one.
Status FindIndex(const std::string& path, IndexUse use, const std::string& given, OpenedModel& model) {
  if (use == IndexUse::kIgnore) return {};
  const std::string index_path = given.empty() ? IndexName(path) : given;
  if (given.empty() && !Exists(index_path)) return {};
  THIMBLE_ASSIGN(model.index_device, FileDevice::Open(index_path));
  model.index_extents = {storage::WholeDevice(*model.index_device)};
  model.index_extents[0].size_bytes = model.index_device->file_size_bytes();
  model.index_file = {.extents = model.index_extents, .size_bytes = model.index_device->file_size_bytes()};
  model.index_name = index_path;
  return {};
}

Expected<OpenedModel> OpenTensorFolder(const std::string& path, IndexUse index, const std::string& index_path) {
  if (!IsTensorFolder(path)) {
    return Sentence(fmt::format("{} is no tensor folder: it has no {}", path, formats::kFolderConfigName));
  }
  std::map<uint32_t, std::string> paths;
  THIMBLE_ASSIGN(const std::vector<std::string> names, NamesIn(path));
  for (const std::string& name : names) {
    const auto number = formats::FolderFileNumber(name);
    if (number && !paths.emplace(*number, fmt::format("{}/{}", path, name)).second) {
      return Sentence(
          fmt::format("{} has two files for one tensor: {} and {}", path, Quote(name), Quote(NameOf(paths[*number]))));
    }
  }

  std::vector<std::string> in_order;
  for (const auto& [number, file] : paths) in_order.push_back(file);
  OpenedModel model;
  THIMBLE_ASSIGN(model.device, FileDevice::OpenAll(in_order));
  StartFolder(model);
  size_t i = 0;
  for (const auto& [number, file] : paths) {
    const auto added =
        model.folder.Add(number, model.device->file_size_bytes(i++), model.device->geometry().block_bytes);
    if (!added) return Failed(path, added.error());
  }
  model.extents = {storage::WholeDevice(*model.device)};
  model.file = {.extents = model.extents, .size_bytes = model.folder.size_bytes()};
  model.description = fmt::format("{} (tensor folder, {} files)", path, paths.size());
  THIMBLE_TRY(FindIndex(path, index, index_path, model));
  return model;
}

}  // namespace

std::string IndexName(const std::string& model) { return NameBeside(model, formats::kIndexExtension); }
std::string PlanName(const std::string& model) { return NameBeside(model, formats::kPlanExtension); }

bool IsTensorFolder(const std::string& path) {
  return IsFolder(path) && Exists(fmt::format("{}/{}", path, formats::kFolderConfigName));
}

Expected<OpenedModel> OpenModelFile(const std::string& path, const std::string& file_on_card, IndexUse index,
                                    const std::string& index_path) {
  if (IsFolder(path)) {
    if (!file_on_card.empty()) {
      return Sentence(fmt::format("{} is a folder, not a card, so no file on it can be chosen", path));
    }
    return OpenTensorFolder(path, index, index_path);
  }
  THIMBLE_TRY(RefuseRepository(path));
  THIMBLE_ASSIGN(std::unique_ptr<FileDevice> device, FileDevice::Open(path));
  Ledger ledger;
  alignas(512) std::array<std::byte, 512> sector;
  storage::Sectors sectors(*device, sector, ledger);
  const auto magic = sectors.Read(0);
  if (!magic) return Failed(path, magic.error());
  if (std::memcmp(magic->data(), "GGUF", 4) == 0) {
    if (!file_on_card.empty()) {
      return Sentence(fmt::format("{} is a GGUF file, not a card, so no file on it can be chosen", path));
    }
    OpenedModel model;
    model.extents = {{.file_offset_bytes = 0, .device_offset_bytes = 0, .size_bytes = device->file_size_bytes()}};
    model.file = {.extents = model.extents, .size_bytes = device->file_size_bytes()};
    model.description = path;
    THIMBLE_TRY(FindIndex(path, index, index_path, model));
    model.device = std::move(device);
    return model;
  }

  auto volume = formats::MountModels(sectors);
  if (!volume && volume.error().code == Code::kNotFound) {
    return Failed(path + " is neither a GGUF file nor a card", volume.error());
  }
  if (!volume) return Failed(path, volume.error());
  return OpenOnCard(std::move(device), *volume, path, file_on_card, index);
}

}  // namespace thimble::host

#include "engine/formats/card_models.h"

#include <optional>

namespace thimble::formats {
namespace {

Result<bool> HoldsAnyModel(storage::Volume& volume) {
  bool found = false;
  THIMBLE_TRY(volume.ListRoot([&](const storage::DirEntry& file) {
    found = IsModelName(file.name.data());
    return !found;
  }));
  if (found) return true;
  Result<bool> holds = false;
  THIMBLE_TRY(volume.ListRootFolders([&](const storage::DirEntry& folder) {
    holds = HoldsModel(volume, folder);
    return holds && !*holds;
  }));
  return holds;
}

}  // namespace

bool IsModelName(std::string_view name) {
  return !name.starts_with("._") && name.size() > kModelExtension.size() &&
         storage::SameName(name.substr(name.size() - kModelExtension.size()), kModelExtension);
}

Result<bool> HoldsModel(storage::Volume& volume, const storage::DirEntry& folder) {
  bool found = false;
  THIMBLE_TRY(volume.ListFolder(folder, [&](const storage::DirEntry& file) {
    found = storage::SameName(file.name.data(), kFolderConfigName);
    return !found;
  }));
  return found;
}

Result<storage::Volume> MountModels(storage::Sectors& sectors) {
  storage::VolumeSearch search(sectors);
  std::optional<storage::Volume> first;
  while (true) {
    Result<storage::Volume> volume = search.Next();
    if (!volume) {
      const bool is_damage = volume.error().code != Code::kNotFound && volume.error().code != Code::kUnsupported;
      if (first && !is_damage) return *first;
      return volume;
    }
    // One whose folders cannot be read has no model either; whoever lists them again is told.
    const Result<bool> holds = HoldsAnyModel(*volume);
    if (holds && *holds) return volume;
    if (!first) first = *volume;
  }
}

}  // namespace thimble::formats

#include "engine/formats/card_models.h"

#include <algorithm>
#include <optional>

#include "engine/formats/model_folder.h"

namespace thimble::formats {
namespace {

// The first file of the root folder whose name is wanted.
template <class IsWanted>
Result<void> Find(storage::Volume& volume, CardFile& file, IsWanted is_wanted) {
  bool found = false;
  THIMBLE_TRY(volume.ListRoot([&](const storage::DirEntry& entry) {
    found = is_wanted(std::string_view(entry.name.data()));
    if (found) file.entry = entry;
    return !found;
  }));
  if (!found) return Fail({.code = Code::kNotFound, .what = "the card lacks a model or its index in its root folder"});
  THIMBLE_ASSIGN(file.map, volume.MapFile(file.entry, file.extents));
  return {};
}

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

bool IsModelName(std::string_view name) { return !name.starts_with("._") && StemOf(name).size() != name.size(); }

std::string_view StemOf(std::string_view name) {
  if (name.size() <= kModelExtension.size()) return name;
  const std::string_view stem = name.substr(0, name.size() - kModelExtension.size());
  return storage::SameName(name.substr(stem.size()), kModelExtension) ? stem : name;
}

std::string_view BesideModel(std::string_view name, std::string_view extension, std::span<char> out) {
  const std::string_view stem = StemOf(name).substr(0, out.size() - extension.size());
  std::copy(extension.begin(), extension.end(), std::copy(stem.begin(), stem.end(), out.begin()));
  return {out.data(), stem.size() + extension.size()};
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

Result<void> FindModelFile(storage::Volume& volume, CardFile& file) { return Find(volume, file, IsModelName); }

Result<void> FindFile(storage::Volume& volume, std::string_view name, CardFile& file) {
  return Find(volume, file, [&](std::string_view found) { return storage::SameName(found, name); });
}

Result<void> FindBeside(storage::Volume& volume, std::string_view model, std::string_view extension, CardFile& file) {
  std::array<char, 256> name;
  return FindFile(volume, BesideModel(model, extension, name), file);
}

}  // namespace thimble::formats

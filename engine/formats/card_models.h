// Which files and folders of a card are models, and what lies beside them: one rule for computers and boards.
#ifndef THIMBLE_ENGINE_FORMATS_CARD_MODELS_H_
#define THIMBLE_ENGINE_FORMATS_CARD_MODELS_H_

#include <array>
#include <span>
#include <string_view>

#include "engine/base/error.h"
#include "engine/storage/fat32.h"
#include "engine/storage/file_reader.h"

namespace thimble::formats {

inline constexpr std::string_view kModelExtension = ".gguf";

// Whether a file of this name is a model: it ends in .gguf, in capitals or small letters, with something before it.
// "._NAME.gguf", which macOS leaves beside a file that it copies, is none.
bool IsModelName(std::string_view name);

// The name without .gguf, if a model's name ends so: what the names of the files beside it begin with.
std::string_view StemOf(std::string_view name);

// The name of the file with this extension (kIndexExtension, ".plan") beside a model, which may be a folder, into
// `out`, cut to fit.
std::string_view BesideModel(std::string_view name, std::string_view extension, std::span<char> out);

// Whether a folder, an entry of ListRootFolders(), is a tensor folder. Fails as ListFolder().
Result<bool> HoldsModel(storage::Fat32& volume, const storage::DirEntry& folder);

// A file on a card, and where it lies. Stays where it is: the map refers to the extents.
struct CardFile {
  storage::DirEntry entry;
  std::array<storage::Extent, storage::kUsualExtents> extents;
  storage::FileMap map;
};

// The first model among the files of the root folder. Fails as ListRoot() and MapFile(), with kNotFound if there is
// none.
Result<void> FindModelFile(storage::Fat32& volume, CardFile& file);

// The file with this extension beside a model of this name. Fails in the same way.
Result<void> FindBeside(storage::Fat32& volume, std::string_view model, std::string_view extension, CardFile& file);

}  // namespace thimble::formats

#endif  // THIMBLE_ENGINE_FORMATS_CARD_MODELS_H_

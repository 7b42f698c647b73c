// Which files and folders of a card are models, and what lies beside them: one rule for computers and boards.
//
// A card's models lie in the root folder of its first volume that holds one. Volumes without a model (a boot partition,
// the system partition of a GUID partition table) are passed over.
#ifndef THIMBLE_ENGINE_FORMATS_CARD_MODELS_H_
#define THIMBLE_ENGINE_FORMATS_CARD_MODELS_H_

#include <array>
#include <cstddef>
#include <span>
#include <string_view>

#include "engine/base/error.h"
#include "engine/storage/file_reader.h"
#include "engine/storage/sectors.h"
#include "engine/storage/volume.h"

namespace thimble::formats {

inline constexpr std::string_view kModelExtension = ".gguf";

// What a board reads beside a model of its root folder, with kIndexExtension, and beside all of them.
inline constexpr std::string_view kPlanExtension = ".plan";      // docs/formats/plan.md
inline constexpr std::string_view kAutorunFile = "autorun.txt";  // docs/firmware.md, "The automatic run"
inline constexpr size_t kMaxAutorunBytes = 1024;                 // a longer one is refused

// Whether a file of this name is a model: it ends in .gguf, in capitals or small letters, with something before it.
// "._NAME.gguf", which macOS leaves beside a file that it copies, is none.
bool IsModelName(std::string_view name);

// The name without .gguf, if a model's name ends so: what the names of the files beside it begin with.
std::string_view StemOf(std::string_view name);

// The name of the file with this extension (kIndexExtension, kPlanExtension) beside a model, which may be a folder,
// into `out`, cut to fit.
std::string_view BesideModel(std::string_view name, std::string_view extension, std::span<char> out);

// Whether a folder, an entry of ListRootFolders(), is a tensor folder. Fails as ListFolder().
Result<bool> HoldsModel(storage::Volume& volume, const storage::DirEntry& folder);

// The card's volume with models; when none has one, the first that can be read. Fails as VolumeSearch::Next() when none
// can be read, or when none has a model and a volume or a partition table is damaged.
Result<storage::Volume> MountModels(storage::Sectors& sectors);

// A file on a card, and where it lies. Stays where it is: the map refers to the extents.
struct CardFile {
  storage::DirEntry entry;
  std::array<storage::Extent, storage::kUsualExtents> extents;
  storage::FileMap map;
};

// The first model among the files of the root folder. Fails as ListRoot() and MapFile(), with kNotFound if there is
// none.
Result<void> FindModelFile(storage::Volume& volume, CardFile& file);

// The file of the root folder that has this name. Fails in the same way.
Result<void> FindFile(storage::Volume& volume, std::string_view name, CardFile& file);

// The file with this extension beside a model of this name. Fails in the same way.
Result<void> FindBeside(storage::Volume& volume, std::string_view model, std::string_view extension, CardFile& file);

}  // namespace thimble::formats

#endif  // THIMBLE_ENGINE_FORMATS_CARD_MODELS_H_

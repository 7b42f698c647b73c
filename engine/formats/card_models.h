// Which models a card has: the rule that computers and boards share.
//
// A card's models lie in the root folder of its first volume that holds one: GGUF files, and tensor folders. Volumes
// without a model (a boot partition, the system partition of a GUID partition table) are passed over.
#ifndef THIMBLE_ENGINE_FORMATS_CARD_MODELS_H_
#define THIMBLE_ENGINE_FORMATS_CARD_MODELS_H_

#include <string_view>

#include "engine/base/error.h"
#include "engine/formats/model_folder.h"
#include "engine/storage/sectors.h"
#include "engine/storage/volume.h"

namespace thimble::formats {

inline constexpr std::string_view kModelExtension = ".gguf";

// Whether a file of this name is taken for a model: the extension in capitals or small letters, after something, and
// not what macOS leaves beside a file it copies (._NAME).
bool IsModelName(std::string_view name);

// Whether the folder, an entry of the volume's root folder, is a tensor folder: has a model_config.json. Fails as
// Volume::ListFolder().
Result<bool> HoldsModel(storage::Volume& volume, const storage::DirEntry& folder);

// The card's volume with models; when none has one, the first that can be read. Fails as VolumeSearch::Next() when none
// can be read, or when none has a model and a volume or a partition table is damaged.
Result<storage::Volume> MountModels(storage::Sectors& sectors);

}  // namespace thimble::formats

#endif  // THIMBLE_ENGINE_FORMATS_CARD_MODELS_H_

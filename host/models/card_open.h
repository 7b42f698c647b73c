// What a user may name as a model, opened: a GGUF file, a tensor folder, a card's image, or a card in a reader.
#ifndef THIMBLE_HOST_MODELS_CARD_OPEN_H_
#define THIMBLE_HOST_MODELS_CARD_OPEN_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/formats/model_folder.h"
#include "engine/storage/file_reader.h"
#include "host/devices/file_device.h"
#include "host/support/errors.h"

namespace thimble::host {

// Whether the index beside a model is opened where there is one.
enum class IndexUse : uint8_t { kIfThere, kIgnore };

// A model and what its bytes are read from. May be moved; `file` refers to `extents`, `folder` to `folder_files`.
struct OpenedModel {
  std::unique_ptr<FileDevice> device;
  std::vector<storage::Extent> extents;
  storage::FileMap file;  // of a tensor folder: its virtual file
  std::vector<formats::FolderFile> folder_files;
  formats::ModelFolder folder;  // empty unless the model is a tensor folder
  std::string name_on_card;     // empty when the path itself is the model
  std::string description;      // for people: "tiny-llm.gguf on the card card.img (1 piece)"

  // The index beside it, if there is one and it is not ignored: on the card it shares the device.
  std::unique_ptr<FileDevice> index_device;
  std::vector<storage::Extent> index_extents;
  storage::FileMap index_file;
  std::string index_name;  // for sentences
  bool has_index() const { return !index_extents.empty(); }
};

// The name of a model's index: ".thimble" instead of ".gguf", or after a folder's name. Of its plan file: ".plan".
std::string IndexName(const std::string& model);
std::string PlanName(const std::string& model);

// Whether `path` is a folder with a model_config.json.
bool IsTensorFolder(const std::string& path);

// Opens `path`: a folder as a tensor folder, a GGUF file by its first letters, anything else as a FAT32 or exFAT card
// (of several volumes the one that formats::MountModels() takes). Of a card the file or folder `file_on_card` of its
// root folder is taken (the case of the letters A to Z does not matter), or, when that is empty, its only .gguf file,
// or, when there is none, its only tensor folder; several are an error that names them. The model itself is not looked
// at. Its index, unless it is ignored, is the file `index_path`, if that is not empty, or what is beside it under
// IndexName(); on a card only the latter. Fails with one sentence that names the path.
Expected<OpenedModel> OpenModelFile(const std::string& path, const std::string& file_on_card,
                                    IndexUse index = IndexUse::kIfThere, const std::string& index_path = "");

}  // namespace thimble::host

#endif  // THIMBLE_HOST_MODELS_CARD_OPEN_H_

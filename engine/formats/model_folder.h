// Reading a tensor folder: a Llama as one file for each tensor, with a model_config.json.
//
// Names, keys, defaults and limits: docs/formats/tensor_folder.md of this product. The numbers are little-endian
// float32, row-major [out, in], q and k in Hugging Face's order of rows.
//
// The files are read as one: a virtual file in which they lie one after the other, each filled up to whole blocks of
// the device. So one FileReader serves them all, and TensorRef::offset is a place in the virtual file.
#ifndef THIMBLE_ENGINE_FORMATS_MODEL_FOLDER_H_
#define THIMBLE_ENGINE_FORMATS_MODEL_FOLDER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "engine/base/arena.h"
#include "engine/base/error.h"
#include "engine/base/tensor.h"
#include "engine/formats/model_file.h"
#include "engine/storage/file_reader.h"
#include "engine/storage/volume.h"

namespace thimble::formats {

// What a folder that convert writes is called on a card, and the file that makes a folder a model.
inline constexpr std::string_view kFolderName = "esp32_float32_weights";
inline constexpr std::string_view kFolderConfigName = "model_config.json";
inline constexpr std::string_view kFolderTokenizerName = "tokenizer.bin";

// Pieces on the card that all files of a folder together may lie in: 12 KiB of extents. Files that were copied one
// after the other to an empty card are one piece.
inline constexpr size_t kMaxFolderPieces = 512;

// Layers that a caller should have room for: 18.5 KB of FolderFile.
inline constexpr uint32_t kUsualFolderLayers = 128;

// The longest model_config.json.
inline constexpr uint64_t kMaxFolderConfigBytes = 64 * 1024;

// The files of the format by number: model_config.json, tokenizer.bin, then the tensors by TensorIndex().
inline constexpr uint32_t kFolderConfig = 0;
inline constexpr uint32_t kFolderTokenizer = 1;
inline constexpr uint32_t kFolderTensors = 2;
inline constexpr uint32_t kFolderTensorsPerLayer = kTensorsPerLayerOfLlama;
constexpr uint32_t FolderFileCount(uint32_t num_hidden_layers) {
  return kFolderTensors + kTensorsOutsideLayers + num_hidden_layers * kFolderTensorsPerLayer;
}

// The number of the file of this name, in capitals or small letters; none for a file that is no part of the format.
// Layer 0 may be spelt with its prefix or without. Layers from 65535 on have no number.
std::optional<uint32_t> FolderFileNumber(std::string_view name);

// Writes the name of a file of a model with so many layers into `out`, NUL-terminated, cut to fit. Returns the length
// without the NUL. `out` must not be empty.
size_t FormatFolderFileName(uint32_t number, uint32_t num_hidden_layers, std::span<char> out);

// Where a file lies in the virtual file.
struct FolderFile {
  static constexpr uint64_t kAbsent = ~uint64_t{0};

  uint64_t offset_bytes = 0;
  uint64_t size_bytes = kAbsent;
  bool is_there() const { return size_bytes != kAbsent; }
};

// The files of a folder, collected while it is listed, in any order.
class ModelFolder {
 public:
  ModelFolder() = default;
  // `files` is the caller's memory, of FolderFileCount() for the most layers that are wanted; it is overwritten.
  explicit ModelFolder(std::span<FolderFile> files);

  // Puts a file behind those that are there, filled up to whole units of `unit_bytes` (a multiple of the device's block
  // size). Fails with kCorrupt when a file of that number is there, kUnsupported when there is no room for the number.
  Result<void> Add(uint32_t number, uint64_t file_bytes, uint32_t unit_bytes);

  // Absent for numbers beyond the memory.
  FolderFile file(uint32_t number) const { return number < files_.size() ? files_[number] : FolderFile{}; }
  uint32_t num_slots() const { return static_cast<uint32_t>(files_.size()); }
  bool is_empty() const { return size_bytes_ == 0; }

  // Of the virtual file.
  uint64_t size_bytes() const { return size_bytes_; }

 private:
  std::span<FolderFile> files_;
  uint64_t size_bytes_ = 0;
};

// Collects the files of `folder`, an entry of ListRootFolders(), and where they lie. Files that are no part of the
// format are passed over. Returns the map of the virtual file over the used part of `extents`, which `files` goes with.
// Fails as ModelFolder::Add() and Volume::MapFile() do; with kUnsupported when the files lie in more than
// extents.size() pieces.
Result<storage::FileMap> MapFolder(storage::Volume& volume, const storage::DirEntry& folder, ModelFolder& files,
                                   std::span<storage::Extent> extents);

// Reads model_config.json and tokenizer.bin through `reader`, which reads the virtual file, and checks every file's
// size against the shape; a tokenizer.bin that cannot be read is not used (ModelFile::tokenizer_fault). The tensor
// table is taken from `arena`, as by OpenGguf(). Refused by name: files that are missing, of another size or of layers
// that the model does not have; quantisation, biases, scaled rotary positions, another activation and any other key
// that would change the numbers; keys that come twice; sizes out of range. The LM head of a tied model
// (tie_word_embeddings) is the embedding; its lm_head.bin may be missing, and is not read.
Result<ModelFile> OpenFolder(storage::ByteReader& reader, const ModelFolder& files, Arena& arena);

}  // namespace thimble::formats

#endif  // THIMBLE_ENGINE_FORMATS_MODEL_FOLDER_H_

// Whether a model is sound: everything a run could trip over, looked at once.
#ifndef THIMBLE_HOST_MODELS_VERIFY_H_
#define THIMBLE_HOST_MODELS_VERIFY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/formats/index_file.h"
#include "engine/formats/model_file.h"
#include "engine/storage/block_device.h"
#include "engine/storage/file_reader.h"
#include "host/models/card_open.h"
#include "host/support/errors.h"

namespace thimble::host {

// A model's bytes: of one file, or of the files of a tensor folder in the order of their numbers
// (formats::FolderFileNumber()).
struct ModelBytes {
  struct Part {
    std::string name;  // empty where there is but one
    uint64_t offset_bytes = 0;
    uint64_t size_bytes = 0;
  };

  ModelBytes(storage::FileReader& model_reader, const OpenedModel& opened, std::string model_name);
  uint64_t size_bytes() const;

  storage::FileReader* reader;
  std::string name;  // for sentences
  std::vector<Part> parts;
};

// The checksums of its model that an index keeps.
struct IndexChecks {
  std::string name;              // of the index, for sentences
  std::vector<uint32_t> blocks;  // of all stored tensors, as formats::Section::kBlockChecks
  std::vector<uint32_t> embedding_rows;
  std::vector<uint32_t> head_rows;  // none: it has no screen
};

// Reads every byte of an index that OpenModelIndex() passed, and holds it to all checksums that a run holds it to:
// those of sections, of groups of records, of records and of the tokenizer's pages. What lies between sections must be
// zeros. Fails with one sentence that names `name`, the section, the bytes and what to do.
Expected<IndexChecks> CheckIndex(storage::FileReader& index_reader, const formats::Index& index,
                                 const formats::ModelFile& model, const std::string& name);

// What CheckBytes() found out.
struct CheckedBytes {
  uint64_t weights = 0;    // numbers found finite, each counted once
  uint64_t checksums = 0;  // of blocks and rows, that fit
  std::string sha256;      // of the parts, one after the other, in hexadecimal digits
};

// Reads every byte of `bytes` once, part by part from the first byte to the last, 1 MiB at a time, with a progress line
// on a terminal. Fails with one sentence that names the model, the tensor, the byte of the file and what to do, at the
// first weight that is not finite, the first byte that `reference` (or null) has otherwise, the first row or block of a
// tensor that has another checksum in `index` (or null), and the first block that cannot be read. Without an index
// nothing is known of bytes between tensors, and of weights only that they are numbers.
Expected<CheckedBytes> CheckBytes(const ModelBytes& bytes, const formats::ModelFile& model, const ModelBytes* reference,
                                  const IndexChecks* index = nullptr);

// What CheckTokenizer() found out.
struct CheckedTokenizer {
  uint32_t tokens = 0;   // 0: the model has no tokenizer, or none that can be used
  std::string no_texts;  // why it cannot be used
};

// Loads the tokenizer as a session would, into this computer's memory, and looks at the text of every id: it must be
// UTF-8, that of a byte token one byte. One of a kind that is not supported is no fault of the model. The sentence of a
// failure names `name` and, where there is one, the id.
Expected<CheckedTokenizer> CheckTokenizer(storage::FileReader& reader, const formats::ModelFile& model,
                                          const std::string& name);

// What CheckVolume() found out.
struct CheckedVolume {
  const char* format_name = "";  // "FAT32", "exFAT"
  uint32_t table_count = 0;      // allocation tables, which agree: 1 or 2
};

// Compares the allocation tables of the volume with models of the card on `device`.
Expected<CheckedVolume> CheckVolume(storage::BlockDevice& device, const std::string& name);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_MODELS_VERIFY_H_

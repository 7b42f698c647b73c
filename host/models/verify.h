// Whether a model is sound: everything a run could trip over, looked at once.
#ifndef THIMBLE_HOST_MODELS_VERIFY_H_
#define THIMBLE_HOST_MODELS_VERIFY_H_

#include <cstdint>
#include <string>
#include <vector>

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

// What CheckBytes() found out.
struct CheckedBytes {
  uint64_t weights = 0;  // numbers found finite, each counted once
  std::string sha256;    // of the parts, one after the other, in hexadecimal digits
};

// Reads every byte of `bytes` once, part by part from the first byte to the last, 1 MiB at a time, with a progress line
// on a terminal. Fails with one sentence that names the model, the tensor, the byte of the file and what to do, at the
// first weight that is not finite, the first byte that `reference` (or null) has otherwise, and the first block that
// cannot be read.
Expected<CheckedBytes> CheckBytes(const ModelBytes& bytes, const formats::ModelFile& model,
                                  const ModelBytes* reference);

// Loads the tokenizer as a session would, into this computer's memory, and looks at the text of every id: it must be
// UTF-8, that of a byte token one byte. Returns the number of ids, 0 of a model without a tokenizer. The sentence of a
// failure names `name` and the id.
Expected<uint32_t> CheckTokenizer(storage::FileReader& reader, const formats::ModelFile& model,
                                  const std::string& name);

// Compares the allocation tables of the FAT32 card on `device`. Returns how many there are, 1 or 2.
Expected<uint32_t> CheckAllocationTables(storage::BlockDevice& device, const std::string& name);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_MODELS_VERIFY_H_

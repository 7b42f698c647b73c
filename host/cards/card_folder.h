// A model onto a card that the operating system has mounted.
#ifndef THIMBLE_HOST_CARDS_CARD_FOLDER_H_
#define THIMBLE_HOST_CARDS_CARD_FOLDER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "host/support/errors.h"
#include "host/support/file_system.h"

namespace thimble::host {

struct CardFolderOptions {
  std::string model;              // whatever OpenModelSource() reads, but no card
  std::string tokenizer = {};     // as there
  std::string name_on_card = {};  // empty: the model's own name, with .gguf at its end
  std::string folder;             // where the card is mounted
  std::function<Expected<FileSystem>(const std::string&)> file_system_of = FileSystemOf;  // another one for tests
};

struct CardFolderCopy {
  std::string path;
  uint64_t model_bytes = 0;
  uint64_t index_bytes = 0;        // of the index, which goes with the model if there is one beside it; 0: none
  std::optional<size_t> pieces;    // that the copy lies in, where the operating system says so
  std::vector<std::string> notes;  // what a user should know, a sentence each
};

// Copies the model, and the index beside it if there is one, into the folder, where each file appears whole or not at
// all: with a progress line, flushed to the card and read back. Fails with one sentence, and changes nothing, when the
// folder is none or cannot be written, is not the root folder of its card, is on exFAT or NTFS, has no room; when the
// model is larger than a file on FAT32 may be or its name cannot stand there; when what is read back is not what was
// written.
Expected<CardFolderCopy> CopyToCardFolder(const CardFolderOptions& options);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_CARDS_CARD_FOLDER_H_

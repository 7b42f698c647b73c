// A model onto a card that the operating system has mounted.
#ifndef THIMBLE_HOST_CARDS_CARD_FOLDER_H_
#define THIMBLE_HOST_CARDS_CARD_FOLDER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "host/cards/model_for_card.h"
#include "host/support/errors.h"
#include "host/support/file_system.h"

namespace thimble::host {

struct CardFolderOptions {
  CardContents contents;
  std::string folder;                                                                     // where the card is mounted
  std::function<Expected<FileSystem>(const std::string&)> file_system_of = FileSystemOf;  // another one for tests
};

struct CardFolderCopy {
  std::string path;
  uint64_t model_bytes = 0;
  uint64_t index_bytes = 0;         // of the index, which goes with the model if there is one beside it; 0: none
  std::vector<std::string> others;  // names of the other files that went with it: ModelForCard::others()
  std::optional<size_t> pieces;     // that the copy lies in, where the operating system says so
  std::vector<std::string> notes;   // what a user should know, a sentence each
};

// Copies the model and what goes with it (OpenModelForCard()) into the folder as one: all files are written under other
// names, with a progress line, flushed to the card and read back before the first of them gets its name. The index that
// was there before is gone then, also where the model has none: an index never stands beside another model than its
// own. Fails with one sentence, and changes nothing, when the folder is none or cannot be written, is not the root
// folder of its card, is on NTFS, has no room; when a file is larger than one on FAT32 may be, where it is on that, or
// the model's name cannot stand there; when what is read back is not what was written. A card that fails while the
// files get their names, or a process that is killed then, leaves what CommitTogether() says: a model that runs.
Expected<CardFolderCopy> CopyToCardFolder(const CardFolderOptions& options);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_CARDS_CARD_FOLDER_H_

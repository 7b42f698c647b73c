// What both ways of making a card share: an image, and a copy onto a mounted card.
#ifndef THIMBLE_HOST_CARDS_MODEL_FOR_CARD_H_
#define THIMBLE_HOST_CARDS_MODEL_FOR_CARD_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "host/devices/file_device.h"
#include "host/models/card_open.h"
#include "host/models/source.h"
#include "host/support/atomic_file.h"
#include "host/support/errors.h"

namespace thimble::host {

// A file on FAT32 has at most 4 GiB less one byte.
inline constexpr uint64_t kMaxFileBytes = 0xffffffff;

// What is to go onto a card.
struct CardContents {
  std::string model;              // whatever OpenModelSource() reads, but no card
  std::string tokenizer = {};     // as there
  std::string name_on_card = {};  // empty: the model's own name, with .gguf at its end
  std::string plan = {};          // a plan file, as for ReadGiven(); empty: the one beside the model, if there is one
  std::string autorun = {};       // an automatic run, the same; empty: autorun.txt beside the model
  uint64_t swap_bytes = 0;        // of a swap file (docs/formats/swap.md); 0: none
  uint64_t swap_id = 0;           // its number
};

// A file, and what it is read from. Refers to the model that it is of.
struct StoredFile {
  FileDevice* device;
  storage::FileMap file;
};

// A file that goes onto a card.
struct FileForCard {
  std::string given;  // what the user calls it
  std::string path;   // what is read
  std::string name_on_card;
  StoredFile bytes;
};

// A model that may go onto a card, and all that goes with it.
struct ModelForCard {
  ModelSource source;  // what `opened` reads, which it must outlive
  OpenedModel opened;
  std::string name_on_card;
  std::vector<FileForCard> files = {};  // the model, index, plan file, automatic run, swap file: those that there are
  std::vector<std::string> notes = {};  // on what lies beside the model and stays there, a sentence each

  // What the texts of `files`, and the swap file, are read from.
  std::vector<TemporaryFile> text_files = {};
  std::vector<std::unique_ptr<FileDevice>> text_devices = {};
  std::vector<std::unique_ptr<storage::Extent>> text_extents = {};

  uint64_t index_bytes() const { return opened.index_file.size_bytes; }  // 0: it has none
  std::vector<std::string> others() const;  // names on the card of what goes there beside model and index
};

// Opens the model, converting it if need be (host/models/source.h), and reads its header as a session would. With it go
// the files that a board looks for (engine/formats/card_models.h): the index beside it; a plan file and an automatic
// run, the given ones or those beside it. One that is given must be a plan file, or lines `key = value`. One that only
// lies there and is none, or runs another model, stays behind with a note. Fails with one sentence: it is no model, it
// is a card already, it is larger than `max_bytes`, its name cannot stand on a card (CheckCardName(); a name that is
// given is checked before anything is read).
Expected<ModelForCard> OpenModelForCard(const CardContents& contents, uint64_t max_bytes = kMaxFileBytes);

// Hands all bytes of the file to `write(offset in the file, bytes)`, in order, with a progress line.
Status CopyBytes(const FileForCard& from,
                 const std::function<Status(uint64_t offset, std::span<const std::byte> bytes)>& write);

// Whether both hold the same bytes, with a progress line. `name` stands in the sentence of a failure.
Status CompareFiles(const StoredFile& a, const StoredFile& b, const std::string& name);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_CARDS_MODEL_FOR_CARD_H_

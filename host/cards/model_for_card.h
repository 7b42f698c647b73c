// What both ways of making a card share: an image, and a copy onto a mounted card.
#ifndef THIMBLE_HOST_CARDS_MODEL_FOR_CARD_H_
#define THIMBLE_HOST_CARDS_MODEL_FOR_CARD_H_

#include <cstdint>
#include <string>

#include "host/models/card_open.h"
#include "host/models/source.h"
#include "host/support/errors.h"

namespace thimble::host {

// A file on FAT32 has at most 4 GiB less one byte.
inline constexpr uint64_t kMaxFileBytes = 0xffffffff;

// A model that may go onto a card under this name.
struct ModelForCard {
  ModelSource source;  // what `opened` reads, which it must outlive
  OpenedModel opened;
  std::string name_on_card;
};

// Opens `model`, converting it if need be (host/models/source.h), and reads its header as a session would.
// `name_on_card` or, when that is empty, the model's own name with .gguf at its end. Fails with one sentence: it is no
// model, it is a card already, it is larger than kMaxFileBytes, its name cannot stand on FAT32.
Expected<ModelForCard> OpenModelForCard(const std::string& model, const std::string& tokenizer,
                                        const std::string& name_on_card);

// A file, and what it is read from. Refers to the model that it is of.
struct StoredFile {
  FileDevice* device;
  storage::FileMap file;
};
StoredFile FileOf(const OpenedModel& model);
StoredFile IndexOf(const OpenedModel& model);  // which has one

// Whether both hold the same bytes, with a progress line. `name` stands in the sentence of a failure.
Status CompareFiles(const StoredFile& a, const StoredFile& b, const std::string& name);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_CARDS_MODEL_FOR_CARD_H_

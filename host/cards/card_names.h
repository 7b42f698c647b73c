// Names of files on FAT32.
#ifndef THIMBLE_HOST_CARDS_CARD_NAMES_H_
#define THIMBLE_HOST_CARDS_CARD_NAMES_H_

#include <string>

#include "host/support/errors.h"

namespace thimble::host {

// Whether a model may have this name on a card: UTF-8, of 255 bytes at most with its index's extension, none of
// "*/:<>?\| and no control characters, no space at its ends, no dot at its end, no name of a device (CON, PRN, AUX,
// NUL, COM0 to COM9, LPT0 to LPT9, with any extension), and one that a board takes for a model
// (formats::IsModelName()). Fails with one sentence that says which of these it is not.
Status CheckCardName(const std::string& name);

// A name in the units that FAT32 has. `utf8` is valid.
std::u16string Utf16(const std::string& utf8);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_CARDS_CARD_NAMES_H_

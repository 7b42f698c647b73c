// Names of files on FAT32: which may stand there, and those that mtools cannot write.
#ifndef THIMBLE_HOST_CARDS_CARD_NAMES_H_
#define THIMBLE_HOST_CARDS_CARD_NAMES_H_

#include <cstdint>
#include <string>

#include "host/support/atomic_file.h"
#include "host/support/errors.h"

namespace thimble::host {

// Whether a model may have this name on a card: UTF-8, of 255 bytes at most with its index's extension, none of
// "*/:<>?\| and no control characters, no space at its ends, no dot at its end, no name of a device (CON, PRN, AUX,
// NUL, COM0 to COM9, LPT0 to LPT9, with any extension), and one that a board takes for a model
// (formats::IsModelName()). Fails with one sentence that says which of these it is not.
Status CheckCardName(const std::string& name);

// A name in the units that FAT32 has. `utf8` is valid.
std::u16string Utf16(const std::string& utf8);

// mtools writes no character beyond U+FFFF. This is the name with two letters x for each, as many units of UTF-16 as
// the name itself has.
std::string NameForMtools(const std::string& name);

// Gives the file that mtools called NameForMtools(name) in the root folder of the FAT32 volume at this byte of the
// image its name. The volume was made a moment ago and is trusted. Nothing is written when both are one.
Status WriteCardName(AtomicFile& image, uint64_t volume_bytes, const std::string& name);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_CARDS_CARD_NAMES_H_

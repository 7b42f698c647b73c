// What each Unix has a call of its own for.
#ifndef THIMBLE_HOST_SUPPORT_FILE_TRICKS_H_
#define THIMBLE_HOST_SUPPORT_FILE_TRICKS_H_

#include <string>

namespace thimble::host {

// A path by which this process can open the file of this descriptor, also one that has no name.
std::string PathOfOpen(int fd);

// Gives each of two files or folders the other's name at once. False, with errno, if that cannot be done.
bool ExchangeNames(const std::string& a, const std::string& b);

// Lets go of what memory holds of a file, so that what is read next comes from the disk.
void ForgetCached(int fd);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SUPPORT_FILE_TRICKS_H_

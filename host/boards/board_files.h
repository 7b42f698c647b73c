// The text of the built-in board files, host/boards/*.json.
#ifndef THIMBLE_HOST_BOARDS_BOARD_FILES_H_
#define THIMBLE_HOST_BOARDS_BOARD_FILES_H_

#include <span>

namespace thimble::host {

struct BoardFile {
  const char* name;
  const char* text;
};
extern const std::span<const BoardFile> kBoardFiles;  // in a source that CMake makes

}  // namespace thimble::host

#endif  // THIMBLE_HOST_BOARDS_BOARD_FILES_H_

// A model as a command asks for it.
#ifndef THIMBLE_HOST_MODELS_MODEL_REQUEST_H_
#define THIMBLE_HOST_MODELS_MODEL_REQUEST_H_

#include <array>
#include <cstdint>
#include <string>

#include "engine/base/arena.h"
#include "host/models/card_open.h"
#include "host/models/source.h"

namespace thimble::host {

inline constexpr char kDefaultBoard[] = "esp32-cam";

struct ModelRequest {
  std::string model = {};         // a GGUF file, a tensor folder, a card's image, or anything `convert` reads
  std::string tokenizer = {};     // for what is converted on the fly; or empty
  std::string file_on_card = {};  // of a card with several; or empty
  std::string board = {};         // a name or a board file; empty: kDefaultBoard
  std::string name = {};          // in sentences; empty: `model`
  std::string index_path = {};    // of a GGUF file's or a tensor folder's index; empty: beside it
  WrittenType written = WrittenType::kExact;  // of what is converted on the fly
  bool rewritten = false;                     // everything is converted on the fly, to `written`
  IndexUse index = IndexUse::kIfThere;
  std::array<uint64_t, kNumRegions> more_bytes = {};  // by region, beyond what the board has: for "what if"

  std::string board_or_default() const { return board.empty() ? kDefaultBoard : board; }
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_MODELS_MODEL_REQUEST_H_

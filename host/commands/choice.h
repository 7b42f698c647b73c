// Options whose value is one of a few words.
#ifndef THIMBLE_HOST_COMMANDS_CHOICE_H_
#define THIMBLE_HOST_COMMANDS_CHOICE_H_

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace thimble::host {

// Lets one of `words` pass, in any case, and makes it the word as it stands there. A refusal lists all of them in their
// order, and the one that was probably meant. For Option::transform(); --help shows the list.
CLI::Validator Choice(const std::vector<std::string>& words);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_COMMANDS_CHOICE_H_

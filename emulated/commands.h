// The commands of the program that runs on every machine of this folder. Each returns true if all went well and
// otherwise has written why not.
//
// Lines that begin with "count " tell instructions and belong to one machine. All other lines are the same everywhere.
#ifndef THIMBLE_EMULATED_COMMANDS_H_
#define THIMBLE_EMULATED_COMMANDS_H_

#include <span>

namespace thimble::emulated {

// "kernels": every table of kernels against the reference, over lengths and misalignments, and a checksum of all
// results; and the board's test of its arithmetic (firmware/app/arithmetic.h).
bool CheckKernels();

// "count": instructions a multiply-accumulate of each kernel, on the shapes of a model like Tiny-LLM.
bool CountKernels();

// "generate CARD greedy|sampled full|screen|f16|q8_0 TOKENS WORD...": opens the model of a card's image as a board
// would, and continues the words. Checksums of the logits, or of the hidden states where the screen leaves no logits,
// follow the ids.
bool GenerateFromCard(std::span<const char* const> arguments);

}  // namespace thimble::emulated

#endif  // THIMBLE_EMULATED_COMMANDS_H_

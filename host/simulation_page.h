// A simulation as one page for a browser: nothing in it asks for anything else, and what it shows needs no script.
#ifndef THIMBLE_HOST_SIMULATION_PAGE_H_
#define THIMBLE_HOST_SIMULATION_PAGE_H_

#include <span>
#include <string>

#include "host/optimizer.h"
#include "host/simulator.h"

namespace thimble::host {

// HTML with its style, pictures (SVG) and script inside. `model` is the page's heading. `runs`: one for each sampler,
// at least one; of the first the page shows all, of the others the speed. The first's trace holds at least its last
// token, whose timeline is drawn in at most kMostBlocks blocks, so that the page stays under a megabyte. Texts from
// files and of the model are escaped.
inline constexpr size_t kMostBlocks = 3000;
std::string SimulationPage(const std::string& model, Simulator& simulator, std::span<const SampledRun> runs,
                           std::span<const Rung> ladder);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SIMULATION_PAGE_H_

// A simulation as one page for a browser: nothing in it asks for anything else, and what it shows needs no script.
#ifndef THIMBLE_HOST_REPORTS_SIMULATION_PAGE_H_
#define THIMBLE_HOST_REPORTS_SIMULATION_PAGE_H_

#include <string>

#include "host/studies/simulation.h"

namespace thimble::host {

// HTML with its style, pictures (SVG) and script inside. `model` is the page's heading. Of its first run the page
// shows all, of the others the speed. The first's trace holds at least its last
// token, whose timeline is drawn in at most kMaxBlocks blocks, so that the page stays under a megabyte. Texts from
// files and of the model are escaped.
inline constexpr size_t kMaxBlocks = 3000;
std::string SimulationPage(const std::string& model, const Simulation& simulation);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_REPORTS_SIMULATION_PAGE_H_

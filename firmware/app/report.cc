#include "firmware/app/report.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <utility>

#include "firmware/app/bench.h"
#include "firmware/app/measure.h"
#include "firmware/app/print.h"

namespace thimble::firmware {
namespace {

// Prints costs as they are complete. Those of the card, of which there is nothing before all of its reads are known,
// wait for PrintCard().
class Report final : public Measurements {
 public:
  explicit Report(Machine& machine) : machine_(&machine), is_simulated_(machine.info().is_simulated) {}

  void OnRead(uint32_t bytes, bool is_random, uint64_t us) override {
    const uint64_t sectors = bytes / kSectorBytes;
    if (num_sizes_ == 0 || (num_sizes_ == 1 && sectors != sectors_[0])) sectors_[num_sizes_++] = sectors;
    Reads& reads = reads_[is_random ? 1 : 0];
    const size_t size = sectors == sectors_[0] ? 0 : 1;
    reads.us[size * kMeasuredTimes + reads.n[size]++] = us;
  }

  void OnCost(std::string_view key, uint64_t thousandths) override {
    values_[num_values_++] = thousandths;
    if (num_values_ != values_.size()) return;
    num_values_ = 0;
    PrintCost(key, "", values_, "");
  }

  // Works out what the card's reads cost (docs/formats/board_log.md says how); whether it can be told.
  bool SolveCard() {
    Reads& next = reads_[0];
    const std::span<uint64_t> all(next.us);
    const uint64_t least = SpreadOf(all.first(kMeasuredTimes)).typical;
    const uint64_t most = SpreadOf(all.subspan(kMeasuredTimes)).typical;
    if (num_sizes_ != 2 || most <= least) return false;
    sector_ns_ = {(most - least) * 1000 / (sectors_[1] - sectors_[0])};
    SubtractFrom(next, 0);
    std::array<uint64_t, 2 * kMeasuredTimes> sorted = next.us;
    SubtractFrom(reads_[1], SpreadOf(sorted).typical);
    return true;
  }

  void PrintCard(std::string_view mode) {
    PrintCost("card.", mode, sector_ns_, ".sector_us");
    PrintCost("card.", mode, reads_[0].us, ".command_us");
    PrintCost("card.random_us", "", reads_[1].us, "");
  }

 private:
  // Microseconds, later nanoseconds, of the reads of both sizes, the smaller first.
  struct Reads {
    std::array<uint64_t, 2 * kMeasuredTimes> us = {};
    std::array<size_t, 2> n = {};
  };

  // Leaves of each read what its sectors and `command_ns` do not take, in nanoseconds.
  void SubtractFrom(Reads& reads, uint64_t command_ns) const {
    for (size_t i = 0; i < reads.us.size(); ++i) {
      const uint64_t known_ns = sectors_[i / kMeasuredTimes] * sector_ns_[0] + command_ns;
      reads.us[i] = std::max(reads.us[i] * 1000, known_ns) - known_ns;
    }
  }

  void PrintCost(std::string_view key, std::string_view mode, std::span<uint64_t> thousandths,
                 std::string_view suffix) {
    const uint64_t n = thousandths.size() == 1 ? 2 * kMeasuredTimes : thousandths.size();
    const Spread spread = SpreadOf(thousandths);
    Print(*machine_, std::exchange(has_costs_, true) ? ",\n    \"" : "\n    \"", key, JsonText{mode}, suffix,
          "\": {\"low\": ", Fixed{spread.low, 3}, ", \"typical\": ", Fixed{spread.typical, 3},
          ", \"high\": ", Fixed{spread.high, 3}, ", \"source\": \"doctor --report",
          is_simulated_ ? " on a simulated board, " : ", ", n, " measurements\", \"confidence\": \"",
          is_simulated_ ? "simulated" : "calibrated", "\"}");
  }

  Machine* machine_;
  bool is_simulated_;
  std::array<uint64_t, kMeasuredTimes> values_ = {};
  size_t num_values_ = 0;
  std::array<Reads, 2> reads_ = {};  // in a row; from anywhere
  std::array<uint64_t, 2> sectors_ = {};
  size_t num_sizes_ = 0;
  std::array<uint64_t, 1> sector_ns_ = {};
  bool has_costs_ = false;
};

void PrintDescription(Machine& machine) {
  const MachineInfo info = machine.info();
  Print(machine, "  \"description\": \"", info.is_simulated ? "simulated, measured on no board, by " : "measured by ",
        "doctor --report on ", JsonText{info.chip}, " revision ", info.revision / 100, ".", info.revision % 100, ", ",
        JsonText{info.sdk}, ", flash ", info.flash_bytes / 1024, " KiB, PSRAM ", info.psram_bytes / 1024, " KiB");
  if (machine.card() != nullptr && machine.card_info().size_bytes != 0) {
    const CardInfo card = machine.card_info();
    Print(machine, ", card ", JsonText{card.name}, " of ", card.size_bytes / 1'000'000, " MB");
  }
  Print(machine, "\",\n");
}

void PrintMemory(Machine& machine) {
  const Board& board = machine.board();
  Print(machine, "  \"memory\": {");
  for (size_t i = 0; i < kNumRegions; ++i) {
    const auto region = static_cast<Region>(i);
    Print(machine, "\"", RegionName(region), "\": ", board.capacity(region), ", ");
  }
  // A file must have one, and nothing runs without.
  if (board.tile_buffer_bytes != 0) Print(machine, "\"tile_buffer_bytes\": ", board.tile_buffer_bytes, ", ");
  Print(machine, "\"dma_align\": ", board.dma_align, "},\n");
}

void PrintHead(Machine& machine, Workers* workers) {
  const MachineInfo info = machine.info();
  Print(machine, kReportBegin, "\n{\n  \"thimble_board\": 1,\n  \"name\": \"", machine.board().name,
        info.is_simulated ? "-simulated" : "-measured", "\",\n  \"like\": \"", machine.board().name, "\",\n");
  PrintDescription(machine);
  PrintMemory(machine);
  Print(machine, "  \"cpu\": {\"cores\": ", workers == nullptr ? 1u : 2u,
        ", \"mhz\": ", std::max<uint32_t>(info.mhz, 1), "},\n");
}

}  // namespace

Result<void> PrintReport(Machine& machine, Workers* workers) {
  Report report(machine);
  Result<void> card = machine.MountCard();
  if (card) card = BenchCard(machine, report);
  THIMBLE_TRY(CheckInterrupt(machine));
  if (card && !report.SolveCard()) {
    card = Fail({.code = Code::kUnsupported, .what = "long reads of the card take no longer than short ones"});
  }
  PrintHead(machine, workers);
  const char* const mode = machine.card_info().mode;
  if (card) Print(machine, "  \"card_mode\": \"", JsonText{mode}, "\",\n");
  Print(machine, "  \"costs\": {");
  if (card) report.PrintCard(mode);
  const Result<void> psram = BenchPsram(machine, report);
  const Result<void> flash = BenchFlash(machine, report);
  const Result<void> kernels = BenchKernels(machine, report, workers);
  THIMBLE_TRY(CheckInterrupt(machine));
  Print(machine, "\n  }\n}\n", kReportEnd, "\n");
  struct Part {
    const char* name;
    const Result<void>* done;
    bool has_it;
  };
  for (const Part& part :
       {Part{"card", &card, true}, Part{"PSRAM", &psram, machine.board().capacity(Region::kPsram) != 0},
        Part{"flash", &flash, machine.flash() != nullptr}, Part{"kernels", &kernels, true}}) {
    if (*part.done || !part.has_it) continue;
    Print(machine, "not measured: ", part.name, ", and so taken from the board '", machine.board().name,
          "': ", part.done->error(), "\n");
  }
  if (machine.info().is_simulated) {
    Print(machine, "This board is simulated: its figures say nothing of a real one, and the file says so.\n");
    return {};
  }
  Print(machine,
        "Save what the terminal shows in a file, as capture.txt: 'thimble simulate MODEL --board capture.txt' then\n"
        "models with this board's figures; docs/hardware-results.md says where to send it.\n");
  return {};
}

}  // namespace thimble::firmware

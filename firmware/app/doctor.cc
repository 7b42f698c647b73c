#include "firmware/app/doctor.h"

#include <algorithm>
#include <array>
#include <span>
#include <string_view>

#include "engine/storage/flash_writer.h"
#include "firmware/app/arithmetic.h"
#include "firmware/app/print.h"

namespace thimble::firmware {
namespace {

// Words that are written before it is looked whether to stop.
constexpr size_t kWordsAtOnce = 16 * 1024;

// A read of a sector that is worth a remark: usual ones take 0.3 to 3 ms, those of some cards 40 to 50 now and then.
constexpr uint64_t kSlowSectorUs = 20'000;

struct StrapHint {
  uint32_t gpio;
  bool level;  // at which it is a sign of trouble
  std::string_view hint;
};
// Of the ESP32: ESP32 Series Datasheet, "Strapping Pins"; that it started at all says that none of it was fatal.
constexpr std::array<StrapHint, 3> kStrapHints = {
    {{0, false, "GPIO0 was low at reset: with a jumper to ground the chip waits to be flashed; take it off to run"},
     {2, true, "GPIO2, the card's D0, was high at reset: it must be low to flash; take the card out if flashing fails"},
     {12, true,
      "GPIO12, the card's D2, was high at reset: it selects 1.8 V for the flash, and boards then often do not start; "
      "use no external pull-up at it"}}};

bool IsInterrupted(Machine& machine) { return machine.interrupted().load(); }

// Writes words made of their place by `make`, and compares. Returns the bad ones; `first_bad`: the first of them.
template <class Make>
uint64_t TestWords(Machine& machine, std::span<volatile uint32_t> words, Make make, size_t& first_bad) {
  uint64_t bad = 0;
  for (const bool is_writing : {true, false}) {
    for (size_t i = 0; i < words.size(); ++i) {
      if (i % kWordsAtOnce == 0 && IsInterrupted(machine)) return bad;
      const auto want = static_cast<uint32_t>(make(static_cast<uint32_t>(i)));
      if (is_writing) {
        words[i] = want;
      } else if (words[i] != want && bad++ == 0) {
        first_bad = i;
      }
    }
  }
  return bad;
}

}  // namespace

uint32_t ExamineStart(Machine& machine) {
  const MachineInfo info = machine.info();
  Print(machine, "start      ", info.reset_reason, "\n");
  uint32_t wrong = 0;
  if (info.browned_out) {
    ++wrong;
    Print(machine,
          "           WRONG: the supply gave way (brown-out). Feed 5 V, 1 A or more, by short thick wires, to the 5V ",
          "pin; many USB adapters cannot\n");
  }
  for (const StrapPin& pin : machine.strap_pins()) {
    for (const StrapHint& hint : kStrapHints) {
      if (hint.gpio != pin.gpio || hint.level != pin.level) continue;
      Print(machine, "           note: ", hint.hint, "\n");
    }
  }
  return wrong;
}

uint32_t ExaminePsram(Machine& machine) {
  Arena& arena = ArenaOf(machine.arenas(), Region::kPsram);
  const MachineInfo info = machine.info();
  const uint64_t mark = arena.used_bytes();
  const Result<std::span<std::byte>> all = arena.Reserve((arena.capacity_bytes() - mark) / 16 * 16);
  arena.Release(mark);
  if (info.psram_bytes == 0 || !all || all->empty()) {
    // A board that has none is another board than one whose chip is dead: its profile asks for none.
    const bool is_wrong = machine.board().capacity(Region::kPsram) != 0 || info.psram_bytes != 0;
    Print(machine, "PSRAM      ", is_wrong ? "WRONG: " : "", "none that answers: an ESP32-CAM has 4 MB. ",
          "Models then run from internal memory, if they fit\n");
    return is_wrong ? 1 : 0;
  }
  const std::span<volatile uint32_t> words(reinterpret_cast<volatile uint32_t*>(all->data()),
                                           all->size() / sizeof(uint32_t));
  size_t first_bad = 0;
  // Every word differs from every other; then every bit the other way.
  uint64_t bad = TestWords(machine, words, [](uint32_t i) { return i * 2654435761u; }, first_bad);
  if (bad == 0) bad = TestWords(machine, words, [](uint32_t i) { return ~(i * 2654435761u); }, first_bad);
  if (IsInterrupted(machine)) return 0;
  if (bad == 0) {
    Print(machine, "PSRAM      ", all->size() / 1024, " KiB tested, each word twice: right\n");
    return 0;
  }
  Print(machine, "PSRAM      WRONG: ", bad, " of ", words.size(),
        " words do not keep what is written, the first at byte ", first_bad * sizeof(uint32_t),
        ": the chip or its solder is bad, or its clock too fast\n");
  return 1;
}

uint32_t ExamineArithmetic(Machine& machine, bool is_brief) {
  uint32_t wrong = 0;
  for (size_t i = 0; i < kNumSelfTests; ++i) {
    const SelfTestResult result = RunSelfTest(i, machine.kernels());
    if (result.is_right()) continue;
    ++wrong;
    Print(machine, "arithmetic WRONG: ", result.operation, " gives ", Hex{result.got}, " and not ", Hex{result.want},
          "; it matters for ", result.matters, "\n");
  }
  if (wrong != 0) {
    Print(machine, "           texts of this board need not be those of other computers; please tell the project\n");
  } else if (!is_brief) {
    Print(machine, "arithmetic all ", kNumSelfTests, " tests right: the numbers are those of every other computer\n");
  }
  return wrong;
}

uint32_t ExamineCard(Machine& machine) {
  // Whatever card is in the slot now is the one to try.
  if (const Result<void> mounted = machine.MountCard(); !mounted) {
    Print(machine, "card       WRONG: ", mounted.error(), "\n");
    Print(machine, "           Is a card in the slot, to its end? FAT32, 64 MB or more, Class 10.\n");
    return 1;
  }
  uint32_t wrong = 0;
  uint64_t worst_us = 0;
  CardTrial trial;
  for (uint32_t rung = 0; machine.TryCard(rung, trial); ++rung) {
    if (IsInterrupted(machine)) return wrong;
    Printer line(machine);
    line.Add(rung == 0 ? "card       " : "           ").Add(Padded{trial.mode, 10});
    if (trial.result) {
      worst_us = std::max(worst_us, trial.worst_sector_us);
      line.Add("right, ").Add(Fixed{trial.bytes_per_s / 10000, 2}).Add(" MB/s; a sector from anywhere ");
      line.Add(Fixed{trial.sector_us / 10, 2}).Add(" ms, at worst ").Add(Fixed{trial.worst_sector_us / 10, 2});
      line.Add(" ms\n");
    } else if (trial.result.error().code == Code::kUnsupported) {
      line.Add("left out: ").Add(trial.result.error()).Add("\n");
    } else {
      ++wrong;
      line.Add("WRONG: ").Add(trial.result.error()).Add("\n");
    }
  }
  if (wrong != 0) {
    Print(machine,
          "           what to do: push the card in to its end, clean its contacts, feed 5 V with 1 A or more, ",
          "try another card; ways that are right are used meanwhile\n");
  }
  if (worst_us >= kSlowSectorUs) {
    Print(machine, "           note: now and then this card takes ", worst_us / 1000,
          " ms for a sector, and a token waits for it: another card may be steadier\n");
  }
  const Result<void> mounted = machine.MountCard();
  if (mounted) {
    Print(machine, "           chosen: ", machine.card_info().mode, "\n");
    return wrong;
  }
  Print(machine, "           WRONG: ", mounted.error(), "\n");
  return wrong + 1;
}

uint32_t ExamineFlash(Machine& machine) {
  if (machine.flash() == nullptr) {
    Print(machine, "flash      no partition for weights: plans use none\n");
    return 0;
  }
  Print(machine, "flash      ", machine.flash()->memory().size() / 1024, " KiB for weights\n");
  return 0;
}

}  // namespace thimble::firmware

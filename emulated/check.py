#!/usr/bin/env python3
"""Usage: check.py --machine NAME --program FILE --build DIR --work DIR TEST [ARGUMENT...]

Runs the program of this folder on an emulated processor and compares what it prints with what it prints on this
computer. Each run must end with the line PASS; each fault must end without it. docs/emulated.md says what this proves.

  card                                 makes the card's image that the other tests read
  kernels                              all kernels, over lengths and misalignments
  generate greedy|sampled full|screen|f16|q8_0|lookup|swap
                                       ids, text and checksums of logits or hidden states; with a KV cache of these types,
                                       with drafts, with keys and values in a swap file
  fault unaligned|beyond|stack|psram   what must be found out is found out
  instructions [--update]              counts, against instructions.txt; --update writes them there
"""
import argparse
import json
import math
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
TABLE = HERE / "instructions.txt"
MODEL = HERE.parent / "model" / "thimble-stories"
PROMPT = "Once upon a time"
# What is guessed from, and more than a swapping board's memory holds.
REPEATING = "Once upon a time Once upon a time Once upon a time Once upon"
TOKENS = 8
# A scan of all rows, with a KV cache of this type.
CACHES = ("f16", "q8_0")
TIMEOUT_S = 120
SKIPPED = 77
# By which these may differ between Debian 12's and 13's libraries, in hundredths.
SLACK = {"full_open": 2, "screen_open": 2, "stack": 2}

# -icount: a fixed time for each instruction, so that the machine's counter counts them. 4M: all memory there is.
MACHINES = {
    "xtensa": ["qemu-system-xtensa", "-M", "sim", "-cpu", "de233_fpu", "-icount", "shift=5,sleep=off"],
    "riscv32": ["qemu-system-riscv32", "-M", "virt", "-bios", "none", "-icount", "shift=0,sleep=off"],
}
# What a fault must leave behind. qemu's RISC-V loads unaligned words, and its kernels may store anywhere.
FAULTS = {
    ("xtensa", "unaligned"): "FAIL: exception 9 ",
    ("xtensa", "beyond"): "FAIL: exception 15 ",
    ("xtensa", "stack"): "FAIL: the stack overflowed",
    ("xtensa", "psram"): "FAIL: abort",
    ("riscv32", "beyond"): "FAIL: exception 5 ",
    ("riscv32", "stack"): "FAIL: the stack overflowed",
}


def fail(sentence):
    sys.exit(f"FAIL: {sentence}")


class Check:
    def __init__(self, options):
        self.machine = options.machine
        self.program = options.program
        self.build = pathlib.Path(options.build)
        self.card = pathlib.Path(options.work) / "card.img"

    def emulate(self, *words):
        semihosting = ",".join(["enable=on", "target=native", "arg=emulated", *(f"arg={word}" for word in words)])
        return subprocess.run([*MACHINES[self.machine], "-m", "4M", "-nographic", "-monitor", "none", "-serial", "none",
                               "-semihosting-config", semihosting, "-kernel", self.program],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S)

    def lines(self, *words):
        """What a run that must pass prints on the machine."""
        done = self.emulate(*words)
        lines = done.stdout.splitlines()
        if done.returncode != 0 or not lines or lines[-1] != "PASS":
            fail(f"'{' '.join(words)}' on {self.machine} ended with {done.returncode} and without PASS:\n"
                 f"{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return lines

    def compare(self, *words):
        """Both machines' lines but the counts, which must be the same."""
        got = [line for line in self.lines(*words) if not line.startswith("count ")]
        host = subprocess.run([self.build / "emulated" / "emulated", *words], capture_output=True, text=True,
                              check=True, timeout=TIMEOUT_S).stdout.splitlines()
        want = [line for line in host if not line.startswith("count ")]
        if got != want:
            differing = [f"  {a}   here: {b}" for a, b in zip(got, want) if a != b]
            fail(f"'{' '.join(words)}' differs on {self.machine}, from line to line ({len(got)} and {len(want)}):\n"
                 + "\n".join(differing[:10]))
        return got

    def thimble(self, *words):
        return subprocess.run([self.build / "thimble", *words], capture_output=True, text=True, check=True,
                              timeout=TIMEOUT_S).stdout

    def make_card(self):
        model = self.card.with_name("stories.gguf")
        self.card.parent.mkdir(parents=True, exist_ok=True)
        self.thimble("convert", MODEL, "-o", model)
        # Two stages that are of use to a sampler, too.
        self.thimble("prepare", model, "--screen", "48,3")
        self.thimble("card", model, "-o", self.card)

    def kernels(self):
        print(*self.compare("kernels"), sep="\n")

    def generate(self, how, head):
        lines = self.compare(*self.generation(how, head))
        print(*lines, sep="\n")
        rows = [line.split() for line in lines]
        temperature = "0" if how == "greedy" else "0.8"
        run = json.loads(self.thimble("run", "-m", self.card, "-p", self.prompt(head), "-n", str(TOKENS), "--temp", temperature,
                                      "-s", "1", "--json", *(["-ctk", head, "-ctv", head] if head in CACHES else [])))
        if [int(row[1]) for row in rows if row[0] == "prompt"] != run["prompt_ids"]:
            fail(f"'thimble run' reads the prompt as {run['prompt_ids']}")
        if [int(row[1]) for row in rows if row[0] == "token"] != run["ids"]:
            fail(f"'thimble run' makes the ids {run['ids']}")
        for word in ("draft", "swap"):
            if any(row[0] == word and int(row[1]) > 0 for row in rows) != (head == {"draft": "lookup"}.get(word, word)):
                fail(f"{word} is not what this run is about")
        screened = [int(row[1]) for row in rows if row[0] == "screen"]
        if screened != [TOKENS if head == "screen" else 0]:
            fail(f"{screened} tokens were chosen with the screen")

    def generation(self, how, head):
        return ["generate", str(self.card), how, head, str(TOKENS), *self.prompt(head).split()]

    def prompt(self, head):
        return REPEATING if head in ("lookup", "swap") else PROMPT

    def fault(self, kind):
        done = self.emulate("fault", kind)
        print(done.stdout)
        if done.returncode == 0 or "PASS" in done.stdout or FAULTS[self.machine, kind] not in done.stdout:
            fail(f"this fault was not found out; the machine ended with {done.returncode}")

    def gcc_version(self):
        done = subprocess.run(["riscv64-unknown-elf-gcc", "-dumpversion"], capture_output=True, text=True, check=True)
        return done.stdout.split(".")[0]

    def counts(self):
        """Hundredths of what instructions.txt says, rounded up."""
        counts = {}
        for line in self.lines("count"):
            words = line.split()
            if words[0] == "count" and words[1] != "stack":
                counts[words[1]] = round(100 * float(words[2]))
        for head in ("full", "screen"):
            for line in self.lines(*self.generation("greedy", head)):
                words = line.split()
                if words[0] == "count" and words[1] != "stack":
                    name = f"{head}_{words[1]}"
                    counts[name] = max(counts.get(name, 0), math.ceil(int(words[2]) / 10000))
                elif words[0] == "count":
                    counts["stack"] = max(counts.get("stack", 0), math.ceil(int(words[2]) * 100 / 1024))
        return counts

    def instructions(self, update=""):
        if self.machine == "riscv32" and self.gcc_version() != "12":
            print("SKIPPED: instructions.txt is for gcc 12")
            sys.exit(SKIPPED)
        counts = self.counts()
        text = TABLE.read_text(encoding="utf-8") if TABLE.exists() else ""
        comment = [line for line in text.splitlines() if line.startswith("#")]
        rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line and not line.startswith("#")}
        column = list(MACHINES).index(self.machine)
        if update:
            for name, count in counts.items():
                rows.setdefault(name, ["-"] * len(MACHINES))[column] = f"{count / 100:.2f}"
            body = [f"{name:18}" + "".join(f"{value:>10}" for value in values) for name, values in rows.items()]
            TABLE.write_text("\n".join(comment + body) + "\n", encoding="utf-8")
            return
        missing = set(counts) ^ {name for name, values in rows.items() if values[column] != "-"}
        if missing:
            fail(f"instructions.txt and the program do not count the same: {', '.join(sorted(missing))}")
        risen = []
        for name, count in counts.items():
            allowed = round(100 * float(rows[name][column]))
            print(f"{name:18}{count / 100:10.2f} of {allowed / 100:.2f}")
            if count > allowed + SLACK.get(name, 0):
                risen.append(name)
        if risen:
            fail(f"{', '.join(risen)} cost more instructions on {self.machine} than emulated/instructions.txt allows")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machine", choices=MACHINES, required=True)
    parser.add_argument("--program", required=True, help="of the emulated machine")
    parser.add_argument("--build", required=True, help="where thimble and this computer's program were built")
    parser.add_argument("--work", required=True, help="for the card's image")
    parser.add_argument("test", choices=["card", "kernels", "generate", "fault", "instructions"])
    options, arguments = parser.parse_known_args()
    check = Check(options)
    tests = {"card": check.make_card, "kernels": check.kernels, "generate": check.generate, "fault": check.fault,
             "instructions": check.instructions}
    tests[options.test](*arguments)


main()

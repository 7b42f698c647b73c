#!/usr/bin/env python3
"""What drafts make of a model's texts on a board: tokens a pass over the weights, and tokens a second, modelled.

  bench/drafts.py THIMBLE MODEL [--texts N] [--board NAME] [--draft-model FILE] [--only KINDS] [-- OPTIONS OF SIMULATE]

MODEL is a GGUF file that was prepared with --draft-tokens. Three kinds of texts: going on with a story, a conversation,
and a text that is there once already. Each is written N times, with the seeds 1 to N, without drafts and with each kind
of them; texts are held to be the same. FILE: a smaller model that guesses, too. Prints one table in Markdown.
"""

import argparse
import json
import subprocess
import sys

STORY = ("One day, a little girl named Lily found a small bird in the garden. The bird was sad and could not fly. "
         "Lily gave it some water and some bread. Soon the bird was happy and strong again.")
TEXTS = {
    "a story": "Once upon a time",
    "a conversation": '"What did you do today?" asked Mom. "I went to the park with Tom," said Lily. "Did you have fun?" '
                      'asked Mom. "Yes," said Lily.',
    "a text again": STORY + " " + STORY[:40],
}
DRAFTS = {"none": ["none"], "lookup": ["lookup"], "ngram, 3": ["ngram", "--draft-max", "3"],
          "ngram, 6": ["ngram", "--draft-max", "6"], "auto": ["auto"]}


class Total:
    """Of some texts."""

    def __init__(self):
        self.passes = self.accepted = self.tokens = 0
        self.seconds = {"low": 0, "typical": 0, "high": 0}

    def add(self, run):
        self.passes += run["draft"]["passes"]
        self.accepted += run["draft"]["accepted"]
        after_first = len(run["ids"]) - 1
        self.tokens += after_first
        for corner in self.seconds:
            if after_first:
                self.seconds[corner] += after_first / run["modelled"]["tok_per_s"][corner]

    def tokens_a_pass(self):
        return (self.passes + self.accepted) / self.passes if self.passes else 1

    def speed(self):
        low, typical, high = (self.tokens / self.seconds[c] for c in ("low", "typical", "high"))
        return f"{typical:.2f} ({low:.2f} to {high:.2f})"


def simulate(arguments, prompt, seed, draft):
    command = [arguments.thimble, "simulate", arguments.model, "-p", prompt, "-n", str(arguments.tokens), "-s", str(seed),
               "--board", arguments.board, "--json", "--draft", *draft, *arguments.options]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"drafts.py: {result.stderr.strip()}")
    return json.loads(result.stdout)


def main():
    options = sys.argv[1:]
    others = []
    if "--" in options:
        options, others = options[: options.index("--")], options[options.index("--") + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("thimble")
    parser.add_argument("model")
    parser.add_argument("--texts", type=int, default=8, help="of each kind (default: 8)")
    parser.add_argument("--tokens", type=int, default=120, help="of each text at most (default: 120)")
    parser.add_argument("--board", default="esp32-cam")
    parser.add_argument("--draft-model", help="a smaller model with the same vocabulary")
    parser.add_argument("--only", default="", help="kinds of drafts that begin so, with commas between: 'none,a model'")
    arguments = parser.parse_args(options)
    arguments.options = others
    drafts = dict(DRAFTS)
    if arguments.draft_model:
        for most in ("1", "3", "6"):
            drafts[f"a model, {most}"] = [arguments.draft_model, "--draft-max", most]

    drafts = {name: draft for name, draft in drafts.items() if name.startswith(tuple(arguments.only.split(",")))}

    print("| text | drafts | tokens a pass | modelled tokens a second | of those without |")
    print("|---|---|---|---|---|")
    for text, prompt in TEXTS.items():
        ids = None
        for name, draft in drafts.items():
            total = Total()
            runs = [simulate(arguments, prompt, seed, draft) for seed in range(1, arguments.texts + 1)]
            for run in runs:
                total.add(run)
            if ids is None:
                ids = [run["ids"] for run in runs]
                without = total.seconds["typical"]
            if ids != [run["ids"] for run in runs]:
                sys.exit(f"drafts.py: with {name} {text} is another text")
            print(f"| {text} | {name} | {total.tokens_a_pass():.2f} | {total.speed()} "
                  f"| {without / total.seconds['typical']:.2f} |", flush=True)


if __name__ == "__main__":
    main()

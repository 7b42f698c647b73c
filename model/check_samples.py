"""Check sampled stories against the grammar that wrote the training corpus.

    python3 check_samples.py samples.jsonl
    python3 check_samples.py --self-test

Each line is {"seed": 1, "text": "...", "ids": [...], "stop": "eos"}; "ids" and
"stop" may be missing.  Needs nothing but Python's standard library.  Exits 1
when the bar is missed, 2 when the file is no set of samples.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Iterable

from stories import (HERO, RUN, TRAIN_SEED, TRAIN_STORIES, Language, repeats_run,
                     units)

LEAST_SOUND = 0.90
MOST_VERBATIM = 0.05
SAMPLES = 200
SELF_TEST_SEED = 3


@dataclass
class Sample:
    seed: int
    text: str
    ids: list[int] = field(default_factory=list)
    stop: str = "eos"


@dataclass
class Verdict:
    """What is wrong with one sample; nothing is, if `fault` is empty."""

    fault: str
    where: str
    repeats: bool
    verbatim: bool


def judge(language: Language, sample: Sample, trained_on: set[str]) -> Verdict:
    fault, where = "", ""
    if sample.stop != "eos":
        fault, where = "no end", sample.text[-70:]
    elif language.probability(sample.text) == 0.0:
        kept = language.is_grammatical(sample.text)
        fault = "names or things change" if kept else "not grammatical"
        where = language.failure(sample.text)
    repeats = (repeats_run(units(sample.text))
               or (bool(sample.ids) and repeats_run(sample.ids)))
    return Verdict(fault, where, repeats, sample.text in trained_on)


def found_in_training(language: Language, texts: Iterable[str]) -> set[str]:
    """Those of the texts that the training corpus, written again, holds."""
    wanted = set(texts)
    return wanted.intersection(language.corpus(TRAIN_SEED, TRAIN_STORIES))


def judge_all(language: Language, samples: list[Sample]) -> list[Verdict]:
    trained_on = found_in_training(language, (s.text for s in samples))
    return [judge(language, sample, trained_on) for sample in samples]


def misses(verdicts: list[Verdict]) -> list[str]:
    """The parts of the bar that these samples miss."""
    count = len(verdicts)
    missed = []
    if sum(not v.fault for v in verdicts) < LEAST_SOUND * count:
        missed.append(f"fewer than {LEAST_SOUND:.0%} are sound stories")
    if any(v.repeats for v in verdicts):
        missed.append(f"a story repeats a run of {RUN} tokens")
    if sum(v.verbatim for v in verdicts) >= MOST_VERBATIM * count:
        missed.append(f"{MOST_VERBATIM:.0%} or more stand in the training text")
    return missed


def summary(verdicts: list[Verdict]) -> str:
    faults = Counter(v.fault for v in verdicts if v.fault)
    sound = sum(not v.fault for v in verdicts)
    lines = [f"{len(verdicts)} samples",
             f"sound stories (grammar, names and things kept): {sound} "
             f"({sound / len(verdicts):.1%})"]
    lines += [f"  {fault}: {count}" for fault, count in sorted(faults.items())]
    lines += [f"repeat a run of {RUN} tokens: {sum(v.repeats for v in verdicts)}",
              f"verbatim in the {TRAIN_STORIES} training stories: "
              f"{sum(v.verbatim for v in verdicts)}"]
    return "\n".join(lines)


def read(path: Path) -> list[Sample]:
    samples = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip():
            record = json.loads(line)
            samples.append(Sample(int(record["seed"]), record["text"].removeprefix(" "),
                                  record.get("ids", []), record.get("stop", "eos")))
    return samples


# The self-test: sound stories must pass, and each way to spoil one must fail.

def hero_of(text: str) -> dict[str, str]:
    words = units(text)
    return next(row for row in HERO if row["N"] in words)


def swap_name(text: str) -> str:
    name = hero_of(text)["N"]
    other = next(row["N"] for row in HERO if row["N"] != name and row["N"] not in text)
    head, tail = text.rsplit(name, 1)
    return head + other + tail


def swap_pronoun(text: str) -> str:
    swaps = {"he": "she", "she": "he", "He": "She", "She": "He",
             "his": "her", "her": "his", "him": "her"}
    words = text.split(" ")
    places = [i for i, word in enumerate(words) if word in swaps]
    if not places:
        return text
    at = places[-1]
    return " ".join(words[:at] + [swaps[words[at]]] + words[at + 1:])


def swap_words(text: str) -> str:
    words = text.split(" ")
    middle = len(words) // 2
    at = next(i for i in range(middle, len(words) - 1) if words[i] != words[i + 1])
    return " ".join(words[:at] + [words[at + 1], words[at]] + words[at + 2:])


def drop_object(text: str) -> str:
    """Leave out the last word of a sentence in the middle of the story."""
    at = text.index(".", len(text) // 2)
    return text[:text.rindex(" ", 0, at)] + text[at:]


def drop_opening(text: str) -> str:
    return text[text.index(". ") + 2:]


def repeat_block(text: str) -> str:
    """Say half of the story twice."""
    cut = text.index(". ", len(text) // 2) + 1
    return text[:cut] + " " + text[:cut] + text[cut:]


def cut_ending(text: str) -> str:
    return text[:text.rindex(" ")] + "."


SPOILERS: list[Callable[[str], str]] = [
    swap_name, swap_pronoun, swap_words, drop_object, drop_opening, repeat_block,
    cut_ending]


def self_test(language: Language, count: int = 60) -> list[str]:
    """What the checker got wrong; nothing, if it can be trusted."""
    stories = list(language.corpus(SELF_TEST_SEED, count))
    wrong = [f"sound story refused: {story}" for story in stories
             if judge(language, Sample(0, story), set()).fault]
    for spoil in SPOILERS:
        spoiled = [text for text in map(spoil, stories) if text not in stories]
        if len(spoiled) < count // 2:
            wrong.append(f"{spoil.__name__} changes hardly any story")
        wrong += [f"{spoil.__name__} let through: {text}" for text in spoiled
                  if not judge(language, Sample(0, text), set()).fault]
    swapped = judge(language, Sample(0, swap_name(stories[0])), set())
    if swapped.fault != "names or things change":
        wrong.append(f"swapped name called: {swapped.fault}")
    sound = Verdict("", "", False, False)
    for verdict in (Verdict("not grammatical", "", False, False),
                    judge(language, Sample(0, stories[0], stop="length"), set()),
                    judge(language, Sample(0, stories[0]), {stories[0]}),
                    judge(language, Sample(0, repeat_block(stories[0])), set()),
                    judge(language, Sample(0, stories[0], ids=[*range(RUN)] * 2), set())):
        if not misses([sound] * 8 + [verdict] * 2):
            wrong.append(f"the bar lets through {verdict}")
    if misses([sound] * 10):
        wrong.append("the bar refuses sound stories")
    known = random.Random(SELF_TEST_SEED).choice(list(language.corpus(TRAIN_SEED, 500)))
    if found_in_training(language, [known]) != {known}:
        wrong.append("a training story is not found in the training corpus")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("samples", type=Path, nargs="?", help="one JSON a line")
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("--count", type=int, default=SAMPLES,
                        help="how many samples, of different seeds, there must be")
    args = parser.parse_args()
    language = Language()
    if args.self_test:
        wrong = self_test(language)
        print("\n".join(wrong) or "self-test passed")
        return 1 if wrong else 0
    if args.samples is None:
        parser.error("give a file of samples, or --self-test")
    samples = read(args.samples)
    if len({sample.seed for sample in samples}) != args.count or len(samples) != args.count:
        print(f"expected {args.count} samples of different seeds, got {len(samples)}")
        return 2
    verdicts = judge_all(language, samples)
    for sample, verdict in zip(samples, verdicts):
        if verdict.fault:
            print(f"seed {sample.seed}: {verdict.fault}: {verdict.where}")
    print(summary(verdicts))
    missed = misses(verdicts)
    print("\n".join(f"MISSED: {miss}" for miss in missed) or "the bar is met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

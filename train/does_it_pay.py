"""The table "Does it pay?": students of the bundled model, three sizes, three teachers, two seeds.

    python does_it_pay.py --work work

Resumable: Control-C stops it, the same command goes on. Everything that decides the figures is fixed here.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import signal
import subprocess
import sys
from pathlib import Path

import torch

from learning import held_out_loss
from llama import read_model
from refusal import Refusal, run
from sampling import draw
from text import EOS, encode, processor_of, read_tokenizer

HERE = Path(__file__).resolve().parent
MODEL = HERE.parent / "model"
sys.path.append(str(MODEL))
from stories import HELD_OUT_SEED, TRAIN_SEED, Language  # noqa: E402

# Parameters in millions: hidden size, feed-forward size. One layer, two heads over one, tied.
SHAPES = {"0.3": (96, 192), "0.5": (128, 448), "0.8": (160, 768)}
TEACHERS = ("none", "bundled", "exact")
SEEDS = (0, 1)
STEPS, BATCH = 600, 16
# Of these, train and distill hold one in twenty out: 9600 are trained on, each once.
STORIES = 10_106
ALPHA, TEMPERATURE = {"bundled": 0.9, "exact": 1.0}, 1.0
HELD_OUT_STORIES = 2000
SAMPLES, SAMPLE_TEMPERATURE = 200, 0.8


interrupted = False


def on_interrupt(*_: object) -> None:
    """Lets what runs stop by itself; it was interrupted, too."""
    global interrupted
    interrupted = True


def call(*command: object) -> float:
    """Runs a program of this folder or of model/; its CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = subprocess.run([sys.executable, *map(str, command)]).returncode
    if code:
        raise Refusal(f"{command[0]} ended with exit code {code}; the same command goes on from there")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(folder: Path) -> dict:
    """The figures of one student."""
    language = Language()
    model, processor = read_model(folder), processor_of(read_tokenizer(folder), folder)
    held_out = encode(processor, list(language.corpus(HELD_OUT_SEED, HELD_OUT_STORIES)), 512)
    texts = [processor.decode(row[1:]) if row[-1] == EOS else ""
             for row in draw(model, list(range(1, SAMPLES + 1)), SAMPLE_TEMPERATURE)]
    return {"parameters": model.shape.parameters(), "held_out": held_out_loss(model, held_out),
            "grammatical": sum(map(language.is_grammatical, texts)),
            "sound": sum(language.probability(text) > 0 for text in texts)}


def train(work: Path, name: str, shape: str, teacher: str, seed: int) -> float:
    hidden, feed_forward = SHAPES[shape]
    options = [work / "stories.txt", "--out", work / name, "--hidden", hidden, "--feed-forward", feed_forward,
               "--steps", STEPS, "--batch", BATCH, "--seed", seed, "--threads", 1, "--report", STEPS]
    if teacher == "none":
        return call(HERE / "train.py", *options, "--tokenizer", MODEL / "thimble-stories")
    options += ["--alpha", ALPHA[teacher], "--temperature", TEMPERATURE, "--targets", work / f"targets-{teacher}"]
    return call(HERE / "distill.py", *options, "--teacher", MODEL / "thimble-stories",
                *["--given"] * (teacher == "exact"))


def table(results: dict[str, dict]) -> str:
    lines = ["| parameters | teacher | seed | held-out loss | above the entropy | grammatical | of these, names and"
             " things kept | CPU minutes |", "|---|---|---|---|---|---|---|---|"]
    for name, r in results.items():
        shape, teacher, seed = name.split("-")
        lines.append(f"| {r['parameters']} | {teacher} | {seed} | {r['held_out']:.4f} | "
                     f"{r['held_out'] - r['entropy']:.4f} | {r['grammatical'] / SAMPLES:.1%} | "
                     f"{r['sound'] / max(1, r['grammatical']):.1%} | {r['seconds'] / 60:.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="a folder for all that is made")
    work = parser.parse_args().work
    work.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGINT, on_interrupt)
    torch.set_num_threads(1)
    text = work / "stories.txt"
    if not text.exists():
        text.write_text("\n\n".join(Language().corpus(TRAIN_SEED, STORIES)) + "\n", encoding="utf-8")
    seconds = call(MODEL / "exact.py", text, "--out", work / "targets-exact")
    print(f"exact targets: {seconds:.0f} CPU seconds", flush=True)
    results_at = work / "results.json"
    results = json.loads(results_at.read_text()) if results_at.exists() else {}
    for seed in SEEDS:
        for shape in SHAPES:
            for teacher in TEACHERS:
                name = f"{shape}-{teacher}-{seed}"
                if name in results:
                    continue
                if interrupted:
                    raise Refusal("stopped; the same command goes on from there")
                spent = 0.0 if (work / name).exists() else train(work, name, shape, teacher, seed)
                results[name] = measure(work / name) | {"seconds": spent}
                print(name, results[name], flush=True)
                results_at.write_text(json.dumps(results, indent=1))
    entropy = entropy_of_held_out()
    for result in results.values():
        result["entropy"] = entropy
    print(table(dict(sorted(results.items()))))


def entropy_of_held_out() -> float:
    """The least loss that any model can reach on the held-out stories."""
    language = Language()
    processor = processor_of(read_tokenizer(MODEL / "thimble-stories"), MODEL)
    stories = list(language.corpus(HELD_OUT_SEED, HELD_OUT_STORIES))
    tokens = sum(len(row) - 1 for row in encode(processor, stories, 512))
    return -sum(math.log(language.probability(story)) for story in stories) / tokens


if __name__ == "__main__":
    run(main)

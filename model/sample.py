"""Draw stories from the published folder and measure it.

    python sample.py --model thimble-stories --temperature 0.8 --out samples.jsonl

The weights are read as published (float16) and used in float32.  Sample number
`seed` takes its uniform numbers from random.Random(seed), one a token, over
the full softmax.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from pathlib import Path

import sentencepiece as spm
import torch
from safetensors.torch import load_file

from model import CONFIG, Past, StoryModel
from stories import HELD_OUT_SEED, Language
from train import BOS, EOS, HELD_OUT_STORIES, encode, held_out_loss


def load(folder: Path) -> tuple[StoryModel, spm.SentencePieceProcessor]:
    model = StoryModel()
    model.load_state_dict({name: weight.float() for name, weight
                           in load_file(folder / "model.safetensors").items()})
    return model.eval(), spm.SentencePieceProcessor(
        model_file=str(folder / "tokenizer.model"))


@torch.no_grad()
def draw(model: StoryModel, seeds: list[int], temperature: float) -> list[list[int]]:
    """One token sequence a seed, BOS first, up to EOS or the end of the context."""
    sources = [random.Random(seed) for seed in seeds]
    rows = torch.full((len(seeds), 1), BOS)
    ended = [False] * len(seeds)
    past: Past = []
    while not all(ended) and rows.shape[1] < CONFIG["max_position_embeddings"]:
        logits = model(rows[:, -1:], past)[:, 0]
        shares = torch.softmax(logits.double() / temperature, dim=-1)
        marks = torch.tensor([[source.random()] for source in sources],
                             dtype=torch.float64)
        chosen = torch.searchsorted(shares.cumsum(-1), marks, right=True)
        chosen.clamp_(max=CONFIG["vocab_size"] - 1)
        rows = torch.cat([rows, chosen], dim=1)
        ended = [done or token == EOS
                 for done, token in zip(ended, chosen[:, 0].tolist())]
    return [row[:row.index(EOS) + 1] if EOS in row else row for row in rows.tolist()]


def report_losses(model: StoryModel, processor: spm.SentencePieceProcessor) -> None:
    """The held-out loss, beside the least that any model could reach."""
    language = Language()
    stories = list(language.corpus(HELD_OUT_SEED, HELD_OUT_STORIES))
    rows = encode(processor, stories)
    least = -sum(math.log(language.probability(story)) for story in stories)
    print(f"held-out loss {held_out_loss(model, rows):.4f} nats a token, "
          f"entropy of the generator {least / sum(len(r) - 1 for r in rows):.4f}")


def compare_with_transformers(folder: Path, model: StoryModel,
                              processor: spm.SentencePieceProcessor) -> None:
    """Tokens and float32 logits of Hugging Face's own code beside ours."""
    from transformers import LlamaForCausalLM, LlamaTokenizer
    tokenizer = LlamaTokenizer.from_pretrained(folder)
    theirs = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    stories = list(Language().corpus(HELD_OUT_SEED, 100))
    same, gap = 0, 0.0
    for story, row in zip(stories, encode(processor, stories)):
        same += tokenizer(story)["input_ids"] == row[:-1]
        ids = torch.tensor([row])
        with torch.no_grad():
            gap = max(gap, float((theirs(ids).logits - model(ids)).abs().max()))
    print(f"transformers: {same} of {len(stories)} stories have the same tokens, "
          f"logits differ by at most {gap:.2g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("thimble-stories"))
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--first", type=int, default=1, help="first seed")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--out", type=Path, help="where the stories go, one JSON a line")
    parser.add_argument("--losses", action="store_true", help="also measure the loss")
    parser.add_argument("--transformers", action="store_true",
                        help="also compare with Hugging Face transformers")
    args = parser.parse_args()
    model, processor = load(args.model)
    if args.losses:
        report_losses(model, processor)
    if args.transformers:
        compare_with_transformers(args.model, model, processor)
    if args.out:
        seeds = list(range(args.first, args.first + args.count))
        with args.out.open("w", encoding="utf-8") as lines:
            for seed, ids in zip(seeds, draw(model, seeds, args.temperature)):
                stop = "eos" if ids[-1] == EOS else "length"
                record = {"seed": seed, "text": processor.decode(ids[1:]),
                          "ids": ids, "stop": stop}
                lines.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()

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
import sys
from pathlib import Path

import sentencepiece as spm
import torch

from stories import HELD_OUT_SEED, Language

sys.path.append(str(Path(__file__).resolve().parent.parent / "train"))
from learning import held_out_loss  # noqa: E402
from llama import Llama, read_model  # noqa: E402
from refusal import run  # noqa: E402
from sampling import draw  # noqa: E402
from text import EOS, encode, processor_of, read_tokenizer  # noqa: E402

HELD_OUT_STORIES = 2_000


def report_losses(model: Llama, processor: spm.SentencePieceProcessor) -> None:
    """The held-out loss, beside the least that any model could reach."""
    language = Language()
    stories = list(language.corpus(HELD_OUT_SEED, HELD_OUT_STORIES))
    rows = encode(processor, stories, model.shape.max_position_embeddings)
    least = -sum(math.log(language.probability(story)) for story in stories)
    print(f"held-out loss {held_out_loss(model, rows):.4f} nats a token, "
          f"entropy of the generator {least / sum(len(r) - 1 for r in rows):.4f}")


def compare_with_transformers(folder: Path, model: Llama,
                              processor: spm.SentencePieceProcessor) -> None:
    """Tokens and float32 logits of Hugging Face's own code beside ours."""
    from transformers import LlamaForCausalLM, LlamaTokenizer
    tokenizer = LlamaTokenizer.from_pretrained(folder)
    theirs = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    stories = list(Language().corpus(HELD_OUT_SEED, 100))
    same, gap = 0, 0.0
    for story, row in zip(stories, encode(processor, stories, model.shape.max_position_embeddings)):
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
    model = read_model(args.model)
    processor = processor_of(read_tokenizer(args.model), args.model)
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
    run(main)

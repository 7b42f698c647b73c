"""Make the demo model from nothing: tokenizer, training, published folder.

    python train.py --out thimble-stories

Every seed is fixed; see README.md for what a run takes and gives. Resumable, as all that ../train makes.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from stories import (HELD_OUT_SEED, TRAIN_SEED, TRAIN_STORIES, Language,
                     repeats_run, units)

sys.path.append(str(Path(__file__).resolve().parent.parent / "train"))
from learning import Pass, of_text  # noqa: E402
from llama import Shape  # noqa: E402
from options import make, workshop_of  # noqa: E402
from refusal import Refusal, run  # noqa: E402
from text import TOKENIZER_DOCUMENTS, encode, processor_of, train_tokenizer  # noqa: E402

SHAPE = Shape(vocab_size=2240, hidden_size=192, intermediate_size=1024, num_hidden_layers=1,
              num_attention_heads=2, num_key_value_heads=1, head_dim=96, max_position_embeddings=512)
REPORT_STORIES = 200
# Two passes over different stories: this share of them comes first, and the
# second pass starts again at this part of the first one's learning rates.
FIRST_PASS = 24 / 44
SECOND_SCALE = 0.5


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("thimble-stories"))
    parser.add_argument("--stories", type=int, default=TRAIN_STORIES,
                        help="how many stories of the corpus to train on")
    parser.add_argument("--batch", type=int, default=16, help="stories in a batch")
    parser.add_argument("--muon-rate", type=float, default=2e-3)
    parser.add_argument("--adam-rate", type=float, default=5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--report", type=int, default=250)
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    language = Language()
    stories = list(language.corpus(TRAIN_SEED, args.stories))
    if any(repeats_run(units(story)) for story in stories[:TOKENIZER_DOCUMENTS]):
        raise Refusal("the generator repeats itself within a story")
    tokenizer = train_tokenizer(stories[:TOKENIZER_DOCUMENTS], SHAPE.vocab_size)
    processor = processor_of(tokenizer, "the new tokenizer")
    rows = encode(processor, stories, SHAPE.max_position_embeddings)
    held_out = encode(processor, list(language.corpus(HELD_OUT_SEED, REPORT_STORIES)),
                      SHAPE.max_position_embeddings)
    first = round(len(rows) * FIRST_PASS)
    passes = [Pass(start, end, math.ceil((end - start) / args.batch), scale)
              for start, end, scale in ((0, first, 1.0), (first, len(rows), SECOND_SCALE))]
    return make(args, SHAPE, workshop_of(args, rows), tokenizer, rows, held_out, of_text, passes)


if __name__ == "__main__":
    run(main)

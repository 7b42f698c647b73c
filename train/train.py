"""Make a small Llama from text files: tokenizer, training, folder.

    python train.py --out my-model stories.txt
"""

from __future__ import annotations

import argparse
from pathlib import Path

from learning import of_text
from options import add_options, make, positive, shape_of, workshop_of
from refusal import run
from text import (TOKENIZER_DOCUMENTS, encode, processor_of, read_documents, read_tokenizer, split,
                  train_tokenizer)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--vocabulary", type=positive, default=2048,
                        help="how many tokens the tokenizer shall have; 260 at least")
    parser.add_argument("--tokenizer", type=Path, help="take the tokenizer of this folder instead of making one")
    args = parser.parse_args()
    documents, held_out = split(read_documents(args.text))
    tokenizer = (read_tokenizer(args.tokenizer) if args.tokenizer
                 else train_tokenizer(documents[:TOKENIZER_DOCUMENTS], args.vocabulary))
    processor = processor_of(tokenizer, args.tokenizer)
    rows, held_out = (encode(processor, part, args.context) for part in (documents, held_out))
    shape = shape_of(args, processor.vocab_size())
    return make(args, shape, workshop_of(args, rows), tokenizer, rows, held_out, of_text)


if __name__ == "__main__":
    run(main)

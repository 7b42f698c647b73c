"""What train.py and distill.py ask alike, and what they do alike with it."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch

from learning import LossOf, Pass, Recipe, UsedVocabulary, Workshop, held_out_loss, learn
from llama import Llama, Shape
from refusal import STOPPED
from targets import digest_of


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a number from 1")
    return value


def number_from_0(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0")
    return value


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", type=Path, nargs="+", help="text files in UTF-8, a blank line between documents")
    parser.add_argument("--out", type=Path, required=True, help="the folder to make")
    shape = parser.add_argument_group("shape")
    shape.add_argument("--hidden", type=positive, default=128)
    shape.add_argument("--feed-forward", type=positive, default=448)
    shape.add_argument("--layers", type=positive, default=1)
    shape.add_argument("--heads", type=positive, default=2)
    shape.add_argument("--kv-heads", type=positive, default=1)
    shape.add_argument("--head-dim", type=positive, help="hidden / heads, if not given")
    shape.add_argument("--context", type=positive, default=512, help="tokens")
    shape.add_argument("--untied", action="store_true", help="an output layer of its own, not the embedding's")
    recipe = parser.add_argument_group("training")
    recipe.add_argument("--steps", type=positive, default=1500)
    recipe.add_argument("--batch", type=positive, default=16, help="documents in a step")
    recipe.add_argument("--muon-rate", type=number_from_0, default=2e-3, help="learning rate of the blocks' matrices")
    recipe.add_argument("--adam-rate", type=number_from_0, default=5e-3, help="learning rate of all else")
    recipe.add_argument("--seed", type=int, default=0, help="of the weights and of the order of documents")
    recipe.add_argument("--threads", type=positive, default=2,
                        help="another number adds in another order: other bits, as good")
    recipe.add_argument("--report", type=positive, default=250, help="measure the held-out loss each so many steps")


def shape_of(args: argparse.Namespace, vocab_size: int) -> Shape:
    return Shape(vocab_size, args.hidden, args.feed_forward, args.layers, args.heads, args.kv_heads,
                 args.head_dim or args.hidden // args.heads, args.context, not args.untied).checked()


def workshop_of(args: argparse.Namespace, rows: list[list[int]]) -> Workshop:
    options = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()
               if name not in ("text", "out", "report")}
    return Workshop(args.out, options | {"text": digest_of(rows, "")})


def make(args: argparse.Namespace, shape: Shape, workshop: Workshop, tokenizer: bytes, rows: list[list[int]],
         held_out: list[list[int]], loss_of: LossOf, passes: list[Pass] | None = None) -> int:
    """Trains a model of this shape and writes its folder; the exit code. Without `passes` there is one, of
    args.steps on all rows."""
    vocabulary = UsedVocabulary(rows + held_out, shape.vocab_size)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    model = Llama(vocabulary.shrink(shape))
    loss, beside = loss_of(vocabulary, model)
    rows, held_out = vocabulary.renumber(rows), vocabulary.renumber(held_out)
    print(f"{shape.parameters()} parameters, {len(rows)} rows to train on, {len(held_out)} held out,"
          f" {sum(map(len, rows))} tokens", flush=True)
    recipe = Recipe(passes or [Pass(0, len(rows), args.steps)], args.batch, args.muon_rate, args.adam_rate, args.seed)
    if not learn(model, rows, recipe, loss, lambda now: held_out_loss(now, held_out, vocabulary.logits), workshop,
                 beside, args.report):
        return STOPPED
    workshop.publish(vocabulary.expand(model), tokenizer)
    print(f"{args.out} is ready: thimble convert {args.out} -o {args.out.name}.gguf")
    return 0

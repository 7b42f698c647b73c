"""Make a smaller Llama from a larger one: the student learns what the teacher finds likely, on a text.

    python distill.py --teacher my-model --out my-student stories.txt

The loss of a position is (1 - alpha) times the text's own, and alpha times T * T times the cross entropy from
the teacher's distribution to the student's, both softened by the temperature T (Hinton, Vinyals, Dean 2015,
arXiv:1503.02531). --hidden-weight adds the mean square distance between the states that the two heads read,
the student's mapped by a matrix that is learned and then dropped.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Callable

import torch

from batching import IGNORED, batch_of
from learning import text_loss
from llama import Llama, read_model
from options import add_options, make, number_from_0, positive, shape_of, workshop_of
from refusal import Refusal, run
from targets import Row, Targets, write_targets
from text import encode, processor_of, read_documents, read_tokenizer, split

# What a teacher finds less likely than this is not kept.
LEAST_SHARE = 1e-4


def teacher_rows(teacher: Llama, temperature: float, top: int) -> Callable[[list[list[int]]], list[Row]]:
    """The teacher's softened distribution: the `top` likeliest tokens of each position, their shares of 1."""
    @torch.no_grad()
    def rows_of(rows: list[list[int]]) -> list[Row]:
        answers: list[Row] = []
        for start in range(0, len(rows), 16):
            part = rows[start:start + 16]
            logits = teacher(batch_of(part)[0])
            shares = torch.softmax(logits / temperature, dim=-1)
            likely, tokens = shares.topk(min(top, shares.shape[-1]), dim=-1)
            likely = likely * (likely >= LEAST_SHARE)
            likely[..., 0].clamp_(min=LEAST_SHARE)
            counts = (likely > 0).sum(-1).tolist()
            likely = (likely / likely.sum(-1, keepdim=True)).tolist()
            tokens = tokens.tolist()
            answers += [[(tokens[i][j][:counts[i][j]], likely[i][j][:counts[i][j]]) for j in range(len(row) - 1)]
                        for i, row in enumerate(part)]
        return answers
    return rows_of


def softened_loss(logits: torch.Tensor, temperature: float, places: torch.Tensor, tokens: torch.Tensor,
                  shares: torch.Tensor) -> torch.Tensor:
    """T * T times the cross entropy from sparse targets, summed over positions."""
    logs = torch.log_softmax(logits.flatten(0, 1) / temperature, dim=-1)
    return -(logs[places, tokens] * shares).sum() * temperature ** 2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--teacher", type=Path, required=True,
                        help="a Hugging Face folder; the student has its tokenizer")
    parser.add_argument("--alpha", type=number_from_0, default=0.9, help="the teacher's part of the loss, 0 to 1")
    parser.add_argument("--temperature", type=number_from_0, default=1.0, help="above 1: softer")
    parser.add_argument("--top", type=positive, default=64, help="how many tokens of each position to keep")
    parser.add_argument("--targets", type=Path,
                        help="where what the teacher says is kept, to be used again; or what another teacher said")
    parser.add_argument("--given", action="store_true", help="the targets are there already, of any origin")
    parser.add_argument("--hidden-weight", type=number_from_0, default=0.0)
    args = parser.parse_args()
    if args.alpha > 1:
        raise Refusal(f"--alpha is {args.alpha}; it must lie between 0 and 1")
    if args.temperature == 0:
        raise Refusal("--temperature is 0; it must be larger")
    if args.given and args.targets is None:
        raise Refusal("--given needs --targets, the folder that they are in")
    torch.set_num_threads(args.threads)
    documents, held_out = split(read_documents(args.text))
    tokenizer = read_tokenizer(args.teacher)
    processor = processor_of(tokenizer, args.teacher / "tokenizer.model")
    rows, held_out = (encode(processor, part, args.context) for part in (documents, held_out))
    teacher = read_model(args.teacher)
    shape = shape_of(args, teacher.shape.vocab_size)
    if processor.vocab_size() > shape.vocab_size:
        raise Refusal(f"{args.teacher} has {shape.vocab_size} rows for a tokenizer of {processor.vocab_size()} tokens")
    if args.context > teacher.shape.max_position_embeddings:
        raise Refusal(f"the teacher's context is {teacher.shape.max_position_embeddings} tokens; --context"
                      f" {args.context} is more")
    workshop = workshop_of(args, rows)
    folder = args.targets or workshop.folder / "targets"
    if not args.given:
        weights = hashlib.sha256((args.teacher / "model.safetensors").read_bytes()).hexdigest()
        write_targets(folder, rows, f"{weights} {args.temperature} {args.top}",
                      teacher_rows(teacher, args.temperature, args.top), "rows seen by the teacher")
    targets = Targets(folder, rows)

    def loss_of(vocabulary, student):
        matched = [torch.nn.Parameter(torch.randn(teacher.shape.hidden_size, shape.hidden_size)
                                      / shape.hidden_size ** 0.5)] if args.hidden_weight else []

        def loss(model, numbers, inputs, follow):
            hidden = model.hidden(inputs)
            logits = vocabulary.logits(model.head(hidden))
            places, tokens, shares = map(torch.from_numpy, targets.of(numbers, inputs.shape[1]))
            value = args.alpha * softened_loss(logits, args.temperature, places, vocabulary.row_of[tokens.long()],
                                               shares)
            if args.alpha < 1:
                value = value + (1 - args.alpha) * text_loss(logits, follow)
            if matched:
                with torch.no_grad():
                    # The teacher reads the full vocabulary's numbers.
                    seen = teacher.hidden(torch.tensor(vocabulary.used)[inputs])
                gap = ((hidden @ matched[0].T - seen) ** 2).mean(-1)
                value = value + args.hidden_weight * gap[follow != IGNORED].sum()
            return value
        return loss, matched

    return make(args, shape, workshop, tokenizer, rows, held_out, loss_of)


if __name__ == "__main__":
    run(main)

"""Make the demo model from nothing: tokenizer, training, published folder.

    python train.py --out thimble-stories

Every seed is fixed; see README.md for what a run takes and gives.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import random
import time
from pathlib import Path
from typing import Iterator

import sentencepiece as spm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from model import CONFIG, StoryModel
from stories import (HELD_OUT_SEED, TRAIN_SEED, TRAIN_STORIES, Language,
                     repeats_run, units)

BOS, EOS, IGNORED = CONFIG["bos_token_id"], CONFIG["eos_token_id"], -100
TOKENIZER_STORIES = 20_000
HELD_OUT_STORIES = 2_000
# Two passes over different stories: this share of them comes first, and the
# second pass starts again at this part of the first one's learning rates.
FIRST_PASS = 24 / 44
SECOND_SCALE = 0.5


def train_tokenizer(stories: list[str], folder: Path) -> spm.SentencePieceProcessor:
    written = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(stories), model_writer=written,
        model_type="bpe", vocab_size=CONFIG["vocab_size"], byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False,
        character_coverage=1.0, unk_id=0, bos_id=BOS, eos_id=EOS, pad_id=-1,
        num_threads=1, minloglevel=1)
    (folder / "tokenizer.model").write_bytes(written.getvalue())
    return spm.SentencePieceProcessor(model_proto=written.getvalue())


def encode(processor: spm.SentencePieceProcessor, stories: list[str]) -> list[list[int]]:
    return [[BOS, *ids, EOS] for ids in processor.encode(stories)]


class UsedVocabulary:
    """The tokens that the corpus holds, numbered from 0, to train on less.

    About half of the vocabulary (bytes, parts of words) never occurs.  All those
    tokens share one row of the embedding and one of the output layer, the last
    of the small model; `rest_bias` makes its softmax equal to the full one.
    """

    def __init__(self, rows: list[list[int]], vocab_size: int) -> None:
        self.used = sorted(set().union(*rows))
        self.number = {token: i for i, token in enumerate(self.used)}
        self.size = len(self.used) + 1
        self.rest_bias = math.log(vocab_size - len(self.used))
        self.row_of = [self.number.get(token, self.size - 1)
                       for token in range(vocab_size)]

    def renumber(self, rows: list[list[int]]) -> list[list[int]]:
        return [[self.number[token] for token in row] for row in rows]

    def expand(self, small: StoryModel) -> StoryModel:
        """The model over the full vocabulary."""
        state = small.state_dict()
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            state[name] = state[name][self.row_of]
        full = StoryModel(len(self.row_of))
        full.load_state_dict(state)
        return full


def batch_of(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Inputs and targets, padded on the right; padding is no target."""
    length = max(map(len, rows)) - 1
    inputs = torch.full((len(rows), length), EOS)
    targets = torch.full((len(rows), length), IGNORED)
    for i, row in enumerate(rows):
        inputs[i, :len(row) - 1] = torch.tensor(row[:-1])
        targets[i, :len(row) - 1] = torch.tensor(row[1:])
    return inputs, targets


def batches(rows: list[list[int]], size: int, rng: random.Random) -> Iterator[list[list[int]]]:
    """Shuffled batches of stories of about one length, to pad little."""
    order = rows[:]
    rng.shuffle(order)
    window = 32 * size
    for start in range(0, len(order), window):
        near = sorted(order[start:start + window], key=len)
        groups = [near[i:i + size] for i in range(0, len(near), size)]
        rng.shuffle(groups)
        yield from groups


def loss_sum(model: StoryModel, rows: list[list[int]],
             rest_bias: float = 0.0) -> tuple[Tensor, int]:
    inputs, targets = batch_of(rows)
    logits = model(inputs)
    logits[..., -1] += rest_bias
    total = F.cross_entropy(logits.flatten(0, 1), targets.flatten(),
                            ignore_index=IGNORED, reduction="sum")
    return total, sum(len(row) - 1 for row in rows)


@torch.no_grad()
def held_out_loss(model: StoryModel, rows: list[list[int]],
                  rest_bias: float = 0.0) -> float:
    """Mean nats per predicted token, the end of the story included."""
    parts = [loss_sum(model, rows[i:i + 100], rest_bias)
             for i in range(0, len(rows), 100)]
    return float(sum(t for t, _ in parts)) / sum(n for _, n in parts)


def orthogonal(matrix: Tensor) -> Tensor:
    """Newton-Schulz steps towards the nearest matrix with equal singular values."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if tall else x


class Optimizer:
    """Muon for the block's matrices, AdamW for embeddings, output and gains."""

    def __init__(self, model: StoryModel, muon_lr: float, adam_lr: float) -> None:
        self.matrices = [p for name, p in model.named_parameters()
                         if p.dim() == 2 and ".layers." in name]
        chosen = set(map(id, self.matrices))
        self.adam = torch.optim.AdamW(
            [p for p in model.parameters() if id(p) not in chosen], lr=adam_lr,
            betas=(0.9, 0.98), eps=1e-10, weight_decay=0.0, fused=True)
        self.momentum = [torch.zeros_like(p) for p in self.matrices]
        self.muon_lr, self.adam_lr = muon_lr, adam_lr

    @torch.no_grad()
    def step(self, factor: float) -> None:
        self.adam.param_groups[0]["lr"] = self.adam_lr * factor
        self.adam.step()
        for weight, average in zip(self.matrices, self.momentum):
            average.lerp_(weight.grad, 0.05)
            update = orthogonal(weight.grad.lerp(average, 0.95))
            weight.sub_(update, alpha=self.muon_lr * factor * max(weight.shape) ** 0.5)


def rate_factor(step: int, steps: int) -> float:
    """Warm up over 100 steps, hold, then fall to zero over the last 60 %."""
    return min(1.0, (step + 1) / 100, (steps - step) / (0.6 * steps))


def train(model: StoryModel, rows: list[list[int]], held_out: list[list[int]],
          rest_bias: float, scale: float, args: argparse.Namespace) -> None:
    """One pass over the rows, the learning rates times `scale`; ends in float16."""
    optimizer = Optimizer(model, args.muon_lr * scale, args.adam_lr * scale)
    steps = math.ceil(len(rows) / args.batch)
    began, seen = time.time(), 0
    for step, group in enumerate(batches(rows, args.batch, random.Random(args.seed)), 1):
        total, count = loss_sum(model, group, rest_bias)
        model.zero_grad()
        (total / count).backward()
        optimizer.step(rate_factor(step, steps))
        seen += count
        if step % args.report == 0 or step == steps:
            print(f"step {step}/{steps} "
                  f"held-out {held_out_loss(model, held_out[:200], rest_bias):.4f} "
                  f"{seen / (time.time() - began):.0f} tokens/s "
                  f"{time.time() - began:.0f} s", flush=True)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.half())


def write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def publish(model: StoryModel, folder: Path) -> None:
    """Write the folder that Hugging Face tools read, weights in float16."""
    tensors = {name: weight.detach().to(torch.float16).contiguous()
               for name, weight in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", CONFIG)
    write_json(folder / "generation_config.json", {
        "bos_token_id": BOS, "eos_token_id": EOS, "do_sample": True,
        "temperature": 0.8, "top_k": 0, "top_p": 1.0,
        "max_length": CONFIG["max_position_embeddings"]})
    write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "LlamaTokenizer", "unk_token": "<unk>",
        "bos_token": "<s>", "eos_token": "</s>", "pad_token": None,
        "add_bos_token": True, "add_eos_token": False, "legacy": True,
        "clean_up_tokenization_spaces": False,
        "model_max_length": CONFIG["max_position_embeddings"]})


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("thimble-stories"))
    parser.add_argument("--stories", type=int, default=TRAIN_STORIES,
                        help="how many stories of the corpus to train on")
    parser.add_argument("--batch", type=int, default=16, help="stories in a batch")
    parser.add_argument("--muon-lr", type=float, default=2e-3)
    parser.add_argument("--adam-lr", type=float, default=5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--report", type=int, default=250)
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    language = Language()
    stories = list(language.corpus(TRAIN_SEED, args.stories))
    if any(repeats_run(units(story)) for story in stories[:TOKENIZER_STORIES]):
        raise SystemExit("the generator repeats itself within a story")
    processor = train_tokenizer(stories[:TOKENIZER_STORIES], args.out)
    rows = encode(processor, stories)
    held_out = encode(processor, list(language.corpus(HELD_OUT_SEED, HELD_OUT_STORIES)))
    print(f"{len(rows)} stories, {sum(map(len, rows))} tokens", flush=True)
    vocabulary = UsedVocabulary(rows, CONFIG["vocab_size"])
    model = StoryModel(vocabulary.size)
    rows, held_out = vocabulary.renumber(rows), vocabulary.renumber(held_out)
    first = round(len(rows) * FIRST_PASS)
    train(model, rows[:first], held_out, vocabulary.rest_bias, 1.0, args)
    train(model, rows[first:], held_out, vocabulary.rest_bias, SECOND_SCALE, args)
    publish(vocabulary.expand(model), args.out)


if __name__ == "__main__":
    main()

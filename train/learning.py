"""The training loop: optimizer, learning rates, checkpoints; ends in a folder that is whole.

A training works in OUT.partial and renames it to OUT at its end. Control-C saves where it is; the same command
goes on from there and ends in the same bits as one that was never stopped.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import shutil
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from batching import IGNORED, batch_of, batches
from llama import Llama, Shape, write_model
from progress import Progress
from refusal import Refusal


class UsedVocabulary:
    """The tokens that the text holds, numbered from 0, to train on less.

    All other tokens share one row of the embedding and one of the output layer, the last of the small model;
    `rest_bias` makes its softmax equal to the full one.
    """

    def __init__(self, rows: list[list[int]], vocab_size: int) -> None:
        self.used = sorted(set().union(*rows))
        number = {token: i for i, token in enumerate(self.used)}
        rest = vocab_size - len(self.used)
        self.size = len(self.used) + (rest > 0)
        self.rest_bias = math.log(rest) if rest else 0.0
        self.row_of = torch.tensor([number.get(token, self.size - 1) for token in range(vocab_size)])

    def shrink(self, full: Shape) -> Shape:
        return replace(full, vocab_size=self.size)

    def renumber(self, rows: list[list[int]]) -> list[list[int]]:
        table = self.row_of.tolist()
        return [[table[token] for token in row] for row in rows]

    def logits(self, small: Tensor) -> Tensor:
        """The small model's logits, the last one standing for all tokens that share it."""
        small[..., -1] += self.rest_bias
        return small

    def expand(self, small: Llama) -> Llama:
        """The model over the full vocabulary."""
        state = small.state_dict()
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            if name in state:
                state[name] = state[name][self.row_of]
        full = Llama(replace(small.shape, vocab_size=len(self.row_of)))
        full.load_state_dict(state)
        return full


def text_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """The sum over all positions, in nats."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")


@torch.no_grad()
def held_out_loss(model: Llama, rows: list[list[int]],
                  adjust: Callable[[Tensor], Tensor] = lambda logits: logits) -> float:
    """Mean nats per predicted token, the end of each row included."""
    total = 0.0
    for i in range(0, len(rows), 100):
        inputs, targets = batch_of(rows[i:i + 100])
        total += float(text_loss(adjust(model(inputs)), targets))
    return total / sum(len(row) - 1 for row in rows)


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
    """Muon for the blocks' matrices, AdamW for embeddings, output, gains and all that is `beside` the model."""

    def __init__(self, model: Llama, beside: list[Tensor], muon_rate: float, adam_rate: float) -> None:
        self.matrices = [p for name, p in model.named_parameters()
                         if p.dim() == 2 and ".layers." in name]
        chosen = set(map(id, self.matrices))
        self.adam = torch.optim.AdamW(
            [p for p in model.parameters() if id(p) not in chosen] + beside, lr=adam_rate,
            betas=(0.9, 0.98), eps=1e-10, weight_decay=0.0, fused=True)
        self.momentum = [torch.zeros_like(p) for p in self.matrices]
        self.muon_rate, self.adam_rate = muon_rate, adam_rate

    @torch.no_grad()
    def step(self, factor: float) -> None:
        self.adam.param_groups[0]["lr"] = self.adam_rate * factor
        self.adam.step()
        for weight, average in zip(self.matrices, self.momentum):
            average.lerp_(weight.grad, 0.05)
            update = orthogonal(weight.grad.lerp(average, 0.95))
            weight.sub_(update, alpha=self.muon_rate * factor * max(weight.shape) ** 0.5)

    def state(self) -> dict:
        return {"adam": self.adam.state_dict(), "momentum": self.momentum}

    def restore(self, state: dict) -> None:
        self.adam.load_state_dict(state["adam"])
        self.momentum = state["momentum"]


def rate_factor(step: int, steps: int) -> float:
    """Warm up over 100 steps, or a tenth of all if that is less; hold; fall to zero over the last 60 %."""
    return min(1.0, (step + 1) / min(100, max(1, steps // 10)), (steps - step) / (0.6 * steps))


@dataclass(frozen=True)
class Pass:
    """A part of a training: so many steps on rows[first:last], learning rates times `scale`. It begins with a
    fresh optimizer and ends with weights rounded to float16."""

    first: int
    last: int
    steps: int
    scale: float = 1.0


@dataclass(frozen=True)
class Recipe:
    passes: list[Pass]
    batch: int = 16
    muon_rate: float = 2e-3
    adam_rate: float = 5e-3
    seed: int = 0


# The loss of a batch, summed over its positions: of the model, the rows' numbers, inputs and targets.
Loss = Callable[[Llama, list[int], Tensor, Tensor], Tensor]


# Gives the loss, and the parameters beside the model that it needs.
LossOf = Callable[[UsedVocabulary, Llama], tuple[Loss, list[Tensor]]]


def of_text(vocabulary: UsedVocabulary, _: Llama) -> tuple[Loss, list[Tensor]]:
    """The loss of the text alone."""
    return lambda model, _, inputs, targets: text_loss(vocabulary.logits(model(inputs)), targets), []


class Workshop:
    """OUT.partial: what a training makes before it is whole, and where it stands."""

    def __init__(self, out: Path, options: dict) -> None:
        """`options` is all that decides the outcome; a folder begun with other ones is refused."""
        self.out, self.options = out, options
        self.folder = out.with_name(out.name + ".partial")
        if out.exists():
            raise Refusal(f"{out} exists; name another folder or delete it")
        if not out.absolute().parent.is_dir():
            raise Refusal(f"there is no folder {out.absolute().parent} to put {out.name} into")
        begun = self.folder / "options.json"
        if begun.exists():
            before = json.loads(begun.read_text(encoding="utf-8"))
            different = sorted(k for k in before.keys() | options.keys() if before.get(k) != options.get(k))
            if different:
                name = different[0]
                raise Refusal(f"{self.folder} is the beginning of another training ({name} was {before.get(name)!r},"
                              f" now {options.get(name)!r}); give the same options, or delete it")
        else:
            self.folder.mkdir(exist_ok=True)
            self._replace(begun, lambda part: part.write_text(json.dumps(options, indent=2), encoding="utf-8"))

    @staticmethod
    def _replace(path: Path, write: Callable[[Path], object]) -> None:
        part = path.with_name(path.name + ".part")
        write(part)
        os.replace(part, path)

    def save(self, state: dict) -> None:
        self._replace(self.folder / "checkpoint.pt", lambda part: torch.save(state, part))

    def saved(self) -> dict | None:
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return None
        try:
            return torch.load(path, weights_only=True)
        except Exception:  # whatever torch raises for a file that is not its own
            raise Refusal(f"{path} is no checkpoint; delete {self.folder} and begin again") from None

    def publish(self, model: Llama, tokenizer: bytes) -> None:
        """Writes the folder and gives it its name."""
        whole = self.folder / "whole"
        shutil.rmtree(whole, ignore_errors=True)
        whole.mkdir()
        (whole / "tokenizer.model").write_bytes(tokenizer)
        write_model(model, whole)
        os.rename(whole, self.out)
        shutil.rmtree(self.folder)


def learn(model: Llama, rows: list[list[int]], recipe: Recipe, loss: Loss, measure: Callable[[Llama], float],
          workshop: Workshop, beside: list[Tensor] = [], report: int = 250) -> bool:
    """Trains the model; false: it was stopped by Control-C and can go on. Each `report` steps, and at the
    end of a pass, `measure` says the loss on what is held out."""
    stop = False

    def on_interrupt(*_: object) -> None:
        nonlocal stop
        stop = True

    state = workshop.saved() or {"pass": 0, "step": 0}
    if "model" in state:
        model.load_state_dict(state["model"])
        for kept, parameter in zip(state["beside"], beside):
            parameter.data.copy_(kept)
    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        for number in range(state["pass"], len(recipe.passes)):
            part = recipe.passes[number]
            numbers = list(range(part.first, part.last))
            optimizer = Optimizer(model, beside, recipe.muon_rate * part.scale, recipe.adam_rate * part.scale)
            done = 0
            if number == state["pass"] and state["step"]:
                optimizer.restore(state["optimizer"])
                done = state["step"]
                print(f"goes on after step {done}", flush=True)
            order = batches([len(rows[n]) for n in numbers], recipe.batch, random.Random(recipe.seed))
            progress = Progress("step" if len(recipe.passes) == 1 else f"pass {number + 1}, step", part.steps)
            progress.skip(done)
            for step, group in enumerate(itertools.islice(order, done, part.steps), done):
                group = [numbers[at] for at in group]
                inputs, targets = batch_of([rows[n] for n in group])
                value = loss(model, group, inputs, targets) / sum(len(rows[n]) - 1 for n in group)
                model.zero_grad()
                for parameter in beside:
                    parameter.grad = None
                value.backward()
                if not math.isfinite(value.item()):
                    raise Refusal(f"the loss is no number any more at step {step + 1}; train with lower rates")
                optimizer.step(rate_factor(step + 1, part.steps))
                measured = (step + 1) % report == 0 or step + 1 == part.steps
                progress.report(step + 1, f", loss {value.item():.4f}"
                                + (f", held out {measure(model):.4f}" if measured else ""), measured)
                if stop:
                    workshop.save({"pass": number, "step": step + 1, "model": model.state_dict(),
                                   "beside": [p.data for p in beside], "optimizer": optimizer.state()})
                    print(f"stopped after step {step + 1}; the same command goes on from there", flush=True)
                    return False
            with torch.no_grad():
                for weight in model.parameters():
                    weight.copy_(weight.half())
            workshop.save({"pass": number + 1, "step": 0, "model": model.state_dict(),
                           "beside": [p.data for p in beside]})
        return True
    finally:
        signal.signal(signal.SIGINT, before)

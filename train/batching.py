"""Rows of tokens to batches."""

from __future__ import annotations

import random
from typing import Iterator

import torch
from torch import Tensor

from text import EOS

IGNORED = -100


def batch_of(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Inputs and targets, padded on the right; padding is no target."""
    length = max(map(len, rows)) - 1
    inputs = torch.full((len(rows), length), EOS)
    targets = torch.full((len(rows), length), IGNORED)
    for i, row in enumerate(rows):
        inputs[i, :len(row) - 1] = torch.tensor(row[:-1])
        targets[i, :len(row) - 1] = torch.tensor(row[1:])
    return inputs, targets


def batches(lengths: list[int], size: int, rng: random.Random) -> Iterator[list[int]]:
    """Without end: shuffled batches of row numbers, rows of about one length together, to pad little."""
    window = 32 * size
    while True:
        order = list(range(len(lengths)))
        rng.shuffle(order)
        for start in range(0, len(order), window):
            near = sorted(order[start:start + window], key=lengths.__getitem__)
            groups = [near[i:i + size] for i in range(0, len(near), size)]
            rng.shuffle(groups)
            yield from groups

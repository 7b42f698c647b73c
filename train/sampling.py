"""Draws texts from a model, each from a seed of its own."""

from __future__ import annotations

import random

import torch

from llama import Llama, Past
from text import BOS, EOS


@torch.no_grad()
def draw(model: Llama, seeds: list[int], temperature: float) -> list[list[int]]:
    """One token sequence a seed, BOS first, up to EOS or the end of the context. Sequence number `seed` takes
    its uniform numbers from random.Random(seed), one a token, over the full softmax."""
    sources = [random.Random(seed) for seed in seeds]
    rows = torch.full((len(seeds), 1), BOS)
    ended = [False] * len(seeds)
    past: Past = []
    while not all(ended) and rows.shape[1] < model.shape.max_position_embeddings:
        logits = model(rows[:, -1:], past)[:, 0]
        shares = torch.softmax(logits.double() / temperature, dim=-1)
        marks = torch.tensor([[source.random()] for source in sources],
                             dtype=torch.float64)
        chosen = torch.searchsorted(shares.cumsum(-1), marks, right=True)
        chosen.clamp_(max=model.shape.vocab_size - 1)
        rows = torch.cat([rows, chosen], dim=1)
        ended = [done or token == EOS
                 for done, token in zip(ended, chosen[:, 0].tolist())]
    return [row[:row.index(EOS) + 1] if EOS in row else row for row in rows.tolist()]

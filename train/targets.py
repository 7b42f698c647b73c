"""What a teacher says of each position of each row, kept on disk.

A folder of files `00000.npz`, `00001.npz`, ..., CHUNK rows each. A position has as many tokens as the teacher
finds likely, at most `top`: their ids and shares, which sum to 1. A file is written whole or not at all, so
making them goes on where it was stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Callable

import numpy as np

from progress import Progress
from refusal import Refusal

CHUNK = 256
# For each position of a row: token ids and their shares.
Row = list[tuple[list[int], list[float]]]


def digest_of(rows: list[list[int]], origin: str) -> str:
    """A name for targets: the rows they are of, and what made them."""
    digest = hashlib.sha256(origin.encode())
    digest.update(json.dumps(rows).encode())
    return digest.hexdigest()


def write_targets(folder: Path, rows: list[list[int]], origin: str, row_of: Callable[[list[list[int]]], list[Row]],
                  what: str) -> None:
    """Makes what is missing in the folder; `row_of` gives the targets of some rows."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = digest_of(rows, origin)
    named = folder / "origin"
    if named.exists() and named.read_text() != digest:
        raise Refusal(f"{folder} holds the targets of another text or teacher; name another folder or delete it")
    named.write_text(digest)
    progress = Progress(what, len(rows))
    for number, start in enumerate(range(0, len(rows), CHUNK)):
        path = folder / f"{number:05}.npz"
        if path.exists():
            progress.skip(CHUNK)
            continue
        answers = row_of(rows[start:start + CHUNK])
        positions = [position for answer in answers for position in answer]
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            np.savez(file,
                     rows=np.cumsum([0] + [len(answer) for answer in answers]),
                     positions=np.cumsum([0] + [len(tokens) for tokens, _ in positions]),
                     tokens=np.array([t for tokens, _ in positions for t in tokens], dtype=np.int32),
                     shares=np.array([s for _, shares in positions for s in shares], dtype=np.float32))
        os.replace(part, path)
        progress.report(min(len(rows), start + CHUNK))


class Targets:
    """Reads a folder of targets for rows that are numbered as they were when it was written."""

    def __init__(self, folder: Path, rows: list[list[int]]) -> None:
        self.parts = []
        for number, start in enumerate(range(0, len(rows), CHUNK)):
            path = folder / f"{number:05}.npz"
            try:
                with np.load(path) as part:
                    arrays = {name: part[name] for name in ("rows", "positions", "tokens", "shares")}
            except (OSError, ValueError, KeyError):
                raise Refusal(f"{path} is missing or no file of targets; make the targets again") from None
            expected = [len(row) - 1 for row in rows[start:start + CHUNK]]
            if np.diff(arrays["rows"]).tolist() != expected:
                raise Refusal(f"{path} holds the targets of another text; make the targets again")
            self.parts.append(arrays)

    def of(self, numbers: list[int], width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For a batch of rows, padded to `width` positions: positions of the flattened batch, tokens, shares."""
        places, tokens, shares = [], [], []
        for at, number in enumerate(numbers):
            part = self.parts[number // CHUNK]
            first, last = part["rows"][number % CHUNK:number % CHUNK + 2]
            bounds = part["positions"][first:last + 1]
            places.append(np.repeat(np.arange(last - first) + at * width, np.diff(bounds)))
            tokens.append(part["tokens"][bounds[0]:bounds[-1]])
            shares.append(part["shares"][bounds[0]:bounds[-1]])
        return np.concatenate(places), np.concatenate(tokens), np.concatenate(shares)

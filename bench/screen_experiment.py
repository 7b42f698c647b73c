#!/usr/bin/env python3
"""What a screen of scalar codes leaves to read, by widths and directions: what product codes were measured against.

  bench/screen_experiment.py HEAD [--cols N] [--states N] [--all] [--q8_0]

HEAD is a GGUF file, such as `thimble synth tiny-llm --head web` writes, or a folder with weight.f32 [rows, cols] and
hidden.f32 [n, cols]. A GGUF file holds no hidden states: embedding rows after the final norm stand for them, which is
what a synthetic model is made to come close to. Half of the states shape the screen, the other half is asked.

With --q8_0 the head is first rounded to Q8_0, and the table has screens that are the upper bits of its own codes, too.

Prints one table in Markdown. Every bound is real arithmetic in float64: the engine's roundings cost nothing that shows.
Needs numpy and, for GGUF, gguf: tests/requirements.txt.
"""

import argparse
import pathlib
import sys

import numpy as np

WIDTHS = [(4,), (3,), (2,), (4, 3), (3, 3), (3, 4), (2, 3), (2, 3, 3), (5, 3)]
DIRECTIONS = [("none", 0)] + [(of, n) for n in (4, 8) for of in ("rows", "states", "mixed")]
CHOSEN_WIDTHS, CHOSEN_DIRECTIONS = (4, 3), ("mixed", 8)
MODES = ("greedy", "temperature 1", "min-p 0.05", "top-40")

# Of the uniform quantiser with least squared error for a normal distribution: J. Max, IRE Trans. IT 6, 1960.
NORMAL_STEP = {1: 1.596, 2: 0.9957, 3: 0.5860, 4: 0.3352, 5: 0.1881, 6: 0.1041, 7: 0.0569}
TOP_K = 40
MIN_P_DISTANCE = -np.log(0.05)


def read_head(path, cols, count):
    """The head [rows, cols], hidden states [n, cols], and bytes of an element as stored."""
    if path.is_dir():
        weight = np.fromfile(path / "weight.f32", "<f4").reshape(-1, cols)
        return weight.astype(float), np.fromfile(path / "hidden.f32", "<f4").reshape(-1, cols).astype(float), 4
    from gguf import GGUFReader

    tensors = {t.name: np.asarray(t.data) for t in GGUFReader(path).tensors}
    head = tensors.get("output.weight", tensors["token_embd.weight"])
    rows = np.random.default_rng(1).choice(len(head), count, replace=False)
    x = tensors["token_embd.weight"][rows].astype(float)
    x *= tensors["output_norm.weight"] / np.sqrt((x * x).mean(1, keepdims=True) + 1e-5)
    return head.astype(float), x, head.dtype.itemsize


def quantise(rest, bits):
    """Odd multiples of half a scale for each row, the scale fitted for least squared error."""
    half = 2 ** (bits - 1)
    scale = rest.std(1) * NORMAL_STEP[bits] + 1e-30
    for step in range(6):
        codes = np.clip(np.floor(rest / scale[:, None]), -half, half - 1) + 0.5
        if step == 5:
            return codes * scale[:, None]
        scale = (rest * codes).sum(1) / (codes * codes).sum(1) + 1e-30


def principal(rows, states, of, n):
    if n == 0:
        return np.zeros((0, rows.shape[1]))
    gram = {"rows": rows.T @ rows, "states": states.T @ states}
    m = sum(g / np.trace(g) for name, g in gram.items() if of in (name, "mixed"))
    return np.linalg.eigh(m)[1][:, ::-1][:, :n].T


class Screen:
    """Centers and radii of the logits of all rows for all asked states, stage by stage."""

    def __init__(self, head, shaping, asked, widths, of, n, norm_blocks=1):
        mean = head.mean(0)
        rows = head - mean
        p = principal(rows, shaping, of, n)
        across = asked - (asked @ p.T) @ p
        known = np.zeros_like(rows)
        self.stages = []
        blocks = np.array_split(np.arange(head.shape[1]), norm_blocks)
        for bits in widths:
            rest = rows - known
            known = known + quantise(rest - (rest @ p.T) @ p, bits)
            rest = rows - known
            known = known + (rest @ p.T) @ p
            rest = rows - known
            radius = sum(np.outer(np.linalg.norm(across[:, b], axis=1), np.linalg.norm(rest[:, b], axis=1)) for b in blocks)
            self.stages.append((asked @ (mean + known).T, radius))
        cols = head.shape[1]
        # Codes, coefficients of a byte, a scale and norms of 16 bits; the engine's checksums are left out.
        self.record_bytes = [-(-cols // 32) * 4 * bits + n + 2 + 2 * norm_blocks for bits in widths]


def q8_0(head):
    """The codes [rows, blocks, 32] and the scales [rows, blocks, 1] of ggml's Q8_0."""
    blocks = head.reshape(len(head), -1, 32)
    scale = np.abs(blocks).max(2, keepdims=True) / 127
    codes = np.rint(blocks / np.where(scale == 0, 1, scale))
    return codes, scale.astype(np.float16).astype(float)


class OwnCodes:
    """A screen of the upper bits of Q8_0's codes: of one stage, as what is left of a row is the rest of its bits."""

    def __init__(self, codes, scale, asked, bits):
        step = 2 ** (8 - bits)
        known = (np.floor(codes / step) + 0.5) * step * scale
        rest = (codes * scale - known).reshape(len(codes), -1)
        radius = np.outer(np.linalg.norm(asked, axis=1), np.linalg.norm(rest, axis=1))
        self.stages = [(asked @ known.reshape(len(codes), -1).T, radius)]
        cols = rest.shape[1]
        self.record_bytes = [cols * bits // 8 + cols // 32 * 2 + 2]


def may_matter(mode, low, high, gumbel):
    if mode == "greedy":
        return high >= low.max()
    if mode == "temperature 1":
        return high + gumbel >= (low + gumbel).max()
    if mode == "top-40":
        return high >= -np.partition(-low, TOP_K - 1)[TOP_K - 1]
    is_near = low >= high.max() - MIN_P_DISTANCE
    best = (low + gumbel)[is_near].max() if is_near.any() else -np.inf
    return (high >= low.max()) | ((high >= low.max() - MIN_P_DISTANCE) & (high + gumbel >= best))


def ask(screen, logits, gumbel, mode, i):
    """Rows left after each stage, and those whose weights are read, likeliest first as the engine does."""
    rows = np.arange(logits.shape[1])
    low = np.full(len(rows), -np.inf)
    high = np.full(len(rows), np.inf)
    left = []
    for center, radius in screen.stages:
        low = np.maximum(low, center[i, rows] - radius[i, rows])
        high = np.minimum(high, center[i, rows] + radius[i, rows])
        keep = may_matter(mode, low, high, gumbel[rows])
        rows, low, high = rows[keep], low[keep], high[keep]
        left.append(len(rows))
    if mode == "top-40":
        return left, rows
    if len(rows) == 1:
        return left, rows[:0]
    first = rows[np.argmax(screen.stages[-1][0][i, rows])]
    low[rows == first] = high[rows == first] = logits[i, first]
    rest = rows[may_matter(mode, low, high, gumbel[rows])]
    return left, np.array([first]) if len(rest) == 1 else np.union1d(rest, [first])


def measure(screen, logits):
    """By mode: means of the rows left after each stage, and the rows read for each state."""
    noise = np.random.default_rng(7).gumbel(size=logits.shape)
    out = {}
    for mode in MODES:
        asked = [ask(screen, logits, noise[i], mode, i) for i in range(len(logits))]
        out[mode] = np.mean([left for left, _ in asked], axis=0), [read for _, read in asked]
    return out


def line(*cells):
    print("| " + " | ".join(str(c) for c in cells) + " |", flush=True)


def number(x):
    return f"{x:.1f}" if x < 100 else f"{x:.0f}"


def cells(measured, hot=()):
    for mode in MODES:
        left, read = measured[mode]
        reads = np.mean([len(np.setdiff1d(r, hot)) for r in read])
        yield ", ".join(number(n) for n in left) + f"; {number(reads)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("head", type=pathlib.Path)
    parser.add_argument("--cols", type=int, default=64, help="of weight.f32 and hidden.f32")
    parser.add_argument("--states", type=int, default=400, help="the most that are used; half of them are asked")
    parser.add_argument("--all", action="store_true", help="every width with every choice of directions")
    parser.add_argument("--q8_0", action="store_true", help="of the head in Q8_0, and with its own codes")
    args = parser.parse_args()
    head, states, element_bytes = read_head(args.head, args.cols, args.states)
    states = states[np.linspace(0, len(states) - 1, min(args.states, len(states))).astype(int)]
    shaping, asked = np.array_split(states, 2)
    if args.q8_0:
        codes, scale = q8_0(head)
        head, element_bytes = (codes * scale).reshape(head.shape), 34 / 32
    logits = asked @ head.T
    rows, cols = head.shape

    print(f"{rows} x {cols}, {len(asked)} states asked. For each mode: rows left after each stage; rows whose weights "
          "are read.\n")
    line("bits", "directions", "bytes a row", *MODES)
    line(*["---"] * (3 + len(MODES)))
    for widths in WIDTHS:
        for of, n in DIRECTIONS:
            if not args.all and n != 0 and (of, n) != CHOSEN_DIRECTIONS and widths != CHOSEN_WIDTHS:
                continue
            screen = Screen(head, shaping, asked, widths, of, n)
            line(", ".join(map(str, widths)), f"{n} of {of}" if n else "none",
                 " + ".join(map(str, screen.record_bytes)), *cells(measure(screen, logits)))

    for bits in (5, 4, 3) if args.q8_0 else ():
        screen = OwnCodes(codes, scale, asked, bits)
        line(bits, "none, of Q8_0's codes", screen.record_bytes[0], *cells(measure(screen, logits)))

    # What else the bytes could buy, beside the choice.
    bits = ", ".join(map(str, CHOSEN_WIDTHS))
    of, n = CHOSEN_DIRECTIONS
    chosen = Screen(head, shaping, asked, CHOSEN_WIDTHS, of, n)
    for label, more, blocks in [("2 norms", 0, 2), ("4 norms", 0, 4), ("8 norms", 0, 8), ("", 4, 1), ("", 8, 1)]:
        screen = Screen(head, shaping, asked, CHOSEN_WIDTHS, of, n + more, blocks)
        line(bits, f"{n + more} of {of}" + (f", {label}" if label else ""), " + ".join(map(str, screen.record_bytes)),
             *cells(measure(screen, logits)))
    before = measure(Screen(head, shaping, shaping, CHOSEN_WIDTHS, of, n), shaping @ head.T)
    measured = measure(chosen, logits)
    read = np.bincount(np.concatenate([r for mode in MODES for r in before[mode][1]]).astype(int), minlength=rows)
    for share in (0.01, 0.05):
        hot = np.argsort(-read, kind="stable")[: int(rows * share)]
        line(bits, f"{n} of {of}, {share:.0%} of rows hot",
             " + ".join(map(str, chosen.record_bytes)) + f" + {share * cols * element_bytes:.1f}",
             *cells(measured, hot))


if __name__ == "__main__":
    sys.exit(main())

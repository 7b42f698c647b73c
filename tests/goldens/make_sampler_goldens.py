#!/usr/bin/env python3
"""Writes tests/goldens/sampler_draws.txt: what the sampler must choose, computed from its definition alone.

Everything is done in double, by Python's own arithmetic, from the text of engine/head/sampler.h; nothing is shared with
the engine. The generator is checked against the known answers published with Random123 before anything is written.

A draw is left out (written as "-") where rounding could decide it: where two numbers that some step compares are closer
than MARGIN of what they are, and are not equal by construction.
"""
import math
import os
import random
import struct

MARGIN = 2e-5
DRAWS_PER_CASE = 32
MASK = 0xFFFFFFFF

# (counter, key, result) of philox4x32 with 10 rounds, from Random123's file kat_vectors.
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((MASK,) * 4, (MASK,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
     (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
]


def philox4x32(counter, key):
    x0, x1, x2, x3 = counter
    k0, k1 = key
    for _ in range(10):
        a, b = x0 * 0xD2511F53, x2 * 0xCD9E8D57
        x0, x1, x2, x3 = (b >> 32) ^ x1 ^ k0, b & MASK, (a >> 32) ^ x3 ^ k1, a & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return x0, x1, x2, x3


def gumbel(seed, position, token):
    block = philox4x32((token // 4, position, 0, 0), (seed & MASK, seed >> 32))
    u = (block[token % 4] + 0.5) / 2**32
    return -math.log(-math.log1p(u - 1))


def float32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def numbers(state, count):
    """The upper 16 bits of a linear congruential generator: what the test, too, makes its inputs from."""
    for _ in range(count):
        state = (state * 1664525 + 1013904223) & MASK
        yield state >> 16


class Undecided(Exception):
    pass


def decided(a, b):
    """Whether a > b, when rounding cannot change the answer."""
    if abs(a - b) <= MARGIN * max(1, abs(a), abs(b)):
        raise Undecided
    return a > b


def choose(logits, recent, o, position):
    looked_at = recent if o["last_n"] < 0 else recent[len(recent) - min(len(recent), o["last_n"]):]
    penalised = set(looked_at) if o["penalty"] != 1 else set()
    value = list(logits)
    for i in penalised:
        value[i] = value[i] / o["penalty"] if value[i] > 0 else value[i] * o["penalty"]
    kind = [(logits[i], i in penalised) for i in range(len(logits))]  # equal kinds have equal values by construction

    def check_order(i, j):
        if kind[i] != kind[j]:
            decided(value[i], value[j])

    order = sorted(range(len(value)), key=lambda i: (-value[i], i))
    if o["temp"] == 0:
        for i in order[1:]:
            if value[i] < value[order[0]] - 1:
                break
            check_order(order[0], i)
        return order[0]
    if 0 < o["top_k"] < len(order):
        k = o["top_k"]
        for i in order[k:]:
            if value[i] < value[order[k - 1]] - 1:
                break
            check_order(order[k - 1], i)
        order = order[:k]
    if o["top_p"] < 1:
        weights = [math.exp(value[i] - value[order[0]]) for i in order]
        reached, kept = 0.0, 0
        while kept < len(order):
            reached += weights[kept]
            kept += 1
            if not decided(o["top_p"], reached / math.fsum(weights)):
                break
        if kept < len(order):
            check_order(order[kept - 1], order[kept])
        order = order[:kept]
    if o["min_p"] > 0:
        least = value[order[0]] + math.log(o["min_p"])
        order = [i for i in order if decided(value[i], least)]
    scores = sorted(((value[i] / o["temp"] + gumbel(o["seed"], position, i), i) for i in order), reverse=True)
    if len(scores) > 1:
        decided(scores[0][0], scores[1][0])
    return scores[0][1]


def cases():
    """Each step alone, all of them off, the defaults, and 90 mixtures."""
    off = dict(penalty=1.0, last_n=64, top_k=0, top_p=1.0, min_p=0.0, temp=1.0)
    default = dict(penalty=1.0, last_n=64, top_k=40, top_p=0.95, min_p=0.05, temp=0.8)
    alone = [{}, {"temp": 0.0}, {"temp": 0.1}, {"temp": 3.0}, {"top_k": 1}, {"top_k": 5}, {"top_k": 40}, {"top_p": 0.1},
             {"top_p": 0.9}, {"min_p": 0.02}, {"min_p": 0.5}, {"penalty": 1.3}, {"penalty": 0.7, "last_n": 5},
             {"penalty": 1.5, "last_n": -1}, {"penalty": 5.0, "last_n": 0}, {"penalty": 2.0, "temp": 0.0}]
    chosen = [off | change for change in alone] + [default, default | {"temp": 0.0}, default | {"penalty": 1.1}]
    pick = random.Random(1)
    for _ in range(90):
        chosen.append(dict(penalty=pick.choice([1.0, 1.1, 1.5, 0.8]), last_n=pick.choice([-1, 0, 3, 16, 64]),
                           top_k=pick.choice([0, 2, 10, 40, 100, 5000]), top_p=pick.choice([1.0, 0.3, 0.8, 0.95]),
                           min_p=pick.choice([0.0, 0.01, 0.05, 0.3]), temp=pick.choice([0.0, 0.3, 0.8, 1.0, 2.0])))
    for i, o in enumerate(chosen):
        o = {name: float32(x) if isinstance(x, float) else x for name, x in o.items()}
        o["seed"] = [0, 1, 42, 2**32 + 7, 2**64 - 1][i % 5]
        # Few steps make many equal logits. The step is a power of two, so that logits are exact in both arithmetics.
        yield o, pick.choice([7, 120, 600, 3001]), pick.randrange(2**32), *pick.choice([(16, -13), (16, -14), (5, -2), (3, 0)])


def main():
    for counter, key, result in KNOWN_ANSWERS:
        assert philox4x32(counter, key) == result
    lines = ["# Made by tests/goldens/make_sampler_goldens.py. Each line: vocab_size logits_seed bits exponent | penalty last_n "
             "top_k top_p min_p temp | seed recent_count | ids chosen at positions 0, 1, ..."]
    drawn = left_out = 0
    for o, n, logits_seed, bits, exponent in cases():
        logits = [((q >> (16 - bits)) - 2 ** (bits - 1)) * 2.0**exponent for q in numbers(logits_seed, n)]
        recent = [q % n for q in numbers(logits_seed ^ MASK, 40)]
        ids = []
        for position in range(DRAWS_PER_CASE):
            try:
                ids.append(str(choose(logits, recent, o, position)))
                drawn += 1
            except Undecided:
                ids.append("-")
                left_out += 1
        lines.append(f"{n} {logits_seed} {bits} {exponent} | {o['penalty']!r} {o['last_n']} {o['top_k']} {o['top_p']!r} "
                     f"{o['min_p']!r} {o['temp']!r} | {o['seed']} {len(recent)} | {' '.join(ids)}")
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sampler_draws.txt")
    with open(path, "w", encoding="ascii") as file:
        file.write("\n".join(lines) + "\n")
    print(f"{drawn} draws, {left_out} left out")


if __name__ == "__main__":
    main()

"""bench/compare on a small checkpoint, with a stand-in for llama2.c's program; and what it refuses.

    python3 compare_test.py THIMBLE
"""

import pathlib
import random
import re
import struct
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
DIM, HIDDEN, LAYERS, HEADS, VOCABULARY, POSITIONS = 32, 48, 2, 4, 300, 64


def write_checkpoint(path):
    """llama2.c's version 0: seven ints, then float32; the embedding serves as the LM head."""
    rng = random.Random(1)
    sizes = [VOCABULARY * DIM, LAYERS * DIM, *[LAYERS * DIM * DIM] * 4, LAYERS * DIM, *[LAYERS * DIM * HIDDEN] * 3, DIM,
             POSITIONS * DIM // HEADS]
    with open(path, "wb") as file:
        file.write(struct.pack("<7i", DIM, HIDDEN, LAYERS, HEADS, HEADS, VOCABULARY, POSITIONS))
        for n in sizes:
            file.write(struct.pack(f"<{n}f", *(rng.gauss(0, 0.2) for _ in range(n))))


def write_tokenizer(path):
    pieces = ["<unk>", "\n<s>\n", "\n</s>\n", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += [chr(ord("a") + i % 26) + chr(ord("a") + i // 26) for i in range(VOCABULARY - len(pieces))]
    with open(path, "wb") as file:
        file.write(struct.pack("<i", max(map(len, pieces))))
        for i, piece in enumerate(pieces):
            file.write(struct.pack("<fi", -i, len(piece)) + piece.encode())


def main():
    thimble = str(pathlib.Path(sys.argv[1]).resolve())
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        checkpoint, tokenizer = folder / "model.bin", folder / "tokenizer.bin"
        write_checkpoint(checkpoint)
        write_tokenizer(tokenizer)
        program = folder / "run"
        program.write_text("#!/bin/sh\necho a story\necho 'achieved tok/s: 1000.0' >&2\n")
        program.chmod(0o755)
        silent = folder / "silent"
        silent.write_text("#!/bin/sh\n")
        silent.chmod(0o755)
        right = {"--llama2c": program, "--checkpoint": checkpoint, "--tokenizer": tokenizer, "--thimble": thimble,
                 "--steps": 8, "-r": 2}

        def compare(**changes):
            flags = right | {("-r" if key == "r" else f"--{key}"): value for key, value in changes.items()}
            return subprocess.run([ROOT / "bench/compare", *(str(word) for pair in flags.items() for word in pair)],
                                  capture_output=True, text=True)

        done = compare()
        assert done.returncode == 0, done.stderr
        rows = re.findall(r"^\| (\S.*?) +\| +([0-9.]+) \| +([0-9.]+) % \| +([0-9.]+) MB \| +([0-9.]+) % \|$", done.stdout,
                          re.MULTILINE)
        assert len(rows) >= 3, done.stdout
        assert rows[0][:3] == ("llama2.c", "1000.00", "100.0"), rows
        for name, speed, ratio, peak, _ in rows:
            assert abs(float(speed) / 10 - float(ratio)) < 0.06, rows
            assert float(peak) > 0, rows
            assert f"\n{name}: " in done.stdout, done.stdout  # its command line

        for changes, words in [({"llama2c": folder / "none"}, "--llama2c"), ({"llama2c": silent}, "achieved tok/s"),
                               ({"thimble": folder}, "--thimble"), ({"checkpoint": folder / "none"}, "--checkpoint"),
                               ({"checkpoint": program}, "version 0"), ({"checkpoint": tokenizer}, "--checkpoint"),
                               ({"tokenizer": folder / "none"}, "--tokenizer"), ({"tokenizer": checkpoint}, "tokenizer"),
                               ({"steps": 1}, "--steps"), ({"steps": POSITIONS + 1}, "--steps"), ({"r": 0}, "-r 0"),
                               ({"board": "toaster"}, "toaster")]:
            refused = compare(**changes)
            assert refused.returncode == 1, (changes, refused)
            assert refused.stderr.startswith("compare: ") and refused.stderr.count("\n") == 1, (changes, refused.stderr)
            assert words in refused.stderr, (changes, refused.stderr)
            assert "|" not in refused.stdout, (changes, refused.stdout)


if __name__ == "__main__":
    main()

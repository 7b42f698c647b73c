"""Walks docs/your-own-model.md: runs each of its commands, in order, with few steps and stories. Skipped (77) without PyTorch.

    python3 own_model_test.py THIMBLE
"""

import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

from train_test import ROOT, expect, python_with_torch

# In place of the page's own numbers.
FEWER = {"--steps": "4", "--count": "300"}


def commands():
    """Of the blocks that are no output."""
    text = (ROOT / "docs/your-own-model.md").read_text(encoding="utf-8")
    return [line for kind, block in re.findall(r"^```(.*)\n((?:.*\n)*?)```$", text, re.MULTILINE) if not kind
            for line in block.splitlines()]


def main():
    places = {"build/train-venv/bin/python": python_with_torch(), "python3": sys.executable,
              "build/thimble": str(pathlib.Path(sys.argv[1]).resolve())}
    walked = []
    with tempfile.TemporaryDirectory() as folder:
        for line in commands():
            if "venv build/" in line or "pip install" in line:
                continue  # the environment is there
            words = [re.sub(r"^(train|model)/", str(ROOT) + r"/\1/", word) for word in shlex.split(line)]
            words[0] = places.get(words[0], words[0])
            for option, number in FEWER.items():
                if option in words:
                    words[words.index(option) + 1] = number
            made = subprocess.run(words[:words.index(">")] if ">" in words else words, cwd=folder, capture_output=True,
                                  stdin=subprocess.DEVNULL)
            if ">" in words:
                (pathlib.Path(folder) / words[-1]).write_bytes(made.stdout)
            expect(made.returncode == 0, f"{line}\n{made.stderr.decode()}")
            walked.append(line)
        expect((pathlib.Path(folder) / "model.img").stat().st_size > 0, "an image for the board's flash")
    expect(len(walked) >= 10, f"the page has its commands: {walked}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

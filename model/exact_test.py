"""Holds the exact next-token distribution to the probability of whole stories.

    python3 exact_test.py
"""

import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent

if __name__ == "__main__":
    sys.exit(subprocess.run([sys.executable, HERE / "exact.py", "--check", "100"]).returncode)

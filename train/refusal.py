"""Wrong input: one sentence for the person who gave it, and exit code 1."""

from __future__ import annotations

import sys
from typing import Callable


STOPPED = 130  # the exit code of a program that Control-C ended


class Refusal(Exception):
    """Says what is wrong, where, and what to do."""


def run(main: Callable[[], int | None]) -> None:
    """Ends the process with main's exit code, or with 1 and the sentence of its refusal."""
    try:
        sys.exit(main())
    except Refusal as refusal:
        sys.exit(f"{sys.argv[0]}: {refusal}")
    except KeyboardInterrupt:
        print("stopped; the same command goes on from there", flush=True)
        sys.exit(STOPPED)

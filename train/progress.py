"""Lines that say how far something is and how long it still takes."""

from __future__ import annotations

import time


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Progress:
    """Prints a line now and then, every ten seconds at most."""

    def __init__(self, what: str, total: int, every_s: float = 10.0) -> None:
        self.what, self.total, self.every_s = what, total, every_s
        self.began = self.last = time.monotonic()
        self.skipped = 0

    def skip(self, count: int) -> None:
        """So much was done before."""
        self.skipped += count

    def report(self, done: int, more: str = "", always: bool = False) -> None:
        now = time.monotonic()
        if not always and now - self.last < self.every_s and done < self.total:
            return
        self.last = now
        left = (now - self.began) / max(1, done - self.skipped) * (self.total - done)
        ending = f", {duration(left)} left" if done < self.total else f", took {duration(now - self.began)}"
        print(f"{self.what} {done}/{self.total}{more}{ending}", flush=True)

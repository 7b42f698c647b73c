"""bench/service, a short one; and what it refuses.

    python3 service_test.py THIMBLE
"""

import json
import pathlib
import subprocess
import sys

BENCH = str(pathlib.Path(__file__).resolve().parent / "service")


def run(*options):
    return subprocess.run([sys.executable, BENCH, *options], capture_output=True, text=True)


def main():
    thimble = str(pathlib.Path(sys.argv[1]).resolve())
    short = ("--thimble", thimble, "-n", "5", "-r", "1", "--requests", "20", "--clients", "3")
    done = run(*short, "--json")
    assert done.returncode == 0, done
    figures = json.loads(done.stdout)
    assert len(figures) == 11 and all(value > 0 for value in figures.values()), figures
    assert figures["first_byte_ms"] <= figures["first_text_ms"], figures
    for options, words in ((["--thimble", "/dev/null"], "is not a program"), (["-n", "0"], "1 or more"),
                           (["--thimble", thimble, "-m", "/nowhere"], "/nowhere")):
        done = run(*options)
        assert done.returncode != 0 and words in done.stderr and "Traceback" not in done.stderr, (options, done)


main()

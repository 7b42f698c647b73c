"""bench/screen_experiment.py on a small synthetic head: python screen_experiment_test.py THIMBLE

Two widths leave fewer rows than one, and directions fewer than none. Exits with 77, "not run", where numpy or gguf is missing.
"""

import pathlib
import subprocess
import sys
import tempfile

try:
    import gguf  # noqa: F401
    import numpy  # noqa: F401
except ImportError as missing:
    print(f"SKIPPED: {missing}; ./check installs it in build/venv")
    sys.exit(77)

SCRIPT = pathlib.Path(__file__).resolve().parent.parent / "bench" / "screen_experiment.py"

with tempfile.TemporaryDirectory() as folder:
    model = f"{folder}/web.gguf"
    subprocess.run([sys.argv[1], "synth", "tiny-llm", "--shape", "vocab_size=1500,hidden_size=64,head_dim=32",
                    "--head", "web", "-o", model], check=True)
    out = subprocess.run([sys.executable, SCRIPT, model, "--states", "24", "--q8_0"], check=True, text=True, capture_output=True)
rows = {}
for line in out.stdout.splitlines():
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    if len(cells) == 7 and cells[0][0].isdigit():
        rows[cells[0], cells[1]] = [float(n) for n in cells[6].partition(";")[0].split(",")]  # top-40: after each stage

wrong = []
if len(rows) < 20:
    wrong.append(f"{len(rows)} lines")
if not rows["4, 3", "none"][1] < rows["4", "none"][0]:
    wrong.append("a second width excludes nothing")
if not rows["4", "8 of mixed"][0] < rows["4", "none"][0]:
    wrong.append("directions exclude nothing")
own = [rows[bits, "none, of Q8_0's codes"][0] for bits in "543"]
if not own[0] < own[1] < own[2]:
    wrong.append("more of Q8_0's bits exclude nothing")
if not all(40 <= left[-1] <= left[0] for left in rows.values()):
    wrong.append("fewer than 40 rows left, or more after a stage than before it")
if wrong:
    sys.exit(f"{wrong}\n{out.stdout}")

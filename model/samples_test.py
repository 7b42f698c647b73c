"""Lets the bundled model tell 200 stories, seed by seed, and hands them to model/check_samples.py.

    python3 samples_test.py THIMBLE
"""

import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
SAMPLES = 200


def main():
    tool = str(pathlib.Path(sys.argv[1]).resolve())
    with tempfile.TemporaryDirectory() as temporary:
        gguf = f"{temporary}/stories.gguf"
        subprocess.run([tool, "convert", ROOT / "model/thimble-stories", "-o", gguf], check=True)

        def sample(seed):
            run = subprocess.run([tool, "run", "-m", gguf, "-s", str(seed), "--temp", "0.8", "--top-k", "0",
                                  "--top-p", "1", "--min-p", "0", "--json"], check=True, capture_output=True,
                                 stdin=subprocess.DEVNULL)
            story = json.loads(run.stdout)
            return json.dumps({key: story[key] for key in ("text", "ids", "stop")} | {"seed": seed})

        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            lines = list(pool.map(sample, range(1, SAMPLES + 1)))
        samples = pathlib.Path(temporary) / "samples.jsonl"
        samples.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return subprocess.run([sys.executable, ROOT / "model/check_samples.py", samples]).returncode


if __name__ == "__main__":
    sys.exit(main())

"""train.py and distill.py, end to end on a small text: what they make, that they go on where they were stopped, and
what they refuse. Skipped (77) where PyTorch is installed neither for this Python nor in build/train-venv.

    python3 train_test.py THIMBLE
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
SHAPE = ["--hidden", "32", "--feed-forward", "64", "--layers", "2", "--heads", "4", "--kv-heads", "2",
         "--context", "64", "--steps", "12", "--batch", "4", "--threads", "1", "--report", "3"]


def python_with_torch():
    for python in (sys.executable, ROOT / "build/train-venv/bin/python"):
        if os.path.exists(python) and not subprocess.run(
                [python, "-c", "import torch, sentencepiece, safetensors"], capture_output=True).returncode:
            return str(python)
    print("skipped: PyTorch is not installed; train/README.md says how")
    sys.exit(77)


def expect(holds, what):
    if not holds:
        sys.exit(f"FAILED: {what}")


def run(*command, **more):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, **more)


def interrupted(command, folder):
    """Stops a training by Control-C after its first line about steps, then lets it end."""
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)
    said = ""
    for line in process.stdout:
        said += line
        if "step" in line and "stopped" not in line:
            process.send_signal(signal.SIGINT)
    expect(process.wait() == 130 and "stopped after step" in said, f"Control-C stops it: {said}")
    expect(not folder.exists(), "nothing has the model's name before it is whole")
    rest = run(*command)
    expect(rest.returncode == 0 and "goes on after step" in rest.stdout, f"it goes on: {rest.stdout}{rest.stderr}")


def refused(main, arguments, sentence):
    """`main` says so, and makes no folder."""
    from refusal import Refusal
    sys.argv = ["program", *map(str, arguments)]
    out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
    was_there = out.exists()
    try:
        main()
    except Refusal as said:
        expect(sentence in str(said) and "\n" not in str(said), f"{sentence!r} is said, in one line: {said}")
    else:
        sys.exit(f"FAILED: it is not refused: {sentence}")
    expect(out.exists() == was_there, f"no folder is made: {out}")


def refusals(here):
    """In this process, which has PyTorch."""
    sys.path.insert(0, str(HERE))
    import distill
    import train
    text, whole, foreign = here / "stories.txt", here / "whole", here / "foreign"
    (here / "latin").write_bytes(b"caf\xe9\n\nbar")
    (here / "short").write_text("one document")
    foreign.mkdir()
    (foreign / "config.json").write_text('{"model_type": "gpt2"}')
    (foreign / "tokenizer.model").write_bytes(b"no model")
    out = ["--out", here / "refused"]
    refused(train.main, [here / "absent", *out], "absent: No such file or directory")
    refused(train.main, [here / "latin", *out], "is not UTF-8 text (byte 3)")
    refused(train.main, [here / "short", *out], "takes 2 at least")
    made = [text, *SHAPE, "--vocabulary", 500]
    refused(train.main, [*made, "--out", whole], "exists; name another folder")
    refused(train.main, [*made, "--out", here / "absent/model"], "there is no folder")
    refused(train.main, [*made, *out, "--vocabulary", 9], "no vocabulary of 9 pieces")
    refused(train.main, [*made, *out, "--kv-heads", 3], "4 attention heads cannot share 3")
    refused(train.main, [*made, *out, "--tokenizer", foreign], "is no SentencePiece model")
    made = [text, *SHAPE, "--teacher", whole]
    refused(distill.main, [*made, *out, "--alpha", 2], "must lie between 0 and 1")
    refused(distill.main, [*made, *out, "--temperature", 0], "it must be larger")
    refused(distill.main, [*made, *out, "--given"], "needs --targets")
    refused(distill.main, [*made, *out, "--context", 100], "the teacher's context is 64 tokens")
    refused(distill.main, [*made, *out, "--given", "--targets", here / "absent"], "00000.npz is missing")
    (foreign / "tokenizer.model").write_bytes((whole / "tokenizer.model").read_bytes())
    refused(distill.main, [*made, *out, "--teacher", foreign], "is a model of type 'gpt2'")


def same(one, other):
    for path in sorted(one.iterdir()):
        expect(path.read_bytes() == (other / path.name).read_bytes(), f"{path.name} has the same bits")


def main():
    if sys.argv[1] == "--refusals":
        return refusals(pathlib.Path(sys.argv[2]))
    tool, python = str(pathlib.Path(sys.argv[1]).resolve()), python_with_torch()
    with tempfile.TemporaryDirectory() as temporary:
        here = pathlib.Path(temporary)
        text = here / "stories.txt"
        text.write_text(run(sys.executable, ROOT / "model/stories.py", "--count", 120).stdout)
        train = [python, HERE / "train.py", text, *SHAPE, "--vocabulary", 500, "--out"]
        whole = run(*train, here / "whole")
        expect(whole.returncode == 0 and " left" in whole.stdout and "held out" in whole.stdout,
               f"train.py: {whole.stdout}{whole.stderr}")
        interrupted([*train, here / "parts"], here / "parts")
        same(here / "whole", here / "parts")

        distill = [python, HERE / "distill.py", text, *SHAPE, "--layers", 1, "--teacher", here / "whole",
                   "--alpha", 0.5, "--temperature", 2, "--hidden-weight", 0.1, "--out"]
        student = run(*distill, here / "student")
        expect(student.returncode == 0, f"distill.py: {student.stdout}{student.stderr}")
        interrupted([*distill, here / "student-parts"], here / "student-parts")
        same(here / "student", here / "student-parts")

        for folder in ("whole", "student"):
            converted = run(tool, "convert", here / folder, "-o", here / f"{folder}.gguf")
            expect(converted.returncode == 0, f"thimble convert {folder}: {converted.stderr}")
            told = run(tool, "run", "-m", here / f"{folder}.gguf", "-n", 8, "--json", stdin=subprocess.DEVNULL)
            expect(told.returncode == 0 and json.loads(told.stdout)["ids"], f"thimble run {folder}: {told.stderr}")

        said = run(python, HERE / "train.py", here / "absent", "--out", here / "refused")
        expect(said.returncode == 1 and said.stderr.count("\n") == 1, f"one line, exit code 1: {said.stderr}")
        in_torch = run(python, __file__, "--refusals", here)
        expect(in_torch.returncode == 0, f"refusals: {in_torch.stderr}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

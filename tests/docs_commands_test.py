#!/usr/bin/env python3
"""Runs every thimble command that stands in a block of code of a page, as it stands there.

    tests/docs_commands_test.py build/thimble build/firmware/simulated/simulated_board

Each page has a folder of its own, in which its commands run one after the other. What a reader has and this tree has not is
a stand-in of this tree: another model, a folder for the card, a server on this computer (STAND_INS). What takes minutes is
made shorter, and says so in SHORTER. Nothing else is left out: a command that needs hardware would have to be named here.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "model/README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("train/*.md")])

# In a page: what stands for it here.
STAND_INS = {
    r"arnir0/Tiny-LLM": "Tiny-LLM",
    r"SmolLM2-135M": "Tiny-LLM",
    r"/media/(you|\$USER)/CARD": "CARD",
    r"http://(192\.168\.1\.5:8080|localhost:11434)": "$SERVER",
    r"https://example\.org/v1": "$SERVER/v1",
}
SHORTER = {
    r"--draft-tokens 60000": "--draft-tokens 600",
    r"synth tiny-llm": "synth small",
    r"(story\.gguf.*) -c 512": r"\1 -c 64",
    r" -n 32\b": " -n 4",
    r" -cnv\b": " -cnv -n 20",  # the bundled model, which was not made for it, may fill the context
}
LONGEST_S = 240
CHATML = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
          "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


def lines_of(text):
    for block in re.findall(r"^[ ]*```[^\n]*\n(.*?)^[ ]*```", text, re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            if not re.match(r"\s*(\$ |[A-Z_]+=\S* |echo [^|]*\| )?\s*(build/)?(firmware/simulated/)?(thimble|simulated_board) ", line):
                continue
            # Two spaces, or a number sign, begin what is said about the command.
            yield re.split(r"\s{2,}|\s#", line.strip().removeprefix("$").strip())[0]


class Bench:
    """What the commands of all pages need."""

    def __init__(self, tool, board, folder):
        self.tool, self.board, self.folder = tool, board, folder
        self.folder.mkdir()
        self.model = folder / "base.gguf"
        self.call("convert", ROOT / "model/thimble-stories", "-o", self.model)
        self.call("prepare", self.model)
        # As one that was made for conversations.
        chat = shutil.copytree(ROOT / "model/thimble-stories", folder / "chat")
        (chat / "tokenizer_config.json").write_text(json.dumps({"chat_template": CHATML}), encoding="utf-8")
        self.call("convert", chat, "-o", folder / "chat.gguf")
        self.call("card", self.model, "-o", folder / "card.img")
        self.call("convert", ROOT / "model/thimble-stories-flash", "-o", folder / "flash.gguf", "--quant", "q8_0")
        report = subprocess.run([board, folder / "card.img"], input="doctor --report\n", text=True, capture_output=True)
        (folder / "capture.txt").write_text(report.stdout, encoding="utf-8")

    def call(self, *words):
        subprocess.run([self.tool, *map(str, words)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)

    def furnish(self):
        """The folder of a page."""
        there = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        (there / "build/firmware/simulated").mkdir(parents=True)
        (there / "build/thimble").symlink_to(self.tool)
        net = self.tool.with_name("thimble-net")
        if net.exists():
            (there / "build/thimble-net").symlink_to(net)
        (there / "build/firmware/simulated/simulated_board").symlink_to(self.board)
        (there / "model").symlink_to(ROOT / "model")
        (there / "firmware").mkdir()
        (there / "CARD").mkdir()
        for name, folder in (("Tiny-LLM", "thimble-stories"), ("my-model", "thimble-stories"),
                             ("my-student", "thimble-stories-flash")):
            (there / name).symlink_to(ROOT / "model" / folder)
        for name in ("tiny-llm", "stories", "story"):
            shutil.copy(self.model, there / f"{name}.gguf")
            shutil.copy(self.model.with_suffix(".thimble"), there / f"{name}.thimble")
        for name in ("card.img", "chat.gguf", "flash.gguf", "capture.txt"):
            shutil.copy(self.folder / name, there / name)
        real = os.environ.get("THIMBLE_REAL_MODELS")
        if real:
            for name, source in (("stories15M.bin", "stories260K.bin"), ("tokenizer.bin", "tok512.bin")):
                with contextlib.suppress(FileNotFoundError):
                    shutil.copy(pathlib.Path(real) / "stories260K" / source, there / name)
        return there


def serves(command):
    return re.search(r"thimble serve |--http ", command) is not None


@contextlib.contextmanager
def served(command, there, environment):
    """A command that goes on until it is told to end: yields where it listens, or None."""
    process = subprocess.Popen(["bash", "-c", f"exec {command}"], cwd=there, env=environment, stdin=subprocess.PIPE, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said, address = "", None
    try:
        for line in process.stdout:
            said += line
            found = re.search(r"http://[\d.]+:\d+", line)
            if found:
                address = found[0]
                break
        yield address, said
    finally:
        process.terminate()
        process.communicate()


def main():
    tool, board = (pathlib.Path(word).resolve() for word in sys.argv[1:3])
    failures, ran, left = [], 0, 0
    with tempfile.TemporaryDirectory() as work:
        bench = Bench(tool, board, pathlib.Path(work) / "bench")
        path = f"{tool.parent}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path}
        has_network = tool.with_name("thimble-net").exists()
        with contextlib.ExitStack() as stack:
            if has_network:
                command = f"thimble serve {bench.model} --chat-template chatml --port 0 --no-open"
                environment["SERVER"], _ = stack.enter_context(served(command, bench.folder, environment))
            for page in PAGES:
                commands = list(lines_of(page.read_text(encoding="utf-8")))
                there = bench.furnish() if commands else None
                for written in commands:
                    command = written
                    for pattern, stand_in in {**STAND_INS, **SHORTER}.items():
                        command = re.sub(pattern, stand_in, command)
                    needs_network = serves(command) or "$SERVER" in command
                    missing = [name for name in ("stories15M.bin",) if name in command and not (there / name).exists()]
                    if missing or (needs_network and not has_network):
                        left += 1
                        continue
                    ran += 1
                    where = f"{page.relative_to(ROOT)}: '{written}'"
                    if serves(command):
                        command = re.sub(r"--port \d+", "", command).replace("--http 8080", "--http 0")
                        if "--http" not in command:
                            command += " --port 0 --no-open"
                        with served(command, there, environment) as (address, said):
                            if not address:
                                failures.append(f"{where} does not say where it listens: {said}")
                        continue
                    done = subprocess.run(["bash", "-c", command], cwd=there, env=environment, text=True, input="Hello\n",
                                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LONGEST_S)
                    if done.returncode != 0:
                        failures.append(f"{where} ends with {done.returncode}: {done.stdout[-600:]}")
    print("\n".join(failures) or f"{ran} commands of the pages run; {left} left out for want of a model or the network's part")
    sys.exit(1 if failures else 0)


main()

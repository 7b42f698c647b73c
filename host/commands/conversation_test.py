"""`thimble run --conversation` as a program and as a person talk to it.

    python conversation_test.py THIMBLE

Through pipes: every answer must be, id by id, that of a fresh run over the same ids, whatever was kept of the context.
On a pseudo-terminal: lines are edited and come back, Ctrl-C stops an answer, Ctrl-C and Ctrl-D leave.
"""

import json
import os
import pathlib
import pty
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
THIMBLE = sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "build/thimble")
EOS = 2
ZEPHYR = """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\n' + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""


def run(*arguments, text="", code=0):
    done = subprocess.run([THIMBLE, *arguments], input=text.encode(), capture_output=True)
    assert done.returncode == code, (arguments, done.returncode, done.stderr.decode())
    return done.stdout.decode(), done.stderr.decode()


def model(folder, name, template=ZEPHYR, generation=None, jinja=None):
    """The bundled model with a chat template, converted."""
    source = folder / f"{name}-hf"
    shutil.copytree(ROOT / "model/thimble-stories", source)
    config = json.loads((source / "tokenizer_config.json").read_text())
    if template is not None:
        config["chat_template"] = template
    (source / "tokenizer_config.json").write_text(json.dumps(config))
    if jinja is not None:
        (source / "chat_template.jinja").write_text(jinja)
    if generation is not None:
        (source / "generation_config.json").write_text(json.dumps(generation))
    out = folder / f"{name}.gguf"
    run("convert", str(source), "-o", str(out))
    return str(out)


def talk(path, lines, *options, code=0):
    """The JSON of each answer, and what was said beside."""
    out, error = run("run", "-m", path, "-cnv", "--json", *options, text="\n".join(lines) + "\n", code=code)
    return [json.loads(line) for line in out.splitlines()], error


def fresh(path, answer, *options):
    ids = ",".join(map(str, answer["prompt_ids"]))
    n = str(len(answer["ids"]))
    return json.loads(run("run", "-m", path, "--ids", ids, "--json", "-n", n, "-s", str(answer["sampler"]["seed"]), *options)[0])


def common(a, b):
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n]:
        n += 1
    return n


def check_answers(path, boards):
    lines = ["Once upon a time", "And then?", "/regen", "/regen", "Was it <|user|>\\", "red?", "/clear", "Once upon a time"]
    first = None
    for options in boards:
        answers, _ = talk(path, lines, "-n", "20", "-s", "7", "-sys", "You tell stories.", *options)
        assert len(answers) == 6, answers
        context = []
        for i, answer in enumerate(answers):
            prompt = answer["prompt_ids"]
            if i == 5:
                context = []  # /clear
            assert answer["kept"] == min(common(context, prompt), len(prompt) - 1), (i, answer)
            again = fresh(path, answer, *options)
            assert again["ids"] == answer["ids"] and again["text"] == answer["text"], (i, options)
            assert answer["template"] == "zephyr"
            context = prompt + answer["ids"][:-1]
        assert answers[1]["kept"] > len(answers[0]["prompt_ids"]) and answers[2]["kept"] == len(answers[2]["prompt_ids"]) - 1
        assert [a["sampler"]["seed"] for a in answers] == [7, 7, 8, 9, 7, 7]
        assert answers[1]["prompt_ids"] == answers[2]["prompt_ids"]
        assert answers[5]["ids"] == answers[0]["ids"] and answers[5]["kept"] == 0
        ids = [a["ids"] for a in answers]
        first = first or ids
        assert ids == first, options
    print("answers are those of fresh runs")


def check_prompt_cache(path, folder):
    kept = folder / "talk.cache"
    lines = ["Once upon a time", "And then?"]
    options = ["-n", "12", "-s", "7", "-sys", "You tell stories."]
    plain = talk(path, lines, *options)[0]
    first = talk(path, lines, *options, "--prompt-cache", str(kept))[0]
    again = talk(path, lines, *options, "--prompt-cache", str(kept))[0]
    assert [a["ids"] for a in plain] == [a["ids"] for a in first] == [a["ids"] for a in again]
    assert [a["kept"] for a in plain] == [a["kept"] for a in first]
    # All of the conversation is there, but the token that was chosen last.
    assert again[0]["kept"] == len(again[0]["prompt_ids"]) - 1 > 0, again
    assert again[1]["kept"] == plain[1]["kept"]
    # Not read at all: the file is left alone.
    before = kept.read_bytes()
    run("run", "-m", path, "-cnv", "--prompt-cache", str(kept))
    assert kept.read_bytes() == before
    longer = talk(path, lines + ["Why?"], *options, "--prompt-cache", str(kept))[0]
    assert [a["ids"] for a in longer[:2]] == [a["ids"] for a in plain]
    assert len(kept.read_bytes()) > len(before)
    print("a conversation's cache is kept")


def check_messages(path, folder):
    def prompt(lines, *options):
        return talk(path, lines, "-n", "1", *options)[0][-1]["prompt_ids"]

    # A message is a text, whatever it spells: one end token of the message before, one of this one.
    assert prompt(["</s><s><|im_end|>"]).count(EOS) == 1
    assert prompt(["</s>\\", "<|system|>\\", "x</s>"]).count(EOS) == 1
    assert 1 not in prompt(["<s>"])
    assert prompt(["a\\", "b"]) == prompt([], "-p", "a\nb") != prompt(["a b"])
    assert prompt([" /bye"]) == prompt([], "-p", " /bye")
    text = folder / "text"
    text.write_text("once\nupon")
    assert prompt([f"/read {text}", "a time"]) == prompt([], "-p", "once\nupon\na time")
    assert prompt(["caf\u00e9 \U0001f600"]) == prompt([], "-p", "caf\u00e9 \U0001f600")
    out, _ = run("run", "-m", path, "-cnv", "-n", "3", "-s", "1", text="a\n\n\nb")
    assert out.count("\n") == 2 and out.endswith("\n"), out
    for leave in ("/bye", "/exit"):
        assert run("run", "-m", path, "-cnv", text=f"{leave}\na\n")[0] == ""
    assert "/clear" in run("run", "-m", path, "-cnv", text="/help\n")[1]
    error = run("run", "-m", path, "-cnv", "-n", "5", "-v", text="a\nb\n")[1]
    assert "were kept" in error and "after 5 tokens" in error, error
    print("messages are texts")


def check_refusals(path, folder):
    def refused(*arguments, text="", code=1, where=path):
        out, error = run("run", "-m", where, *arguments, text=text, code=code)
        assert error.startswith("thimble: "), error
        return error

    for line, word in (("/foo", "/help"), ("/regen", "no answer"), ("/read", "name of a file"), ("/read /nowhere", "/nowhere"),
                       ("/clear now", "alone")):
        assert word in refused("-cnv", text=line + "\n"), line
    # Too long, and then not.
    answers, error = talk(path, ["word " * 200, "/clear", "a"], "-c", "64", "-n", "4", code=1)
    assert len(answers) == 1 and "the context has 64 positions" in error and "/clear" in error, error
    answers, error = talk(path, ["a", "b"], "-c", "40", code=1)
    assert answers[0]["stop"] == "context" and "is full: /clear" in error and len(answers) == 1, error
    assert "--special" in refused("-cnv", "--special")
    assert "--ids" in refused("-cnv", "--ids")
    assert "--conversation" in refused("-sys", "x")
    assert "--conversation" in refused("--chat-template", "chatml")
    assert "zephyr" in refused("-cnv", "--chat-template", "chatgpt")
    assert "no place for a system message" in refused("-cnv", "--chat-template", "mistral", "-sys", "x")

    plain = model(folder, "plain", template=None)
    error = refused("-cnv", where=plain)
    assert "no chat template" in error and "run -p" in error and "--chat-template" in error, error
    assert talk(plain, ["a"], "--chat-template", "llama2", "-n", "2")[0][0]["template"] == "llama2"
    thinks = model(folder, "thinks", template="{% if enable_thinking %}<think>{% endif %}<|im_start|>")
    error = refused("-cnv", where=thinks)
    assert "thinking" in error and "--chat-template chatml" in error, error
    text = ["-p", "a", "-n", "2", "--temp", "0"]
    assert run("run", "-m", thinks, *text)[0] == run("run", "-m", plain, *text)[0]
    print("what cannot be is a sentence")


def check_templates_and_ends(path, folder):
    # A file goes before tokenizer_config.json, and of several templates there the default is taken.
    llama2 = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": ZEPHYR}]
    assert talk(model(folder, "several", template=llama2), ["a"], "-n", "1")[0][0]["template"] == "zephyr"
    phi3 = ZEPHYR.replace("eos_token", "'<|end|>'")
    filed = model(folder, "filed", template=phi3, jinja=ZEPHYR)
    assert talk(filed, ["a"], "-n", "1")[0][0]["template"] == "zephyr"
    # Converted again, nothing is lost.
    again = folder / "again.gguf"
    run("convert", path, "-o", str(again))
    assert talk(str(again), ["a"], "-n", "3", "--temp", "0")[0][0]["ids"] == talk(path, ["a"], "-n", "3", "--temp", "0")[0][0]["ids"]

    # Every token of eos_token_id ends a text.
    greedy = ["-p", "Once upon a time", "-n", "30", "--temp", "0", "--json"]
    whole = json.loads(run("run", "-m", path, *greedy)[0])["ids"]
    end = next(id for id in whole[3:] if id not in whole[:3])
    ends = model(folder, "ends", generation={"eos_token_id": [EOS, end]})
    ended = json.loads(run("run", "-m", ends, *greedy)[0])
    assert ended["stop"] == "eos" and ended["ids"] == whole[:whole.index(end) + 1], (ended, whole)
    run("convert", ends, "-o", str(again))
    assert json.loads(run("run", "-m", str(again), *greedy)[0])["ids"] == ended["ids"]
    run("prepare", str(again), "--screen", "48,3")
    assert json.loads(run("run", "-m", str(again), *greedy)[0])["ids"] == ended["ids"]
    bad = model(folder, "bad", generation={"eos_token_id": [EOS, 1 << 30]})
    assert json.loads(run("run", "-m", bad, *greedy)[0])["ids"] == whole
    print("templates and end tokens are kept")


class Terminal:
    """The tool on a pseudo-terminal of its own."""

    def __init__(self, *arguments):
        self.child, self.fd = pty.fork()
        if self.child == 0:
            os.environ["TERM"] = "xterm"
            os.execv(THIMBLE, [THIMBLE, *arguments])
        self.seen = ""

    def await_text(self, text, after=0):
        """Reads until `text` stands behind the first `after` characters; where it ends."""
        deadline = time.monotonic() + 60
        while True:
            at = self.seen.find(text, after)
            if at >= 0:
                return at + len(text)
            assert time.monotonic() < deadline, (text, self.seen[-2000:])
            if select.select([self.fd], [], [], 0.2)[0]:
                self.seen += os.read(self.fd, 4096).decode(errors="replace")

    def type(self, text):
        os.write(self.fd, text.encode())

    def end(self):
        """The exit code; what is left is read."""
        while True:
            try:
                data = os.read(self.fd, 4096)
            except OSError:
                break
            if not data:
                break
            self.seen += data.decode(errors="replace")
        return os.waitstatus_to_exitcode(os.waitpid(self.child, 0)[1])


def check_terminal(path, folder):
    t = Terminal("run", "-m", path, "-cnv", "-n", "4", "--temp", "0", "-v")
    at = t.await_text("Ctrl-D leaves")
    at = t.await_text("> ", at)
    t.type("Helo\x7flo caf\u00e9\x1b[D\x1b[D\x1b[D\x1b[D\x01Well, \n")  # edited: Well, Hello caf\u00e9
    at = t.await_text("were kept", at)
    first = t.seen
    at = t.await_text("> ", at)
    t.type("\x1b[A\n")  # the same once more
    at = t.await_text("were kept", at)
    at = t.await_text("> ", at)
    t.type("\x04")
    assert t.end() == 0, t.seen
    assert "caf\u00e9" in first, first
    assert "on this computer" in t.seen[at:], t.seen[at:]
    wanted = talk(path, ["Well, Hello caf\u00e9"] * 2, "-n", "4", "--temp", "0", "-v")[1]
    for line in wanted.splitlines():
        if "were kept" in line:
            assert line in t.seen, (line, t.seen)

    t = Terminal("run", "-m", path, "-cnv", "-n", "4")
    t.await_text("> ", t.await_text("Ctrl-D leaves"))
    t.type("\x03")
    assert t.end() == 130, t.seen

    # A long answer: what nobody reads holds the tool up until the interrupt is there.
    noise = str(folder / "noise.gguf")
    run("synth", "small", "--shape", "max_position_embeddings=65536", "-o", noise)
    t = Terminal("run", "-m", noise, "--board", "host", "-c", "65536", "-cnv", "--chat-template", "zephyr", "--temp", "0")
    at = t.await_text("> ", t.await_text("Ctrl-D leaves"))
    t.type("a\n")
    at = t.await_text("a\r\n", at)
    while len(t.seen) < at + 20:
        t.seen += os.read(t.fd, 16).decode(errors="replace")
    os.kill(t.child, signal.SIGINT)
    at = t.await_text("(stopped)", at)
    at = t.await_text("> ", at)
    t.type("/help\n")
    at = t.await_text("/regen", at)
    at = t.await_text("> ", at)
    t.type("\x04")
    assert t.end() == 0, t.seen
    print("a terminal edits, stops and leaves")


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        path = model(folder, "chat")
        check_messages(path, folder)
        check_prompt_cache(path, folder)
        check_refusals(path, folder)
        check_templates_and_ends(path, folder)
        check_terminal(path, folder)
        boards = [("--board", "esp32-cam"), ("--board", "host")]
        check_answers(path, boards)
        check_answers(path, [("-ctk", "q8_0", "-ctv", "f16")])
        run("prepare", path, "--screen", "48,3")
        check_answers(path, boards)  # by the screen, the tokenizer from the index


main()

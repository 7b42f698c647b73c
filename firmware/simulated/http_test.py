"""simulated_board over this computer's network: the firmware's own service in a board's memory (--http), and the
console's texts with help from a server.

    python http_test.py THIMBLE SIMULATED_BOARD

The service's texts must be those of `thimble run`, streamed or not, and those of a conversation the ids that `thimble
run` has for it; what asks for more than a board gives is refused with a sentence. A server's text is shown as it is; one
that falls silent is not waited for, and the board goes on with what `thimble run` makes of the text so far.
"""

import json
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from support.hostile_server import HEAD, Hostile, event, sends, sends_and_waits
from support.service import Service

BEGINNING = "Once upon a time"
LONG_WAIT_S = 60


def tool(*arguments):
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=10 * LONG_WAIT_S)
    assert done.returncode == 0, (arguments, done.stderr)
    return done.stdout


class Board:
    def __init__(self, program, card, *options):
        self.process = subprocess.Popen([program, *options, "--http", "0", card], text=True, stdout=subprocess.PIPE)
        self.printed = ""
        for line in self.process.stdout:
            self.printed += line
            if found := re.match(r"http://127\.0\.0\.1:\d+", line):
                self.url = found[0]
                return
        raise AssertionError(self.printed)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(LONG_WAIT_S) == 0
        self.process.stdout.close()

    def ask(self, path, body=None):
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, data=data), timeout=LONG_WAIT_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def json(self, path, body=None):
        status, answer = self.ask(path, body)
        assert status == 200, answer
        return json.loads(answer)


def refused(board, path, body, status, words):
    got, answer = board.ask(path, body)
    assert got == status and words in json.loads(answer)["error"]["message"], (path, body, got, answer)


def check_texts(thimble, board, model):
    for options, fields in (([], {}), (["--temp", "0"], {"temperature": 0}), (["--top-k", "7"], {"top_k": 7}),
                            (["--repeat-penalty", "1.2"], {"repeat_penalty": 1.2})):
        want = json.loads(tool(thimble, "run", "-m", model, "-p", BEGINNING, "--json", "-n", "24", "-s", "5", *options))
        body = {"prompt": BEGINNING, "max_tokens": 24, "seed": 5, **fields}
        whole = board.json("/v1/completions", body)
        assert whole["choices"][0]["text"] == want["text"], (whole, want["text"])
        assert whole["usage"]["prompt_tokens"] == len(want["prompt_ids"]), whole["usage"]
        status, streamed = board.ask("/v1/completions", {**body, "stream": True, "cache_prompt": False})
        parts = [event[len("data: "):] for event in streamed.split("\n\n") if event.startswith("data: ")]
        assert status == 200 and parts.pop() == "[DONE]"
        assert "".join(json.loads(part)["choices"][0]["text"] for part in parts) == want["text"]
        llama = board.json("/completion", {"prompt": want["prompt_ids"], "n_predict": 24, "seed": 5, **fields})
        assert llama["tokens"] == want["ids"], (llama, want["ids"])


def check_rest(board):
    text = "The  cat. \u00e9\u4f60"
    ids = board.json("/tokenize", {"content": text})["tokens"]
    pieces = board.json("/tokenize", {"content": text, "with_pieces": True})["tokens"]
    assert [piece["id"] for piece in pieces] == ids, (ids, pieces)
    assert text in board.json("/detokenize", {"tokens": ids})["content"]
    assert "<title>Thimble</title>" in board.ask("/")[1]
    memory = {use["name"]: use for use in board.json("/props")["board"]["memory"]}
    assert 0 < memory["sram_dma"]["used_bytes"] <= memory["sram_dma"]["capacity_bytes"], memory
    refused(board, "/detokenize", {"tokens": [100000]}, 400, "vocabulary")
    refused(board, "/v1/completions", {"prompt": "a " * 2000}, 400, "")
    refused(board, "/v1/completions", {"prompt": [5, 999999]}, 400, "999999")
    refused(board, "/v1/completions", b'{"prompt": "' + b"a" * 20000 + b'"}', 413, "16384")
    refused(board, "/nothing", {}, 404, "endpoint")
    # Who comes while a text is made is told how the board is, and waits for a text.
    answers = []
    endless = {"prompt": BEGINNING, "temperature": 1, "max_tokens": 200, "n": 2}
    threads = [threading.Thread(target=lambda: answers.append(board.ask("/v1/completions", endless))) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert board.json("/health") == {"status": "ok"}
    assert board.json("/tokenize", {"content": "a"})["tokens"]
    for thread in threads:
        thread.join(LONG_WAIT_S)
    assert [status for status, _ in answers] == [200] * 3, answers


def check_help(thimble, simulated, card, model):
    """The console's texts, with a server that answers and with ones that do not."""
    key = "sk-never-shown"

    def typed(*lines):
        done = subprocess.run([simulated, "--board", "esp32-cam-wifi", card], input="".join(line + "\n" for line in lines),
                              capture_output=True, text=True, timeout=LONG_WAIT_S)
        assert done.returncode == 0 and key not in done.stdout + done.stderr, done
        return done.stdout

    def told(text, tokens=24):
        return json.loads(tool(thimble, "run", "-m", model, "-p", text, "--json", "-n", str(tokens), "-s", "5"))

    settings = ["set predict 24", "set seed 5"]
    want = told(BEGINNING)
    with Service(thimble, "--api-key", key, model=model) as server:
        shown = typed(*settings, f"server {server.url} remote", "server --key", key, f"run {BEGINNING}")
        assert f"{want['text']}\n[by the server {server.url} (model stories)]\n" in shown, (shown, want)
    begun = ", there was a"
    used = len(told(BEGINNING + begun, 1)["prompt_ids"]) - len(want["prompt_ids"])
    rest = told(BEGINNING + begun, 24 - used)["text"]
    with Hostile(sends_and_waits(HEAD + b"\r\n" + event(begun[:7]) + event(begun[7:]))) as server:
        shown = typed(*settings, f"server {server.url}", "server --wait 1", f"run {BEGINNING}")
        assert (f"{begun}{rest}\n[the first {len(begun)} bytes by the server {server.url}, the rest by the model here, "
                f"because the server {server.url} gave no more text for 1 s]\n[{24 - used} tokens") in shown, (shown, rest)
    with Hostile(sends()) as server:
        shown = typed(*settings, f"server {server.url}", f"run {BEGINNING}")
        assert f"{want['text']}\n[by the model here, because the server {server.url} hung up" in shown, (shown, want)
        shown = typed(*settings, f"server {server.url} remote", f"run {BEGINNING}")
        assert f"\nerror: the server {server.url} hung up" in shown, shown


def main():
    thimble, simulated = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as folder:
        model, card = folder + "/stories.gguf", folder + "/card.img"
        tool(thimble, "convert", str(ROOT / "model/thimble-stories"), "-o", model)
        tool(thimble, "prepare", model, "--screen", "48,3", "--board", "esp32-cam-wifi")
        tool(thimble, "card", model, "-o", card)
        for name in "esp32-cam-wifi", "esp32-cam":
            with Board(simulated, card, "--board", name) as board:
                assert board.json("/props")["board"]["name"] == name
                check_texts(thimble, board, model)
                check_rest(board)
                refused(board, "/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}, 400, "chat template")
        check_help(thimble, simulated, card, model)
        bare = subprocess.run([simulated, "--board", "esp32", "--http", "0", card], capture_output=True, text=True)
        assert bare.returncode == 1 and "without PSRAM" in bare.stdout, bare


main()

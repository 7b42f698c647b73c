"""thimble serve, as programs and people meet it: OpenAI's Python client, curl, a browser's requests, and hostile ones.

    python serve_test.py THIMBLE [HOSTILE_REQUESTS]

Texts must be those of `thimble run`. Whatever comes, each request gets a whole answer or 503 with Retry-After, and the
service keeps its threads and descriptors, and its memory. Exits with 77, "not run", where the packages of tests/requirements.txt are
missing.
"""

import concurrent.futures
import contextlib
import http.client
import json
import os
import pathlib
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

try:
    import openai
except ImportError as missing:
    print(f"SKIPPED: {missing}; ./check installs it in build/venv")
    sys.exit(77)

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from support.service import LONG_WAIT_S, MODEL, Service, post, until

BEGINNING = "Once upon a time"


def events(text):
    return [event[len("data: "):] for event in text.split("\n\n") if event.startswith("data: ")]


def run(thimble, *options):
    out = subprocess.run([thimble, "run", "-m", MODEL, "-p", BEGINNING, "--json", *options], check=True,
                         capture_output=True, text=True).stdout
    return json.loads(out)


def check_texts(thimble, service):
    """The service's texts are the tool's, streamed or not, whatever was kept of the texts before."""
    for options, fields in (([], {}), (["--temp", "0"], {"temperature": 0}), (["--top-k", "7"], {"top_k": 7}),
                            (["--repeat-penalty", "1.2"], {"repeat_penalty": 1.2}),
                            (["--min-p", "0", "--top-p", "0.7"], {"min_p": 0, "top_p": 0.7})):
        want = run(thimble, "-n", "60", "-s", "5", "--stop", "Then", *options)
        body = {"prompt": BEGINNING, "max_tokens": 60, "seed": 5, "stop": "Then", **fields}
        whole = service.json("/v1/completions", body)
        choice = whole["choices"][0]
        assert choice["text"] == want["text"], (choice, want["text"])
        assert choice["finish_reason"] == ("length" if want["stop"] == "limit" else "stop"), (choice, want["stop"])
        assert whole["usage"]["prompt_tokens"] == len(want["prompt_ids"]), whole["usage"]
        assert whole["usage"]["completion_tokens"] == len(want["ids"]), whole["usage"]
        streamed = service.ask("POST", "/v1/completions", {**body, "stream": True, "cache_prompt": False})
        assert streamed[1]["Content-Type"].startswith("text/event-stream"), streamed[1]
        parts = events(streamed[2].decode())
        assert parts.pop() == "[DONE]"
        assert "".join(json.loads(part)["choices"][0]["text"] for part in parts) == want["text"]
        llama = service.json("/completion", {"prompt": want["prompt_ids"], "n_predict": 60, "seed": 5, "stop": ["Then"],
                                             **fields})
        assert llama["content"] == want["text"] and llama["tokens"] == want["ids"], llama
        assert llama["stopping_word"] == ("Then" if want["stop"] == "stop" else ""), llama
        assert {"seed": 5, "n_predict": 60, "stop": ["Then"], **fields}.items() <= llama["generation_settings"].items()
        assert llama["stop_type"] == {"limit": "limit", "stop": "word", "eos": "eos"}[want["stop"]], llama


def check_cache(service):
    fresh = service.json("/v1/completions", {"prompt": "The cat", "max_tokens": 8, "temperature": 0})
    longer = service.json("/v1/completions",
                          {"prompt": "The cat" + fresh["choices"][0]["text"], "max_tokens": 8, "temperature": 0})
    assert longer["usage"]["prompt_tokens_details"]["cached_tokens"] >= 8, longer["usage"]
    cold = service.json("/v1/completions", {"prompt": "The cat" + fresh["choices"][0]["text"], "max_tokens": 8,
                                            "temperature": 0, "cache_prompt": False})
    assert cold["usage"]["prompt_tokens_details"]["cached_tokens"] == 0, cold["usage"]
    assert cold["choices"] == longer["choices"]
    ledger = service.json("/thimble/ledger")
    assert ledger["card_bytes"] > 0 and ledger["reads"] > 0 and ledger["completion_tokens"] == 8, ledger
    # A stream counts as it comes, and ends with all of it.
    streamed = service.ask("POST", "/v1/completions", {"prompt": "The cat", "max_tokens": 8, "temperature": 0,
                                                       "stream": True, "ledger": True})
    ledgers = [json.loads(part)["ledger"] for part in events(streamed[2].decode())[:-1]]
    counted = [part["card_bytes"] for part in ledgers]
    assert counted == sorted(counted) and 0 < counted[0] < counted[-1], ledgers
    assert ledgers.pop().items() <= service.json("/thimble/ledger").items() and ledgers[-1]["tokens"] == 8, ledgers


def check_openai(service, chat):
    client = openai.OpenAI(base_url=service.url + "/v1", api_key="none")
    model = client.models.list().data[0].id
    whole = client.completions.create(model=model, prompt=BEGINNING, max_tokens=12, seed=1, n=2)
    assert len(whole.choices) == 2 and whole.choices[0].text != whole.choices[1].text
    assert whole.usage.completion_tokens == 24
    text = ""
    usage = None
    for part in client.completions.create(model=model, prompt=BEGINNING, max_tokens=12, seed=1, stream=True,
                                          stream_options={"include_usage": True}):
        text += part.choices[0].text if part.choices else ""
        usage = part.usage or usage
    assert text == whole.choices[0].text and usage.completion_tokens == 12
    try:
        client.completions.create(model=model, prompt=BEGINNING, temperature=-1)
        raise AssertionError("a temperature below 0 was taken")
    except openai.BadRequestError as refused:
        assert "temperature" in refused.message
    try:
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}])
        raise AssertionError("a chat without a template")
    except openai.BadRequestError as refused:
        assert "template" in refused.message

    client = openai.OpenAI(base_url=chat.url + "/v1", api_key="secret")
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    whole = client.chat.completions.create(model="any", messages=messages, max_completion_tokens=10, seed=3, logprobs=True,
                                           top_logprobs=3)
    message = whole.choices[0].message
    assert message.role == "assistant"
    tokens = whole.choices[0].logprobs.content
    assert len(tokens) == whole.usage.completion_tokens == 10 and all(len(t.top_logprobs) == 3 for t in tokens)
    assert all(t.logprob <= 0 and t.top_logprobs[0].logprob >= t.top_logprobs[1].logprob for t in tokens)
    text = "".join(part.choices[0].delta.content or ""
                   for part in client.chat.completions.create(model="any", messages=messages, max_tokens=10, seed=3,
                                                              stream=True))
    assert text == message.content
    for wrong in ("none", ""):
        try:
            openai.OpenAI(base_url=chat.url + "/v1", api_key=wrong or "x").models.list()
            raise AssertionError("a wrong key was taken")
        except openai.AuthenticationError:
            pass


def check_refusals(service):
    for path, body, status, words in (
            ("/v1/completions", b"{", 400, "JSON object"), ("/v1/completions", b"[]", 400, "JSON object"),
            ("/v1/completions", b'{"prompt": "\\u0000"}', 400, "JSON object"),
            ("/v1/completions", b"[" * 10000, 400, "JSON object"), ("/v1/completions", b"\xff\xfe", 400, "JSON object"),
            ("/v1/completions", {"prompt": 5}, 400, "'prompt'"), ("/v1/completions", {"prompt": ["a", "b"]}, 400, "several"),
            ("/v1/completions", {"prompt": [5, 999999]}, 400, "999999"),
            ("/v1/completions", {"prompt": [-1]}, 400, "token ids"), ("/v1/completions", {"max_tokens": "x"}, 400, "max_tokens"),
            ("/v1/completions", {"max_tokens": 1.5}, 400, "max_tokens"), ("/v1/completions", {"n": 0}, 400, "'n'"),
            ("/v1/completions", {"stop": [1]}, 400, "stop"), ("/v1/completions", {"stop": ["a"] * 17}, 400, "16"),
            ("/v1/completions", {"stop": ["a" * 100000]}, 400, "stop texts"),
            ("/v1/completions", {"stream": 1}, 400, "stream"), ("/v1/completions", {"temperature": "hot"}, 400, "temperature"),
            ("/v1/completions", {"top_p": 0}, 400, "top"), ("/v1/completions", {"logprobs": 2}, 400, "--logprobs"),
            ("/v1/completions", {"frequency_penalty": 1}, 400, "frequency_penalty"),
            ("/v1/completions", {"suffix": "x"}, 400, "suffix"), ("/v1/completions", {"prompt": "a " * 2000}, 400, "context"),
            ("/completion", {}, 400, "'prompt'"), ("/tokenize", {}, 400, "content"), ("/detokenize", {"tokens": ["a"]}, 400, "ids"),
            ("/detokenize", {"tokens": [100000]}, 400, "vocabulary"), ("/nothing", {}, 404, "endpoint"),
            ("/v1/models", {}, 405, "GET"),
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}, 400,
             "the model brings no chat template; --chat-template NAME gives it one; /v1/completions continues a text"),
            ("/v1/chat/completions", {"messages": []}, 400, "messages")):
        got, _, answer = service.ask("POST", path, body)
        error = json.loads(answer)["error"]
        assert got == status and words in error["message"], (path, body, got, error)
        assert error["type"] and set(error) == {"message", "type", "param", "code"}, error
    got, _, answer = service.ask("POST", "/v1/completions", b'{"prompt": "' + b"a" * (5 << 20) + b'"}')
    assert got == 413 and json.loads(answer)["error"]["message"], (got, answer)
    # What is not known is ignored; what is null is not there.
    assert service.ask("POST", "/v1/completions", {"prompt": "a", "max_tokens": 1, "user": "u", "stop": None})[0] == 200
    assert service.ask("GET", "/v1/completions")[0] == 405
    status, headers, _ = service.ask("OPTIONS", "/v1/completions", headers={"Origin": "http://elsewhere"})
    assert status == 204 and headers["Access-Control-Allow-Origin"] == "*", headers
    status, headers, page = service.ask("GET", "/")
    assert status == 200 and b"<title>Thimble</title>" in page and b"http" not in page.split(b"</head>")[0]
    text = "The  cat. \u00e9\u4f60"
    ids = service.json("/tokenize", {"content": text, "add_special": True})["tokens"]
    pieces = service.json("/tokenize", {"content": text, "with_pieces": True})["tokens"]
    assert [piece["id"] for piece in pieces] == ids[1:], (ids, pieces)
    assert text in service.json("/detokenize", {"tokens": ids})["content"]
    assert service.json("/health") == {"status": "ok"}
    assert service.json("/props")["total_slots"] == 1


def check_curl(service):
    if shutil.which("curl") is None:
        return
    out = subprocess.run(["curl", "-sN", service.url + "/v1/completions", "-d",
                          json.dumps({"prompt": "A", "max_tokens": 3, "stream": True})], check=True, capture_output=True)
    assert out.stdout.endswith(b"data: [DONE]\n\n"), out.stdout


ENDLESS = {"prompt": BEGINNING, "temperature": 5, "min_p": 0, "top_k": 0, "top_p": 1, "n": 16}


def check_gone(service):
    """A client that goes away ends its text; nobody waits for it."""
    for stream in (True, False):
        before = service.metric("texts_cancelled_total")
        texts = service.metric("texts_total")
        sock = service.connect(post("/v1/completions", {**ENDLESS, "stream": stream}))
        if stream:
            assert sock.recv(1000)
        else:
            until("the text begins", lambda: service.metric("requests_in_queue") == 1)
        sock.close()
        until("the text ends", lambda: service.metric("requests_in_queue") == 0)
        until("it is counted", lambda: service.metric("texts_cancelled_total") == before + 1)
        assert service.metric("texts_total") < texts + 16
    # One that waits, too.
    first = service.connect(post("/v1/completions", {**ENDLESS, "stream": True}))
    until("the first has the turn", lambda: service.metric("requests_in_queue") == 1)
    second = service.connect(post("/v1/completions", {**ENDLESS, "stream": True}))
    until("the second waits", lambda: service.metric("requests_in_queue") == 2)
    second.close()
    until("the second is gone", lambda: service.metric("requests_in_queue") == 1)
    first.close()
    until("the first is gone", lambda: service.metric("requests_in_queue") == 0)


def check_slow(thimble):
    with Service(thimble, "--timeout", "1", "--threads-http", "4") as service:
        half = [service.connect(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Le"),
                service.connect(post("/v1/completions", {"prompt": "a"})[:-3]), service.connect(b"G")]
        silent = service.connect()
        # All threads are taken, and whoever comes now is told so.
        until("somebody is sent away", lambda: service.connect(b"GET /health HTTP/1.1\r\n\r\n").recv(1000).startswith(
            b"HTTP/1.1 503"))
        for sock in half + [silent]:
            while sock.recv(1000):
                pass
            sock.close()
        assert service.json("/health") == {"status": "ok"}


def check_load(thimble):
    with Service(thimble, "--max-waiting", "8") as service:
        service.json("/v1/completions", {"prompt": "a", "max_tokens": 1})
        before = service.resources()

        def ask(i):
            status, headers, answer = service.ask("POST", "/v1/completions",
                                                  {"prompt": "a", "max_tokens": 4, "seed": i, "stream": i % 2 == 0})
            if status == 503:
                assert int(headers["Retry-After"]) > 0 and json.loads(answer)["error"]["message"]
            else:
                assert status == 200
                assert answer.endswith(b"data: [DONE]\n\n") if i % 2 == 0 else json.loads(answer)["choices"][0]["text"]
            return status

        with concurrent.futures.ThreadPoolExecutor(100) as clients:
            statuses = list(clients.map(ask, range(300)))
        assert set(statuses) <= {200, 503} and statuses.count(200) >= 9, statuses
        # One after the other on one connection: all are answered.
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=LONG_WAIT_S)
        for i in range(1000):
            connection.request("POST", "/v1/completions", json.dumps({"prompt": "a", "max_tokens": 1, "seed": i}))
            answer = connection.getresponse()
            assert answer.status == 200 and json.loads(answer.read())["choices"]
        connection.close()
        until("nothing is kept", lambda: service.count() == before)
        assert service.metric("texts_total") == 1 + 1000 + statuses.count(200)


# Of hostile requests, so many fill caches and stacks; what the others leave behind is less than 500 bytes for each.
WARM_UP = 1000
MOST_GROWTH_BYTES = 4 << 20


def check_hostile(thimble, requests):
    choices = random.Random(5)
    good = [post("/v1/completions", {"prompt": "a", "max_tokens": 1}), post("/tokenize", {"content": "abc"}),
            b"GET /props HTTP/1.1\r\nHost: x\r\n\r\n", post("/v1/chat/completions", {"messages": [{"role": "user"}]})]
    with Service(thimble, "--timeout", "1") as service:
        service.json("/props")
        before = service.resources()
        for i in range(requests):
            data = bytearray(choices.choice(good))
            for _ in range(choices.randrange(1, 8)):
                kind = choices.randrange(5)
                at = choices.randrange(len(data) + 1)
                if kind == 0:
                    data[at:at] = choices.randbytes(choices.randrange(1, 9))
                elif kind == 1:
                    del data[at:at + choices.randrange(1, 9)]
                elif kind == 2 and at < len(data):
                    data[at] = choices.randrange(256)
                elif kind == 3:
                    data[at:at] = choices.choice([b"[" * 200, b"\r\n" * 20, b"X: y\r\n" * 200, b'"' * 9, b"9" * 40, b"\0"])
                else:
                    del data[at:]
            sock = service.connect()
            try:
                sock.sendall(data)
                if i % 4 == 0:
                    sock.shutdown(socket.SHUT_WR)
                    sock.recv(4096)
            except OSError:
                pass  # it may hang up on what is none
            sock.close()
            if i == WARM_UP:
                service.resources()
                warm = service.memory_bytes()
        until("nothing is kept", lambda: service.count() == before)
        assert service.json("/v1/completions", {"prompt": "a", "max_tokens": 1})["choices"]
        grown = service.memory_bytes() - warm
        assert grown < MOST_GROWTH_BYTES, f"{requests - WARM_UP} requests left {grown} bytes behind"


def check_end(thimble):
    """Who is answered when the service ends is told so, and it ends."""
    service = Service(thimble)
    sock = service.connect(post("/v1/completions", {**ENDLESS, "stream": True}))
    assert sock.recv(100)
    service.process.send_signal(signal.SIGINT)
    rest = b""
    while part := sock.recv(65536):
        rest += part
    assert b'"shutting_down"' in rest and b"data: [DONE]" in rest, rest[-500:]
    service.wait()
    with Service(thimble) as first:
        other = subprocess.run([thimble, "serve", "-m", MODEL, "--port", str(first.port)], capture_output=True, text=True)
        assert other.returncode == 1 and "cannot be had" in other.stderr, other


def check_manual(thimble):
    """The commands of docs/serve.md run: services on ports of their own, then whoever asks them."""
    blocks = re.findall(r"```(sh|python)\n(.*?)```", (ROOT / "docs/serve.md").read_text(), re.S)
    lines = [line for kind, block in blocks if kind == "sh" for line in block.splitlines()]
    starts = [shlex.split(line)[4:] for line in lines if line.startswith("build/thimble serve -m model/thimble-stories")]
    with contextlib.ExitStack() as stack:
        services = []
        for options in starts:
            local = [option for option in options if option not in ("--port", "8081", "--host", "0.0.0.0")]
            services.append(stack.enter_context(Service(thimble, *local)))
        plain, chat, keyed = services
        asked = 0
        for kind, block in blocks:
            for command in [block] if kind == "python" else block.splitlines():
                service = keyed if "Bearer" in command else plain
                command = command.replace("127.0.0.1:8080", f"127.0.0.1:{service.port}")
                command = command.replace("127.0.0.1:8081", f"127.0.0.1:{chat.port}")
                if command.startswith("build/thimble") or (command.startswith("curl") and shutil.which("curl") is None):
                    continue
                run = [sys.executable, "-c", command] if kind == "python" else ["sh", "-c", command.replace("curl", "curl -sSf")]
                out = subprocess.run(run, capture_output=True, text=True)
                assert out.returncode == 0 and len(out.stdout) > 20, (command, out)
                asked += 1
        assert asked >= 2, blocks


def check_opening(thimble):
    """The page is opened for who sits at a terminal of a desktop, and for nobody else."""
    with tempfile.TemporaryDirectory() as folder:
        asked = pathlib.Path(folder) / "asked"
        opener = pathlib.Path(folder) / "xdg-open"
        opener.write_text(f'#!/bin/sh\nprintf "%s\\n" "$1" >"{asked}.new"\nmv "{asked}.new" "{asked}"\n')
        opener.chmod(0o755)
        no_desktop = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
        no_desktop["PATH"] = folder + ":" + os.environ["PATH"]
        for opens, on_terminal, display, options in (
                (True, True, "DISPLAY", ()), (True, True, "WAYLAND_DISPLAY", ("--api-key", "secret")),
                (False, True, "", ()), (False, False, "DISPLAY", ()), (False, True, "DISPLAY", ("--no-open",)),
                (False, True, "DISPLAY", ("--no-webui",))):
            ours, its = os.openpty() if on_terminal else os.pipe()
            process = subprocess.Popen([thimble, "serve", "-m", MODEL, "--port", "0", *options], stdout=its,
                                       stderr=subprocess.DEVNULL, env={**no_desktop, **({display: ":7"} if display else {})})
            os.close(its)
            url = os.read(ours, 1000).decode().split()[0]
            if opens:
                until("the page is opened", asked.exists)
                assert asked.read_text() == url + "/\n", (asked.read_text(), url)
                asked.unlink()
            process.send_signal(signal.SIGTERM)
            assert process.wait(LONG_WAIT_S) == 0
            os.close(ours)
            assert not asked.exists(), (on_terminal, display, options)


def main():
    thimble = sys.argv[1]
    hostile = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    with Service(thimble) as service, Service(thimble, "--chat-template", "chatml", "--api-key", "secret",
                                              "--logprobs") as chat:
        check_texts(thimble, service)
        check_cache(service)
        check_openai(service, chat)
        check_refusals(service)
        check_curl(service)
        check_gone(service)
    check_slow(thimble)
    check_load(thimble)
    check_hostile(thimble, hostile)
    check_end(thimble)
    check_opening(thimble)
    check_manual(thimble)


main()

"""thimble run --server, with `thimble serve` as the server, and with servers that are slow, gone, or hostile.

    python server_test.py THIMBLE

What a server makes is shown as it is, once; what the model here makes instead is what it would make of the same text
without a server; whatever a server does, there is a whole answer or one sentence, and no key in it.
"""

import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from support.hostile_server import HEAD, LONG_WAIT_S, Hostile, chunk, event, repeats, sends, sends_and_waits

MODEL = str(ROOT / "model/thimble-stories")
BEGINNING = "Once upon a time"
KEY = "sk-never-shown"
# After which a server is gone: where it says nothing at all, and where it says something first, however busy we are.
AT_ONCE = ("--server-timeout", "0.2")
SOON = ("--server-timeout", "2")
IN_TIME = ("--server-timeout", "60")
CHAT = ["-cnv", "--chat-template", "chatml"]

thimble = sys.argv[1]


def run(*options, text=BEGINNING, tokens=24, env=None):
    """One run; its text is read from standard output where there is no --json."""
    environment = {**os.environ, **(env or {})}
    done = subprocess.run([thimble, "run", "-m", MODEL, "-p", text, "-n", str(tokens), "-s", "5", *options], env=environment,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LONG_WAIT_S)
    assert KEY not in done.stdout + done.stderr, done
    return done


def run_json(*options, **more):
    done = run("--json", *options, **more)
    assert done.returncode == 0, done
    return json.loads(done.stdout)


class Served:
    """`thimble serve` in another process."""

    def __init__(self, *options):
        self.process = subprocess.Popen([thimble, "serve", "-m", MODEL, "--port", "0", "--no-webui", *options], text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.url = re.match(r"http://127\.0\.0\.1:\d+", self.process.stdout.readline())[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(LONG_WAIT_S)
        self.process.stdout.close()


def check_server(server):
    """What `thimble serve` makes is what it makes here: the same ids, the same sampler, the same seed."""
    for options in (["--temp", "0"], ["--top-k", "7", "--min-p", "0"], ["--stop", "Leo"],
                    ["--repeat-penalty", "1.3", "--repeat-last-n", "-1", "--top-p", "0.8"]):
        want = run_json(*options)
        got = run_json(*options, "--server", server.url + "/v1/")
        assert got["text"] == want["text"] and got["prompt_ids"] == want["prompt_ids"], (got, want)
        assert got["stop"] == want["stop"], (got, want)
        assert got["server"] == {"url": server.url, "model": "thimble-stories", "text_bytes": len(got["text"]),
                                 "made_by": "server", "why": None}, got
        shown = run(*options, "--server", server.url, "--server-mode", "remote")
        assert shown.returncode == 0 and shown.stdout == BEGINNING + want["text"] + "\n", shown
        assert f"\nanswer    by the server {server.url} (model thimble-stories)\n" in shown.stderr, shown


def talk(*options, messages="Hello\nAnd then?\n/regen\n", json_too=True):
    done = subprocess.run([thimble, "run", "-m", MODEL, *CHAT, "-n", "12", "-s", "5", *options,
                           *(["--json"] if json_too else [])],
                          input=messages, capture_output=True, text=True, timeout=LONG_WAIT_S)
    assert KEY not in done.stdout + done.stderr, done
    return done


def check_chat(server):
    want = [json.loads(line)["text"] for line in talk().stdout.splitlines()]
    got = [json.loads(line) for line in talk("--server", server.url).stdout.splitlines()]
    assert len(want) == 3 and [answer["text"] for answer in got] == want, (got, want)
    assert all(answer["server"]["made_by"] == "server" for answer in got), got
    shown = talk("--server", server.url, json_too=False)
    assert shown.stdout == "".join(text + "\n" for text in want), (shown, want)
    assert shown.stderr.count(f"(by the server {server.url} (model thimble-stories))\n") == 3, shown
    # What has no room is forgotten, the system's message never.
    long = "a b c d e f g h\n" * 9
    crowded = talk("-c", "128", "-sys", "Be brief", "--server", server.url, messages=long)
    assert crowded.returncode == 0 and len(crowded.stdout.splitlines()) == 9, crowded
    assert "messages: they are forgotten)" in crowded.stderr, crowded
    assert all(len(json.loads(line)["prompt_ids"]) <= 128 for line in crowded.stdout.splitlines())


def check_fallback():
    """Where the server is gone, the model here makes what it makes without one; where it breaks off, what it makes of
    the text so far."""
    alone = run_json()
    for act, patience in ((sends(), IN_TIME), (sends(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"), IN_TIME),
                          (sends(HEAD + b"\r\n" + b"data: {}\n\n"), IN_TIME), (sends_and_waits(), AT_ONCE),
                          (sends_and_waits(HEAD + b"\r\n"), AT_ONCE)):
        with Hostile(act) as server:
            got = run_json("--server", server.url, *patience)
            assert got["text"] == alone["text"] and got["ids"] == alone["ids"], (got, alone)
            assert got["server"]["made_by"] == "here" and server.url in got["server"]["why"], got
            assert patience == AT_ONCE or len(server.requests) == 1, server.requests
    begun = ", there was a"
    used = len(run_json(tokens=1, text=BEGINNING + begun)["prompt_ids"]) - len(alone["prompt_ids"])
    want = run_json(tokens=24 - used, text=BEGINNING + begun)  # so many are left
    for end, patience in ((sends, IN_TIME), (sends_and_waits, SOON)):
        with Hostile(end(HEAD + b"\r\n" + event(", there") + event(" was a") + b"data: {\"conte")) as server:
            got = run_json("--server", server.url, *patience)
            assert got["text"] == begun + want["text"] and got["ids"] == want["ids"], (got, want)
            assert got["server"]["made_by"] == "both" and got["server"]["text_bytes"] == len(begun), got
            if patience == SOON:
                continue
            shown = run("--server", server.url)
            assert shown.returncode == 0 and shown.stdout == BEGINNING + begun + want["text"] + "\n", shown
            assert f"answer    the first {len(begun)} bytes by the server {server.url}, the rest by the model here" in (
                shown.stderr), shown
    # In a conversation: what an answer begins with belongs to it.
    part = json.dumps({"choices": [{"index": 0, "delta": {"content": "Once there was"}}]}).encode()
    with Hostile(sends(HEAD + b"\r\ndata: " + part + b"\n\n")) as server:
        done = talk("--server", server.url, messages="Hello\n")
        answer = json.loads(done.stdout)
        assert answer["text"].startswith("Once there was") and answer["text"].count("Once there was") == 1, answer
        assert answer["server"]["made_by"] == "both" and answer["ids"], answer
        assert server.requests[0][1]["messages"] == [{"role": "user", "content": "Hello"}], server.requests
    with Hostile(sends()) as server:
        gone = [json.loads(line)["text"] for line in talk("--server", server.url).stdout.splitlines()]
        assert gone == [json.loads(line)["text"] for line in talk().stdout.splitlines()], gone


def check_hostile():
    """In the mode `remote` each is one sentence, and what was shown before is shown once."""
    begun = event("One")
    cases = (
            (sends(), "hung up", ""), (sends_and_waits(), "no text for 0.2 s", ""),
            (sends_and_waits(HEAD), "no text for 0.2 s", ""),
            (repeats(HEAD + b"\r\n", b":", 0.05), "no text for 0.2 s", ""),
            (repeats(HEAD + b"\r\n" + begun, b":\n", 0.05), "no more text for 2 s", "One"),
            (repeats(HEAD + b"\r\ndata: ", b"x" * 65536), "a line or an event of more than", ""),
            (repeats(b"HTTP/1.1 200 OK", b"x" * 65536), "more around its answer", ""),
            (repeats(HEAD, b"X: y\r\n" * 1000), "more around its answer", ""),
            (repeats(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0" * 65536), "more around its answer", ""),
            (sends(HEAD + b"\r\n" + begun), "hung up in mid-answer; the answer breaks off after 3 bytes", "One"),
            (sends(HEAD + b"Content-Length: 1000\r\n\r\n" + begun), "hung up in mid-answer", "One"),
            (sends(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(begun)), "hung up in mid-answer", "One"),
            (sends(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + begun), "hung up", ""),
            (sends(HEAD + b"\r\n" + begun + b"data: \xff{garbage\n\n"), "no JSON object", "One"),
            (sends(b"\x00\xffgarbage\r\n\r\n" * 50), "hung up, or sent what is no HTTP", ""),
            (sends(b"HTTP/1.1 500 No\r\nContent-Type: application/json\r\n\r\n{\"error\": {\"message\": \"%s!\"}}" %
                   KEY.encode()), "status 500: (the key)!", ""),
            (sends(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"), "status 404", ""),
            (sends(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>"), "text/html in place of", ""),
            (sends(b"HTTP/1.1 204 None\r\n\r\n"), "status 204", ""),
            (sends(HEAD + b"\r\ndata: {\"error\": {\"message\": \"\\u001b[2Jno cake\"}}\n\n"), "failed:", ""))

    def check(case):
        act, words, shown = case
        patience = AT_ONCE if "no text" in words else SOON if "no more" in words else IN_TIME
        with Hostile(act) as server:
            done = run("--server", server.url, "--server-mode", "remote", *patience, env={"THIMBLE_SERVER_KEY": KEY})
            assert done.returncode == 1 and done.stdout == BEGINNING + shown + "\n", (words, done)
            sentence = [line for line in done.stderr.splitlines() if line.startswith("thimble: ")]
            assert len(sentence) == 1 and words in sentence[0] and server.url in sentence[0], (words, done)
            assert "\x1b" not in done.stderr, done
            head = server.requests[0][0] if server.requests else ""
            assert patience == AT_ONCE or head.count(f"Authorization: Bearer {KEY}") == 1, (head, done)

    with concurrent.futures.ThreadPoolExecutor(4) as several:
        list(several.map(check, cases))
    # Nobody who is redirected to is asked.
    with Hostile(sends(HEAD + b"\r\n" + event("stolen", stop=True))) as other:
        moved = f"HTTP/1.1 307 Moved\r\nLocation: {other.url}/completion\r\nContent-Length: 0\r\n\r\n".encode()
        with Hostile(sends(moved)) as server:
            done = run("--server", server.url, "--server-key", KEY, "--server-mode", "remote")
            assert done.returncode == 1 and f"redirects to {other.url}/completion, which is not followed" in done.stderr
        assert not other.requests
    # In a conversation the others go on; the exit code tells.
    with Hostile(sends()) as server:
        done = talk("--server", server.url, "--server-mode", "remote", messages="Hello\nAre you there?\n")
        assert done.returncode == 1 and done.stdout == "", done
        assert len([line for line in done.stderr.splitlines() if line.startswith("thimble: ")]) == 2, done


DRAFT = ["--server-mode", "draft", "--draft-max", "4"]


def check_draft(server):
    """A server that guesses changes no text, in whatever way it is chosen; where it has the same model it guesses well."""
    for options in (["--temp", "0"], ["--top-k", "7", "--min-p", "0"], ["--repeat-penalty", "1.3", "--stop", "Leo"]):
        want = run_json(*options, "--draft", "none")
        got = run_json(*options, "--server", server.url, *DRAFT, *IN_TIME)
        assert got["text"] == want["text"] and got["ids"] == want["ids"] and got["stop"] == want["stop"], (got, want)
        draft = got["draft"]
        assert draft["mode"] == "server" and draft["by"] == server.url and draft["why_stopped"] is None, draft
        assert draft["passes"] + draft["accepted"] == len(got["ids"]) - 1, got
        assert "server" not in got and "modelled" not in got, got
        if options == ["--temp", "0"]:
            assert draft["accepted"] > draft["passes"] and draft["drafted"] - draft["accepted"] <= 4, draft
    want = run("--ids", "--temp", "0", "--draft", "none")
    got = run("--ids", "--temp", "0", "--server", server.url, *DRAFT, *IN_TIME)
    assert got.returncode == 0 and got.stdout == want.stdout, (got, want)
    talked = talk("--server", server.url, *DRAFT, *IN_TIME, "--temp", "0", json_too=False)
    assert talked.returncode == 0 and talked.stdout == talk("--temp", "0", json_too=False).stdout, talked


def check_bad_guesses():
    """Wrong ones, ids that there are not, text in place of ids, and servers that fail: the text is the same. Of a server
    that fails one sentence speaks, at the end."""
    alone = run_json("--draft", "none")
    text = alone["text"]
    wrong = event("x", tokens=[5, 6, 7, 8], stop=True)
    none = event("x", tokens=[2239, 2240, 4294967294, 1], stop=True)
    no_ids = event("x", tokens=[-1, "a", {}], stop=True)
    for guess in (wrong, none, no_ids, event("", stop=True), event("\u0000\ufffd" * 9, stop=True)):
        with Hostile(sends(HEAD + b"\r\n" + guess)) as server:
            got = run_json("--server", server.url, *DRAFT, *IN_TIME)
            assert got["ids"] == alone["ids"] and got["text"] == text and got["draft"]["why_stopped"] is None, got
            assert server.requests[0][1]["prompt"] == alone["prompt_ids"] + alone["ids"][:1], server.requests
    # A server without ids, that knows the text.
    so_far = [len(alone["prompt_ids"])]

    def guess_text(connection):
        made = len(server.requests[-1][1]["prompt"]) - so_far[0]
        shown = run_json("--draft", "none", tokens=made)["text"]
        connection.sendall(HEAD + b"\r\n" + event(text[len(shown):][:20], stop=True))

    with Hostile(guess_text) as server:
        got = run_json("--server", server.url, *DRAFT, *IN_TIME)
        assert got["ids"] == alone["ids"] and got["draft"]["accepted"] > 0, got
    failing = (
            (sends(), "hung up", IN_TIME), (sends_and_waits(), "no text for 0.2 s", AT_ONCE),
            (repeats(HEAD + b"\r\n", b":", 0.05), "no text for 0.2 s", AT_ONCE),
            (repeats(HEAD + b"\r\ndata: ", b"x" * 65536), "a line or an event of more than", IN_TIME),
            (sends(HEAD + b"\r\ndata: {garbage\n\n"), "no JSON object", IN_TIME),
            (sends(b"\x00\xffgarbage\r\n\r\n" * 50), "no HTTP", IN_TIME),
            (sends(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>"), "text/html", IN_TIME),
            (sends(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"), "status 404", IN_TIME),
            (sends(b"HTTP/1.1 500 No\r\nContent-Type: application/json\r\n\r\n{\"error\": {\"message\": \"%s!\"}}" %
                   KEY.encode()), "status 500: (the key)!", IN_TIME))

    def check(case):
        act, words, patience = case
        with Hostile(act) as server:
            done = run("--server", server.url, *DRAFT, *patience, env={"THIMBLE_SERVER_KEY": KEY})
            assert done.returncode == 0 and done.stdout == BEGINNING + text + "\n", (words, done)
            said = [line for line in done.stderr.splitlines() if server.url in line and words in line]
            assert len(said) == 1 and "it gave none" in said[0], (words, done)
            assert "\x1b" not in done.stderr, done
            # The paths of llama-server and of OpenAI are two.
            assert len(server.requests) <= 4, server.requests

    with concurrent.futures.ThreadPoolExecutor(4) as several:
        list(several.map(check, failing))


def check_interrupt():
    """Ctrl-C ends an answer that a server is silent in, and nothing goes on here."""
    with Hostile(sends_and_waits(HEAD + b"\r\n" + event("One"))) as server:
        process = subprocess.Popen([thimble, "run", "-m", MODEL, "-p", BEGINNING, "--server", server.url],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        shown = ""
        while not shown.endswith("One"):
            shown += process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=LONG_WAIT_S)
        assert process.returncode == 130 and shown + out == BEGINNING + "One\n", (shown, out, error)
        assert "at your interrupt" in error, error


def check_options():
    for options, words in ((["--server", "ftp://a"], "neither http:// nor https://"),
                           (["--server", f"http://me:{KEY}@a"], "a name or a password"),
                           (["--server", "http://a", "--server-key", KEY + "\r\nX: y"], "no header can"),
                           (["--server-mode", "remote"], "--server"), (["--server", "http://a", "--ids"], "--ids"),
                           (["--server", "http://a", "--server-mode", "local"], "remote-else-local"),
                           (["--server", "http://a", "--server-timeout", "0"], "--server-timeout"),
                           (["--server", "http://a", "--pace", "board"], "--pace board"),
                           (["--server", "http://a", "--server-mode", "draft", "--pace", "board"], "--pace board"),
                           (["--server", "http://a", "--server-mode", "draft", "--draft", "lookup"], "--draft and")):
        done = run(*options)
        assert done.returncode != 0 and done.stdout == "" and words in done.stderr, (options, done)
    # A prompt without room loses its beginning.
    with Hostile(sends(HEAD + b"\r\n" + event("One", stop=True))) as server:
        done = run_json("-c", "64", "--server", server.url, "--server-model", "big", text="a b c " * 100)
        assert len(done["prompt_ids"]) == 48 and done["prompt_ids"][0] == 1, done
        assert server.requests[0][1]["prompt"] == done["prompt_ids"], server.requests
        assert server.requests[0][1]["model"] == "big", server.requests


def check_https():
    """A certificate must be of the host's name, and of somebody who is trusted."""
    if shutil.which("openssl") is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        check_certificates(folder)


def check_certificates(folder):
    def certificate(name, address):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.pem", "-days", "2", "-subj",
                        f"/CN={address}", "-addext", f"subjectAltName=IP:{address}"], check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{folder}/{name}.pem", f"{folder}/{name}.key")
        return context, {"SSL_CERT_FILE": f"{folder}/{name}.pem"}

    whole = HEAD + b"\r\n" + event("One") * 3000 + event("", stop=True)
    context, trust = certificate("right", "127.0.0.1")
    with Hostile(sends(whole), context) as server:
        trusted = run_json("--server", server.url, "--server-mode", "remote", env=trust)
        assert trusted["text"] == "One" * 3000, trusted
        unknown = run("--server", server.url, "--server-mode", "remote")
        assert unknown.returncode == 1 and "cannot be trusted" in unknown.stderr, unknown
        plain = run("--server", server.url.replace("https", "http"), "--server-mode", "remote")
        assert plain.returncode == 1 and server.url[5:] in plain.stderr, plain
    context, trust = certificate("wrong", "127.0.0.2")
    with Hostile(sends(whole), context) as server:
        wrong = run("--server", server.url, "--server-mode", "remote", env=trust)
        assert wrong.returncode == 1 and "cannot be trusted" in wrong.stderr, wrong
        assert not server.requests
    with Hostile(sends_and_waits(HEAD + b"\r\n" + event("One")), certificate("slow", "127.0.0.1")[0]) as server:
        slow = run("--server", server.url, "--server-mode", "remote", *SOON,
                   env={"SSL_CERT_FILE": f"{folder}/slow.pem"})
        assert slow.returncode == 1 and "no more text for 2 s" in slow.stderr, slow


def main():
    with Served("--chat-template", "chatml") as server:
        check_server(server)
        check_chat(server)
        check_draft(server)
    # They mostly wait.
    with concurrent.futures.ThreadPoolExecutor() as several:
        for check in [several.submit(check) for check in (check_fallback, check_hostile, check_bad_guesses, check_interrupt, check_options,
                                                          check_https)]:
            check.result()


main()

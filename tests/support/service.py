"""A `thimble serve` of a test's own, and its answers.

    with Service(thimble, "--api-key", "secret") as service:
        service.json("/props")
"""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

MODEL = str(pathlib.Path(__file__).resolve().parents[2] / "model/thimble-stories")
LONG_WAIT_S = 60  # for what must happen; far more than it takes


class Service:
    def __init__(self, thimble, *options, model=MODEL):
        self.process = subprocess.Popen([thimble, "serve", "-m", model, "--port", "0", *options], text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        line = self.process.stdout.readline()
        found = re.match(r"(http://127\.0\.0\.1:(\d+)) ", line)
        assert found, line + self.process.stderr.read()
        self.url, self.port = found[1], int(found[2])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.wait()

    def wait(self):
        assert self.process.wait(LONG_WAIT_S) == 0, self.process.stderr.read()
        self.process.stdout.close()
        self.process.stderr.close()

    def ask(self, method, path, body=None, headers=None):
        """Status, headers and body of one request."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=LONG_WAIT_S) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def json(self, path, body=None):
        status, _, answer = self.ask("GET" if body is None else "POST", path, body)
        assert status == 200, answer
        return json.loads(answer)

    def metric(self, name):
        return float(re.search(rf"^thimble_{name} (\S+)$", self.ask("GET", "/metrics")[2].decode(), re.M)[1])

    def connect(self, sent=b""):
        sock = socket.create_connection(("127.0.0.1", self.port), LONG_WAIT_S)
        if sent:
            sock.sendall(sent)
        return sock

    def resources(self):
        """Descriptors and threads of the service, once its last connections are closed."""
        now = None
        for _ in range(LONG_WAIT_S):
            before, now = now, self.count()
            if now == before:
                break
            time.sleep(1)
        return now

    def count(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return len(os.listdir(f"/proc/{self.process.pid}/fd")), int(re.search(r"Threads:\s+(\d+)", status)[1])

    def memory_bytes(self):
        """What of its memory the service has written to and still has."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) * 1024


def until(what, condition):
    for _ in range(LONG_WAIT_S * 20):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"never: {what}")


def post(path, body):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return (f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
            .encode() + data)

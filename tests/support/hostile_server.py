"""A server that does what a test tells it, in place of one that answers."""

import json
import re
import socket
import threading
import time

LONG_WAIT_S = 100  # for what must happen; far more than it takes


class Hostile:
    """A server that reads a request and then calls what it is given: act(connection, request)."""

    def __init__(self, act, context=None):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.listener.getsockname()[1]}"
        self.requests = []
        self.act, self.context = act, context
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            try:
                if self.context:
                    connection = self.context.wrap_socket(connection, server_side=True)
                request = b""
                while b"\r\n\r\n" not in request:
                    part = connection.recv(65536)
                    if not part:
                        raise OSError
                    request += part
                head, body = request.split(b"\r\n\r\n", 1)
                length = int(re.search(rb"content-length: (\d+)", head, re.I)[1])
                while len(body) < length:
                    body += connection.recv(65536)
                self.requests.append((head.decode(), json.loads(body)))
                self.act(connection)
            except OSError:
                pass  # the client may hang up
            connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


def event(text, **more):
    return b"data: " + json.dumps({"content": text, "stop": False, **more}).encode() + b"\n\n"


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def sends(*parts):
    """Sends these and hangs up."""
    return lambda connection: [connection.sendall(part) for part in parts]


def is_gone(connection, seconds):
    """Waits for the client to hang up."""
    connection.settimeout(seconds)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def sends_and_waits(*parts):
    """Sends these and stays."""
    def act(connection):
        sends(*parts)(connection)
        assert is_gone(connection, LONG_WAIT_S)
    return act


def repeats(first, part, pause=0.0):
    def act(connection):
        connection.sendall(first)
        while True:  # until the client hangs up
            connection.sendall(part)
            if pause:
                time.sleep(pause)
    return act

"""llama.cpp's own llama-server: Thimble asks it for help, and answers as it does.

    python offload.py build/thimble LLAMA_SERVER WORK_FOLDER

The bundled model is served in float32, by one thread, with a float32 KV cache. Greedy texts that the server makes for
`thimble run --server` are those that Thimble makes here (compare.py says why they can be). Token ids of texts are those of
`thimble serve`'s /tokenize. A server that is stopped in between is one sentence, and the model here goes on.
"""

import contextlib
import json
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROMPTS = ["Once upon a time", "Lily found a red ball", "The dog"]
TEXTS = ["Once upon a time, there was a dog.", "  two  spaces", "caf\u00e9 \U0001f600", "", "1234\n\n5"]
N_PREDICT = 60


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@contextlib.contextmanager
def serving(log, *command):
    """A server, from when its /health says so to the end of the block: its address and its process."""
    url = f"http://127.0.0.1:{free_port()}"
    with open(log, "wb") as output:
        process = subprocess.Popen([*map(str, command), "--port", url.rsplit(":", 1)[1]], stdout=output, stderr=output)
    try:
        for _ in range(600):
            if process.poll() is not None:
                sys.exit(f"{command[0]} ended with {process.returncode}: {log}")
            with contextlib.suppress(OSError):
                if json.load(urllib.request.urlopen(f"{url}/health", timeout=5)) == {"status": "ok"}:
                    break
            time.sleep(0.1)
        else:
            sys.exit(f"{command[0]} does not say that it is ready: {log}")
        yield url, process
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait()


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request, timeout=60))


def run(thimble, *options, lines=None):
    """The objects that `thimble run --json` prints."""
    ran = subprocess.run([str(thimble), "run", *map(str, options), "--json"], input=lines, capture_output=True, text=True)
    if ran.returncode:
        sys.exit(f"thimble run {options} ended with {ran.returncode}: {ran.stderr}")
    return [json.loads(line) for line in ran.stdout.splitlines()]


def expect(what, got, want):
    if got != want:
        sys.exit(f"{what}: {got!r}, not {want!r}")


def main():
    thimble, llama_server, work = map(pathlib.Path, sys.argv[1:])
    model = work / "served.gguf"
    subprocess.run([thimble, "convert", ROOT / "model" / "thimble-stories", "-o", model, "--dtype", "f32"], check=True)
    greedy = ["-m", model, "--temp", 0, "-n", N_PREDICT]

    options = ["-m", model, "-c", 512, "-np", 1, "-t", 1, "-tb", 1, "-ctk", "f32", "-ctv", "f32", "-fa", "off",
               "--host", "127.0.0.1"]
    with serving(work / "llama-server.log", llama_server, *options) as (url, process):
        for prompt in PROMPTS:
            [here] = run(thimble, *greedy, "-p", prompt)
            [asked] = run(thimble, *greedy, "-p", prompt, "--server", url)
            expect("who made it", asked["server"]["made_by"], "server")
            expect(f"the text after {prompt!r}", asked["text"], here["text"])
        print(f"llama-server makes Thimble's greedy texts: {len(PROMPTS)} prompts, {N_PREDICT} tokens each")

        # By its sampler: another text, whole and in bounds.
        [sampled] = run(thimble, "-m", model, "-n", 20, "-s", 7, "-p", PROMPTS[0], "--server", url)
        expect("who made it", sampled["server"]["made_by"], "server")

        # Messages: the server has a template of its own for models without one.
        spoken = run(thimble, "-m", model, "-cnv", "--chat-template", "chatml", "--temp", 0, "-n", 12, "--server", url,
                     lines="Tell me a story.\nGo on.\n")
        expect("answers", [answer["server"]["made_by"] for answer in spoken], ["server", "server"])
        print("llama-server answers in conversations")

        with serving(work / "serve.log", thimble, "serve", "-m", model, "--no-open") as (own, _):
            for text in TEXTS:
                for special in (False, True):
                    body = {"content": text, "add_special": special}
                    expect(f"ids of {text!r}", post(f"{own}/tokenize", body), post(f"{url}/tokenize", body))
            body = {"prompt": PROMPTS[0], "n_predict": N_PREDICT, "temperature": 0}
            expect("/completion", post(f"{own}/completion", body)["content"], post(f"{url}/completion", body)["content"])
        print(f"thimble serve has llama-server's ids: {len(TEXTS)} texts")

        # It hangs: accepts and says nothing.
        process.send_signal(signal.SIGSTOP)
        [late] = run(thimble, *greedy, "-p", PROMPTS[0], "--server", url, "--server-timeout", 1)
        [here] = run(thimble, *greedy, "-p", PROMPTS[0])
        expect("who made it", late["server"]["made_by"], "here")
        expect("the text", late["text"], here["text"])
        expect("why", "gave no text for" in late["server"]["why"] or "cannot be reached" in late["server"]["why"], True)
        print("where llama-server hangs the model here answers")

    [gone] = run(thimble, *greedy, "-p", PROMPTS[0], "--server", url)
    expect("who made it", gone["server"]["made_by"], "here")
    print("where llama-server is gone the model here answers")


main()

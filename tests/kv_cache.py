"""Holds what a KV cache stores, and what a prompt cache keeps of it, to numpy and the gguf package.

    python kv_cache.py THIMBLE

The bundled model has one layer, whose keys and values do not depend on how others are stored: so the rows that a run with
-ctk and -ctv f16 or q8_0 keeps must be the float32 rows, rounded by numpy's float16 and by the gguf package's Q8_0, byte by byte.
Reads the file as docs/formats/prompt_cache.md has it. Exits with 77, "not run", where the packages of requirements.txt are missing.
"""

import json
import pathlib
import struct
import subprocess
import sys
import tempfile

try:
    import numpy as np
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize
except ImportError as missing:
    print(f"SKIPPED: {missing}; ./check installs it in build/venv")
    sys.exit(77)

ROOT = pathlib.Path(__file__).resolve().parents[1]
TOOL = str(pathlib.Path(sys.argv[1]).resolve())
TYPES = {"f32": 0, "f16": 1, "q8_0": 3}
ROW_BYTES = {"f32": 4 * 96, "f16": 2 * 96, "q8_0": 34 * 3}
PROMPT = "Once upon a time there was a little dog who liked to run"


def run(*arguments, code=0):
    done = subprocess.run([TOOL, "run", *map(str, arguments)], capture_output=True, stdin=subprocess.DEVNULL)
    assert done.returncode == code, done
    return done


def text_of(*arguments):
    done = run(*arguments, "--json")
    return json.loads(done.stdout), done.stderr.decode()


def read(path):
    """Types, ids, and the stored rows of keys and values [positions, bytes of a row] of the only head."""
    data = path.read_bytes()
    assert data[:8] == b"THMBLKV\n" and struct.unpack_from("<I", data, 8) == (1,)
    size, = struct.unpack_from("<Q", data, 16)
    layers, heads, head_dim, vocab, k_type, v_type, n = struct.unpack_from("<7I", data, 40)
    assert (size, layers, heads, head_dim, vocab) == (len(data), 1, 1, 96, 2240)
    names = {number: name for name, number in TYPES.items()}
    types = names[k_type], names[v_type]
    at = 128 + 4 * n
    keys = data[at:at + n * ROW_BYTES[types[0]]]
    values = data[at + len(keys):]
    assert len(values) == n * ROW_BYTES[types[1]]
    rows = [np.frombuffer(part, np.uint8).reshape(n, -1) for part in (keys, values)]
    return types, list(struct.unpack_from(f"<{n}I", data, 128)), *rows


def rounded(rows, name):
    """Stored float32 rows as another type has them."""
    numbers = np.ascontiguousarray(rows).view("<f4")
    if name == "f16":
        return numbers.astype("<f2").view(np.uint8)
    return quantize(numbers, GGMLQuantizationType.Q8_0) if name == "q8_0" else rows


def check_rows(model, folder):
    _, ids, keys, values = read(kept(model, folder, "f32", "f32"))
    assert len(ids) > 12 and np.abs(keys.view("<f4")).max() > 0.1
    for types in (("f16", "f16"), ("q8_0", "q8_0"), ("f16", "q8_0"), ("q8_0", "f32"), ("f32", "f16")):
        found, same_ids, k, v = read(kept(model, folder, *types))
        assert found == types and same_ids == ids
        assert np.array_equal(k, rounded(keys, types[0])), types
        assert np.array_equal(v, rounded(values, types[1])), types
    print(f"{len(ids)} rows are numpy's and the gguf package's")


def kept(model, folder, k, v):
    path = folder / f"{k}-{v}"
    text, error = text_of("-m", model, "-p", PROMPT, "-n", 4, "--temp", 0, "-ctk", k, "-ctv", v, "--prompt-cache", path)
    assert text["kept"] == 0 and text["prompt_cache"]["tokens"] == len(text["prompt_ids"]), text
    assert ("the KV cache rounds" in error) == ((k, v) != ("f32", "f32")), error
    return path


def check_texts(model, folder):
    path = folder / "cache"
    options = ["-m", model, "-n", 20, "-s", 5]
    cached = options + ["--prompt-cache", path]

    def same(*more):
        plain = text_of(*options, *more)[0]
        with_it, error = text_of(*cached, *more)
        assert with_it["ids"] == plain["ids"] and with_it["text"] == plain["text"], more
        return with_it, plain, error

    first, _, _ = same("-p", PROMPT)
    n = len(first["prompt_ids"])
    again, plain, _ = same("-p", PROMPT)
    assert again["kept"] == n - 1 and again["card"]["bytes"] < plain["card"]["bytes"], again
    assert again["timings"]["prompt_n"] == 1
    other, _, _ = same("-p", PROMPT + " far away")
    assert other["kept"] == n and other["prompt_cache"]["tokens"] == len(other["prompt_ids"])
    shorter, _, _ = same("-p", "Once upon a time there was a big cat")
    assert 4 < shorter["kept"] < n, shorter
    narrow, _, _ = same("-p", "Once upon a time there was a big cat", "-c", 64)
    assert narrow["kept"] == len(narrow["prompt_ids"]) - 1
    for more in (["--board", "esp32", "-c", 100], ["--board", "host"], ["--plan", "original"]):
        same("-p", PROMPT, *more)

    # What is made is kept if that is asked for, and goes on as one text.
    whole, _ = text_of(*cached, "-p", PROMPT, "--prompt-cache-all")
    assert whole["prompt_cache"]["tokens"] == n + len(whole["ids"]) - 1
    on = ",".join(map(str, whole["prompt_ids"] + whole["ids"]))
    before = path.read_bytes()
    went_on, _ = text_of(*cached, "--ids", on, "--prompt-cache-ro")
    assert went_on["kept"] == n + len(whole["ids"]) - 1
    assert went_on["ids"] == text_of(*options, "--ids", on)[0]["ids"]
    assert path.read_bytes() == before

    # Another kind of cache: told, not used, replaced.
    halves, error = text_of(*cached, "-p", PROMPT, "-ctk", "f16", "-ctv", "f16")
    assert halves["kept"] == 0 and "keys as f32, values as f32, and this run keys as f16, values as f16" in error, error
    assert read(path)[0] == ("f16", "f16")

    # What is no prompt cache stays as it is, and nothing runs.
    notes = folder / "notes.txt"
    notes.write_text("do not lose this")
    refused = run(*options, "-p", PROMPT, "--prompt-cache", notes, code=1)
    assert not refused.stdout and b"is no prompt cache" in refused.stderr, refused
    assert notes.read_text() == "do not lose this"
    weights = model.read_bytes()
    assert run(*options, "-p", PROMPT, "--prompt-cache", model, code=1).stderr.count(b"\n") == 1
    assert model.read_bytes() == weights
    for arguments, word in ((["--prompt-cache", folder], b"regular file"), (["--prompt-cache", folder / "no" / "x"], b"x"),
                            (["--prompt-cache-all"], b"--prompt-cache FILE"), (["--prompt-cache-ro"], b"--prompt-cache FILE"),
                            (["--prompt-cache", path, "--server", "http://localhost:1"], b"exclude each other")):
        refused = run(*options, "-p", PROMPT, *arguments, code=1)
        assert not refused.stdout and word in refused.stderr and refused.stderr.count(b"\n") == 1, refused
    print("texts are those without a prompt cache")


def main():
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        model = folder / "a.gguf"
        subprocess.run([TOOL, "convert", ROOT / "model/thimble-stories", "-o", model], check=True, capture_output=True)
        check_rows(model, folder)
        check_texts(model, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())

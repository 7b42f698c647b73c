"""Holds what GGUF files of others have in blocks to the gguf package's numbers, bit for bit.

    python gguf_blocks.py THIMBLE

The package writes a model of random blocks for each type, and one of all types mixed. 'thimble convert' must expand them to the
package's float32 bits, and leave them as they are where it may; the model must run as its expansion does, with and without a
screen. Scales are any finite float16: zeros and subnormals of both signs among them. Exits with 77, "not run", where the packages
of requirements.txt are missing.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

try:
    import numpy as np
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFReader, GGUFWriter
    from gguf.quants import dequantize, quantize
except ImportError as missing:
    print(f"SKIPPED: {missing}; ./check installs it in build/venv")
    sys.exit(77)

# Where a block has its float16 scales.
SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
          "IQ4_NL": [0]}
HIDDEN, FFN, HEADS, KV_HEADS, LAYERS = 256, 512, 4, 2, 2
FINITE = np.array([n for n in range(1 << 16) if n & 0x7C00 != 0x7C00], "<u2")


def blocks(name, rows, cols, random, scale_of):
    """[rows, bytes of a row] of random bits; scale_of(n) gives n scales."""
    elements, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    out = random.integers(0, 256, (rows * cols // elements, size), "u1")
    for at in SCALES[name]:
        out[:, at : at + 2] = scale_of(len(out)).astype("<u2").view("u1").reshape(-1, 2)
    return out.reshape(rows, -1)


def any_scale(random):
    """Every zero and subnormal float16 of both signs, then random finite ones, in random order."""
    small = FINITE[FINITE & 0x7C00 == 0]
    return lambda n: random.permutation(np.concatenate([small, random.choice(FINITE, max(n - len(small), 0))])[:n])


def small_scale(random, largest):
    """So that a model's activations stay finite."""
    return lambda n: (random.uniform(-largest, largest, n)).astype("<f2").view("<u2")


def write(path, vocab, type_of, random, scale_of, tied, tensors_a_part=0):
    """Returns name: (type, bytes). type_of(0) is the LM head's."""
    shapes = {}
    for i in range(LAYERS):
        shapes |= {f"blk.{i}.attn_q.weight": (HIDDEN, HIDDEN), f"blk.{i}.attn_k.weight": (HIDDEN // HEADS * KV_HEADS, HIDDEN),
                   f"blk.{i}.attn_v.weight": (HIDDEN // HEADS * KV_HEADS, HIDDEN), f"blk.{i}.attn_output.weight": (HIDDEN, HIDDEN),
                   f"blk.{i}.ffn_gate.weight": (FFN, HIDDEN), f"blk.{i}.ffn_up.weight": (FFN, HIDDEN),
                   f"blk.{i}.ffn_down.weight": (HIDDEN, FFN)}
    if not tied:
        shapes = {"token_embd.weight": (vocab, HIDDEN), **shapes}
    shapes["token_embd.weight" if tied else "output.weight"] = (vocab, HIDDEN)
    writer = GGUFWriter(path, "llama", split_max_tensors=tensors_a_part)
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FFN)
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(vocab)
    writer.add_tokenizer_model("no_vocab")
    stored = {}
    for i, (name, (rows, cols)) in enumerate(reversed(shapes.items())):
        stored[name] = (type_of(i), blocks(type_of(i), rows, cols, random, scale_of(type_of(i))))
        writer.add_tensor(name, stored[name][1], raw_dtype=GGMLQuantizationType[type_of(i)])
    for name in ["output_norm.weight", *(f"blk.{i}.{n}_norm.weight" for i in range(LAYERS) for n in ("attn", "ffn"))]:
        writer.add_tensor(name, np.ones(HIDDEN, "<f4"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return stored


def run(*command):
    return subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout


def convert(tool, source, gguf, *arguments):
    run(tool, "convert", source, "-o", gguf, *arguments)
    return {t.name: t for t in GGUFReader(gguf).tensors}


def check_numbers(tool, folder, stored, source):
    kept = convert(tool, source, folder / "kept.gguf")
    rounded = convert(tool, source, folder / "rounded.gguf", "--quant", "q8_0")
    wide = convert(tool, source, folder / "wide.gguf", "--dtype", "f32")
    numbers = 0
    for name, (type_name, data) in stored.items():
        for same in (kept, rounded):
            assert same[name].tensor_type.name == type_name, (name, same[name].tensor_type)
            assert same[name].data.tobytes() == data.tobytes(), (name, type_name)
        want = dequantize(data, GGMLQuantizationType[type_name])
        assert want.dtype == np.float32
        got = np.frombuffer(wide[name].data.tobytes(), "<u4")
        differing = np.flatnonzero(got != want.reshape(-1).view("<u4"))
        assert not differing.size, (name, type_name, differing[:5], got[differing[:5]], want.reshape(-1)[differing[:5]])
        numbers += got.size
    return numbers


def check_runs(tool, folder, source):
    """The same tokens from the blocks and from the float32 numbers, by a scan and by a screen; returns how many distinct ones."""
    options = ["--ids", "1,7,30", "-n", "24", "--temp", "1.5", "-s", "3", "--board", "host", "--json"]
    want = json.loads(run(tool, "run", "-m", folder / "wide.gguf", *options))["ids"]
    run(tool, "verify", source)
    assert json.loads(run(tool, "run", "-m", source, *options))["ids"] == want
    run(tool, "prepare", source, "--screen", "48,3")
    screened = json.loads(run(tool, "run", "-m", source, *options, "--head", "screen"))
    assert screened["ids"] == want, (screened["ids"], want)
    run(tool, "verify", source)
    return len(set(want))


def refusal(tool, *command):
    done = subprocess.run([tool, *command], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 1, done
    return done.stderr


def check_parts(tool, folder, random, names, largest):
    """A model in several files, as the package splits one."""
    (folder / "parts").mkdir()
    path = folder / "parts" / "model.gguf"
    stored = write(path, 300, lambda i: names[i % len(names)], random, lambda name: small_scale(random, largest[name]),
                   tied=False, tensors_a_part=4)
    parts = sorted((folder / "parts").iterdir())
    first = folder / "parts" / f"model-00001-of-{len(parts):05}.gguf"
    assert len(parts) > 4 and parts[0] == first, parts
    assert check_numbers(tool, folder, stored, first) > 0
    options = ["--ids", "1,7,30", "-n", "8", "--temp", "0", "--board", "host", "--json"]
    want = json.loads(run(tool, "run", "-m", folder / "kept.gguf", *options))["ids"]
    assert json.loads(run(tool, "run", "-m", first, *options))["ids"] == want
    assert "give the first, " + str(first) in refusal(tool, "run", "-m", parts[2], *options)
    whole = parts[3].read_bytes()
    parts[3].write_bytes(whole[:-1000])
    assert f"{parts[3]} is cut off" in refusal(tool, "convert", first, "-o", folder / "x.gguf")
    parts[3].write_bytes(parts[2].read_bytes())
    assert f"{parts[3]} says of itself" in refusal(tool, "convert", first, "-o", folder / "x.gguf")
    parts[3].unlink()
    assert f"{parts[3]} is not there" in refusal(tool, "convert", first, "-o", folder / "x.gguf")
    assert not (folder / "x.gguf").exists()
    print(f"in {len(parts)} parts: the same numbers and tokens", flush=True)


def check_quant(tool, folder, random):
    """What --quant rounds has the package's bytes; numbers of many sizes, blocks of zeros and of one number among them."""
    source = folder / "wide.gguf"
    reader = {t.name: t for t in GGUFReader(source, "r+").tensors}
    for tensor in reader.values():
        if len(tensor.shape) == 2:
            values = tensor.data.reshape(-1)
            values *= np.exp2(random.integers(-6, 6, values.size // 32).repeat(32)).astype("<f4")
            values += 0  # no negative zeros, of which the package and ggml choose differently
            values[:32], values[32:64], values[64:96] = 0, 0.3, -0.3
            tensor.data.flush()
    del reader
    want = {t.name: t.data.copy() for t in GGUFReader(source).tensors}
    for name in ("Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0"):
        got = convert(tool, source, folder / "rounded.gguf", "--quant", name.lower())
        for tensor, values in want.items():
            if values.ndim != 2:
                continue
            assert got[tensor].tensor_type.name == name, (tensor, got[tensor].tensor_type)
            assert got[tensor].data.tobytes() == quantize(values, GGMLQuantizationType[name]).tobytes(), (tensor, name)
    got = convert(tool, source, folder / "rounded.gguf", "--quant", "q4_0", "--quant-tensor", "*ffn*=q5_1")
    assert {t.tensor_type.name for n, t in got.items() if n.endswith("ffn_up.weight")} == {"Q5_1"}
    assert got["token_embd.weight"].tensor_type.name == "Q4_0"
    print("rounded: the package's bytes", flush=True)


def main():
    tool = str(pathlib.Path(sys.argv[1]).resolve())
    random = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        for name in SCALES:
            source = folder / f"{name}.gguf"
            stored = write(source, 8000, lambda _: name, random, lambda _: any_scale(random), tied=True)
            numbers = check_numbers(tool, folder, stored, source)
            print(f"{name}: {numbers} numbers are the package's", flush=True)
            source.unlink()
        names, distinct = list(SCALES), 0
        largest = {"Q4_0": 2e-2, "Q4_1": 1e-2, "Q5_0": 1e-2, "Q5_1": 5e-3, "Q4_K": 3e-4, "Q5_K": 2e-4, "Q6_K": 1e-4,
                   "IQ4_NL": 1e-3}
        for round in range(len(names)):  # the head is of each type once, and tied to the embedding in every second round
            source = folder / f"mixed-{round}.gguf"
            stored = write(source, 500, lambda i: names[(i * 3 + round) % len(names)], random,
                           lambda name: small_scale(random, largest[name]), tied=round % 2 == 0)
            check_numbers(tool, folder, stored, source)
            distinct += check_runs(tool, folder, source)
            print(f"mixed, LM head in {names[round]}: the same tokens", flush=True)
        assert distinct > 8 * len(names), distinct
        check_quant(tool, folder, random)
        check_parts(tool, folder, random, names, largest)


if __name__ == "__main__":
    main()

"""Holds thimble perplexity to a transformer written here in numpy, in double precision: of the bundled model, of the same
with a louder attention, and with KV caches that round.

    python3 perplexity_test.py THIMBLE
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

try:
    import numpy as np
except ImportError:
    print("numpy is not installed: ./check installs it in build/venv")
    sys.exit(77)

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "model/thimble-stories"
CHUNK = 96


def read_safetensors(path):
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    out = {}
    for name, info in header.items():
        begin, end = info["data_offsets"]
        assert info["dtype"] == "F16"
        out[name] = np.frombuffer(data[8 + size + begin:8 + size + end], np.float16).reshape(info["shape"])
    return out


def write_louder(path, factor):
    """The same file, with the last matrix of attention times a power of two, which float16 holds exactly."""
    data = bytearray(path.read_bytes())
    size = int.from_bytes(data[:8], "little")
    begin, end = json.loads(data[8:8 + size])["model.layers.0.self_attn.o_proj.weight"]["data_offsets"]
    louder = np.frombuffer(bytes(data[8 + size + begin:8 + size + end]), np.float16) * np.float16(factor)
    data[8 + size + begin:8 + size + end] = louder.tobytes()
    path.write_bytes(data)


def exact(x):
    return x


def half(x):
    """What a cache of f16 makes of keys or values."""
    return x.astype(np.float32).astype(np.float16).astype(np.float64)


def q8_0(x):
    """What a cache of q8_0 makes of them, after ggml's quantize_row_q8_0_ref."""
    blocks = x.astype(np.float32).reshape(-1, 32)
    scale = np.abs(blocks).max(-1, keepdims=True) / np.float32(127)
    steps = blocks * np.where(scale == 0, 0, np.float32(1) / np.where(scale == 0, 1, scale))
    steps = np.sign(steps) * np.floor(np.abs(steps) + 0.5)
    return (scale.astype(np.float16).astype(np.float64) * steps).reshape(x.shape)


def logits_of(tensors, config, ids, of_keys=exact, of_values=exact):
    """[len(ids), vocab_size] of one chunk."""
    w = {name: value.astype(np.float64) for name, value in tensors.items()}
    heads, kv_heads, size = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    n = len(ids)

    def norm(x, weight):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + config["rms_norm_eps"]) * weight

    angles = np.outer(np.arange(n), config["rope_theta"] ** (-np.arange(0, size, 2) / size))
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]

    def rotate(x):
        a, b = x[..., :size // 2], x[..., size // 2:]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    x = w["model.embed_tokens.weight"][ids]
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        h = norm(x, w[at + "input_layernorm.weight"])
        q, k, v = (h @ w[f"{at}self_attn.{p}_proj.weight"].T for p in "qkv")
        q = rotate(q.reshape(n, heads, size))
        k = np.repeat(of_keys(rotate(k.reshape(n, kv_heads, size))), heads // kv_heads, 1)
        v = np.repeat(of_values(v.reshape(n, kv_heads, size)), heads // kv_heads, 1)
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(size)
        scores = np.where(np.tril(np.ones((n, n), bool)), scores, -np.inf)
        p = np.exp(scores - scores.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        x = x + np.einsum("hqk,khd->qhd", p, v).reshape(n, -1) @ w[at + "self_attn.o_proj.weight"].T
        h = norm(x, w[at + "post_attention_layernorm.weight"])
        gate, up = h @ w[at + "mlp.gate_proj.weight"].T, h @ w[at + "mlp.up_proj.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ w[at + "mlp.down_proj.weight"].T
    return norm(x, w["model.norm.weight"]) @ w["lm_head.weight"].T


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def expected(model, base, config, ids, of_keys=exact, of_values=exact):
    """The measures of model with such a cache, with base as what is compared with."""
    p, q, top, nexts = [], [], [], []
    for at in range(0, len(ids) - CHUNK + 1, CHUNK):
        part = [config["bos_token_id"], *ids[at + 1:at + CHUNK]]
        rows = slice(CHUNK // 2, CHUNK - 1)
        mine, other = logits_of(model, config, part, of_keys, of_values)[rows], logits_of(base, config, part)[rows]
        p.append(log_softmax(mine))
        q.append(log_softmax(other))
        top.append(mine.argmax(-1) == other.argmax(-1))
        nexts += part[CHUNK // 2 + 1:]
    p, q, top = np.concatenate(p), np.concatenate(q), np.concatenate(top)
    each = np.arange(len(nexts))
    nll = -p[each, nexts]
    kld = (np.exp(q) * (q - p)).sum(-1)
    ppl = np.exp(nll.mean())
    return {"tokens": len(nexts), "ppl": ppl, "ppl_error": ppl * nll.std() / np.sqrt(len(nexts) - 1),
            "base_ppl": np.exp(-q[each, nexts].mean()), "kld_mean": kld.mean(), "kld_p99": np.percentile(kld, 99),
            "top_match": top.mean(),
            "rms_dp": np.sqrt(((np.exp(p[each, nexts]) - np.exp(q[each, nexts])) ** 2).mean())}


def main():
    tool = str(pathlib.Path(sys.argv[1]).resolve())

    def run(*command):
        done = subprocess.run([tool, *map(str, command)], check=True, capture_output=True, stdin=subprocess.DEVNULL)
        return done.stdout.decode()

    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        run("convert", MODEL, "-o", folder / "base.gguf")
        shutil.copytree(MODEL, folder / "louder")
        write_louder(folder / "louder/model.safetensors", 2)
        run("convert", folder / "louder", "-o", folder / "louder.gguf")
        text = " ".join(json.loads(run("run", "-m", folder / "base.gguf", "-n", 150, "-s", seed, "--temp", 1, "--json",
                                       "-p", "One day"))["text"] for seed in range(1, 9))
        (folder / "text.txt").write_text(text, encoding="utf-8")
        ids = json.loads(run("tokenize", "-m", folder / "base.gguf", "-f", folder / "text.txt", "--ids"))
        config = json.loads((MODEL / "config.json").read_text())
        want = expected(read_safetensors(folder / "louder/model.safetensors"),
                        read_safetensors(MODEL / "model.safetensors"), config, ids)
        got = json.loads(run("perplexity", "-m", folder / "louder.gguf", "-f", folder / "text.txt", "-c", CHUNK,
                             "--kl-divergence", folder / "base.gguf", "--json"))
        assert want["tokens"] >= 150 and want["kld_mean"] > 0.01 and want["top_match"] < 1, want
        for key, value in want.items():
            print(f"{key:10} {got[key]:.9g}, numpy {value:.9g}")
            assert abs(got[key] - value) <= 2e-5 * max(abs(value), 1e-3), key

        # With a cache that rounds, against the same model without.
        model = read_safetensors(folder / "louder/model.safetensors")
        for types, of_keys, of_values in ((("f16", "f16"), half, half), (("q8_0", "q8_0"), q8_0, q8_0),
                                          (("f16", "q8_0"), half, q8_0), (("q8_0", "f32"), q8_0, exact)):
            rounded = expected(model, model, config, ids, of_keys, of_values)
            got = json.loads(run("perplexity", "-m", folder / "louder.gguf", "-f", folder / "text.txt", "-c", CHUNK,
                                 "--kl-divergence", folder / "louder.gguf", "-ctk", types[0], "-ctv", types[1],
                                 "--json"))
            print(f"{types[0]:5} {types[1]:5} kld_mean {got['kld_mean']:.9g}, numpy {rounded['kld_mean']:.9g}")
            assert 0 < rounded["kld_mean"] < 1e-2, rounded
            # A number in the middle of two steps may go to the other one here.
            assert abs(got["ppl"] - rounded["ppl"]) <= 1e-4 * rounded["ppl"], (got, rounded)
            assert abs(got["kld_mean"] - rounded["kld_mean"]) <= 0.03 * rounded["kld_mean"] + 1e-8, (got, rounded)

        # A model is itself: no divergence, and every top token is the same.
        same = json.loads(run("perplexity", "-m", folder / "base.gguf", "-f", folder / "text.txt", "-c", CHUNK,
                              "--kl-divergence", folder / "base.gguf", "--json"))
        assert same["kld_mean"] == same["kld_p99"] == same["rms_dp"] == 0 and same["top_match"] == 1, same
        assert same["ppl"] == same["base_ppl"] and abs(same["ppl"] - want["base_ppl"]) < 1e-4, same
        assert run("perplexity", "-m", folder / "base.gguf", "-f", folder / "text.txt", "-c", CHUNK).startswith(
            "perplexity "), "lines for people"

        # Refused with one sentence, and nothing on standard output.
        (folder / "short.txt").write_text("Once", encoding="utf-8")
        for file, context, sentence in (("short.txt", CHUNK, "give a longer text"), ("text.txt", 2, "at least 4"),
                                        ("none.txt", CHUNK, "none.txt")):
            refused = subprocess.run([tool, "perplexity", "-m", folder / "base.gguf", "-f", folder / file, "-c",
                                      str(context)], capture_output=True, stdin=subprocess.DEVNULL)
            assert refused.returncode == 1 and not refused.stdout, refused
            assert sentence in refused.stderr.decode() and refused.stderr.count(b"\n") == 1, refused.stderr
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Reads converted models back with other people's code: the gguf package, safetensors' published layout, SentencePiece.

    python gguf_read_back.py THIMBLE

Every key, tensor and token of the GGUF file must be what the Hugging Face folder says, bit for bit. And a file that the gguf
package makes of the folder, as llama.cpp's converter does, must run as the folder does. Exits with 77, "not run", where the
packages of requirements.txt are missing.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import sentencepiece
    from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, RopeScalingType
    from gguf.quants import dequantize, quantize
except ImportError as missing:
    print(f"SKIPPED: {missing}; ./check installs it in build/venv")
    sys.exit(77)

ROOT = pathlib.Path(__file__).resolve().parent.parent


def stored_tensors(path):
    """name: float32 array, from a safetensors file (8 bytes length, JSON, data)."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    tensors = {}
    for name, info in json.loads(data[8 : 8 + length]).items():
        if name == "__metadata__":
            continue
        begin, end = info["data_offsets"]
        raw = data[8 + length + begin : 8 + length + end]
        if info["dtype"] == "BF16":
            values = (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
        else:
            values = np.frombuffer(raw, {"F32": "<f4", "F16": "<f2"}[info["dtype"]]).astype("<f4")
        tensors[name] = values.reshape(info["shape"])
    return tensors


def interleaved(weight, heads):
    """Rows of a head from Hugging Face's order, halves one after the other, to GGUF's, pairs side by side."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def scaling(config):
    """(type, object) of how rotary positions are scaled."""
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    return rope.get("rope_type") or rope.get("type") or "default", rope


def rope_factors(config):
    """What "llama3" divides the frequencies by, in double from the float32 frequencies."""
    _, rope = scaling(config)
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    exponents = (np.arange(0, head_dim, 2) / head_dim).astype("<f4").astype("f8")
    powers = (np.float64(config["rope_theta"]) ** exponents).astype("<f4").astype("f8")
    waves = rope["original_max_position_embeddings"] * (1 / powers).astype("<f4").astype("f8") / (2 * np.pi)
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    smooth = (waves - low) / (high - low)
    assert ((0 < smooth) & (smooth < 1)).any() and (smooth < 0).any() and (smooth > 1).any()
    between = 1 / ((1 - smooth) / factor + smooth)
    return np.where(smooth < 0, factor, np.where(smooth > 1, 1, between)).astype("<f4")


def expected_tensors(config, stored):
    layer_names = {
        "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
    want = {"token_embd.weight": stored["model.embed_tokens.weight"], "output_norm.weight": stored["model.norm.weight"]}
    if not config.get("tie_word_embeddings"):
        want["output.weight"] = stored["lm_head.weight"]
    for layer in range(config["num_hidden_layers"]):
        for hf, gguf in layer_names.items():
            weight = stored[f"model.layers.{layer}.{hf}.weight"]
            if gguf == "attn_q" and config["model_type"] == "llama":
                weight = interleaved(weight, config["num_attention_heads"])
            elif gguf == "attn_k" and config["model_type"] == "llama":
                weight = interleaved(weight, config["num_key_value_heads"])
            want[f"blk.{layer}.{gguf}.weight"] = weight
        for name in "qkv" if config["model_type"] == "qwen2" else "":
            want[f"blk.{layer}.attn_{name}.bias"] = stored[f"model.layers.{layer}.self_attn.{name}_proj.bias"]
        for name in "qk" if config["model_type"] == "qwen3" else "":
            want[f"blk.{layer}.attn_{name}_norm.weight"] = stored[f"model.layers.{layer}.self_attn.{name}_norm.weight"]
    if scaling(config)[0] == "llama3":
        want["rope_freqs.weight"] = rope_factors(config)
    return want


def fits(weight):
    """The 16-bit types that hold every number of a float32 matrix exactly."""
    with np.errstate(over="ignore"):
        f16 = np.array_equal(weight.astype("<f2").astype("<f4").view("<u4"), weight.view("<u4"))
    return {name for name, fit in (("F16", f16), ("BF16", not (weight.view("<u4") & 0xFFFF).any())) if fit}


def expanded(tensor):
    """The numbers of a tensor as the bits of float32."""
    raw = tensor.data.tobytes()
    match tensor.tensor_type.name:
        case "F32":
            return np.frombuffer(raw, "<u4")
        case "F16":
            return np.frombuffer(raw, "<f2").astype("<f4").view("<u4")
        case "BF16":
            return np.frombuffer(raw, "<u2").astype("<u4") << 16
    raise AssertionError(tensor.tensor_type)


def check(tool, folder, gguf, dtype):
    subprocess.run([tool, "convert", folder, "-o", gguf, "--dtype", dtype], check=True, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL)
    reader = GGUFReader(gguf)
    config = json.loads((folder / "config.json").read_text())

    want = expected_tensors(config, stored_tensors(folder / "model.safetensors"))
    got = {t.name: t for t in reader.tensors}
    assert got.keys() == want.keys(), got.keys() ^ want.keys()
    for name, tensor in got.items():
        narrow = fits(want[name]) if dtype == "auto" and want[name].ndim == 2 else set()
        assert tensor.tensor_type.name in (narrow or {"F32"}), (name, tensor.tensor_type)
        assert tensor.data_offset % 4096 == 0, (name, tensor.data_offset)
        assert tuple(tensor.shape[::-1]) == want[name].shape, (name, tensor.shape)
        assert np.array_equal(expanded(tensor), want[name].reshape(-1).view("<u4")), name

    def value(key):
        return reader.fields[key].contents()

    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    theta = config.get("rope_theta") or config["rope_parameters"]["rope_theta"]
    keys = {
        "general.architecture": config["model_type"],
        "general.alignment": 4096,
        "llama.vocab_size": config["vocab_size"],
        "llama.context_length": config["max_position_embeddings"],
        "llama.embedding_length": config["hidden_size"],
        "llama.feed_forward_length": config["intermediate_size"],
        "llama.block_count": config["num_hidden_layers"],
        "llama.attention.head_count": config["num_attention_heads"],
        "llama.attention.head_count_kv": config["num_key_value_heads"],
        "llama.rope.dimension_count": head_dim,
        "llama.rope.freq_base": np.float32(theta),
        "llama.attention.layer_norm_rms_epsilon": np.float32(config["rms_norm_eps"]),
    }
    if head_dim * config["num_attention_heads"] != config["hidden_size"]:
        keys |= {"llama.attention.key_length": head_dim, "llama.attention.value_length": head_dim}
    if scaling(config)[0] == "linear":
        keys |= {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": np.float32(scaling(config)[1]["factor"])}
    for key, expected in keys.items():
        key = key.replace("llama.", config["model_type"] + ".", 1)
        assert value(key) == expected, (key, value(key), expected)

    vocabulary = folder / "tokenizer.model"
    if vocabulary.exists():
        pieces = sentencepiece.SentencePieceProcessor(model_file=str(vocabulary))
        ids = range(pieces.get_piece_size())
        assert len(ids) == config["vocab_size"], "the check is written for vocabularies without padding"
        assert value("tokenizer.ggml.model") == "llama"
        assert value("tokenizer.ggml.tokens") == [pieces.id_to_piece(i) for i in ids]
        assert value("tokenizer.ggml.scores") == [pieces.get_score(i) for i in ids]
        types = [2 if pieces.is_unknown(i) else 3 if pieces.is_control(i) else 6 if pieces.is_byte(i) else 1 for i in ids]
        assert value("tokenizer.ggml.token_type") == types
        assert value("tokenizer.ggml.bos_token_id") == pieces.bos_id()
        assert value("tokenizer.ggml.eos_token_id") == pieces.eos_id()
    print(f"{folder.name}, {dtype}: {len(got)} tensors, {len(reader.fields)} keys", flush=True)


def convert(tool, source, gguf, *arguments):
    subprocess.run([tool, "convert", source, "-o", gguf, *arguments], check=True, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL)
    return {t.name: t for t in GGUFReader(gguf).tensors}


def large(want):
    """Matrices with at least as many elements as those of the layers have on average."""
    layers = [w.size for name, w in want.items() if name.startswith("blk.") and w.ndim == 2]
    return {name for name, w in want.items() if w.ndim == 2 and w.size >= sum(layers) / len(layers)}


def check_quant(tool, folder, temporary):
    """Blocks of Q8_0 against those of the gguf package; returns how many matrices had some."""
    config = json.loads((folder / "config.json").read_text())
    want = expected_tensors(config, stored_tensors(folder / "model.safetensors"))
    whole = {name for name, w in want.items() if w.ndim == 2 and w.shape[1] % 32 == 0}
    for arguments, names in (
        (["--quant", "q8_0"], whole),
        (["--quant", "hybrid"], whole & large(want)),
        (["--quant", "q8_0", "--quant-tensor", "blk.*.attn_*=auto"], {n for n in whole if ".attn_" not in n}),
        (["--quant-tensor", "blk.*.ffn_*=q8_0", "--quant-tensor", "*ffn_up*=f32"],
         {n for n in whole if ".ffn_" in n and "ffn_up" not in n}),
    ):
        got = convert(tool, folder, temporary / "quant.gguf", *arguments)
        assert {name for name, t in got.items() if t.tensor_type.name == "Q8_0"} == names, (folder, arguments)
        for name, tensor in got.items():
            if name in names:
                assert tensor.data.tobytes() == quantize(want[name], GGMLQuantizationType.Q8_0).tobytes(), name
            else:
                assert np.array_equal(expanded(tensor), want[name].reshape(-1).view("<u4")), name

    # Blocks as a source: they stay as they are, or are expanded.
    got = convert(tool, folder, temporary / "quant.gguf", "--quant", "q8_0")
    again = convert(tool, temporary / "quant.gguf", temporary / "again.gguf", "--quant", "q8_0")
    wide = convert(tool, temporary / "quant.gguf", temporary / "wide.gguf", "--dtype", "f32")
    for name, tensor in got.items():
        assert again[name].data.tobytes() == tensor.data.tobytes(), name
        if name in whole:
            numbers = dequantize(tensor.data, GGMLQuantizationType.Q8_0)
            assert np.array_equal(expanded(wide[name]), numbers.reshape(-1).view("<u4")), name
    print(f"{folder.name}, Q8_0: {len(whole)} of {len(want)} tensors", flush=True)
    return len(whole)


def write_as_others(config, want, path):
    """A file as llama.cpp's converter makes it: its alignment, its order of keys and tensors, vectors in float32."""
    writer = GGUFWriter(path, config["model_type"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_freq_base(config.get("rope_theta") or config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    if "head_dim" in config:
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
    if scaling(config)[0] == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling(config)[1]["factor"])
    writer.add_tokenizer_model("no_vocab")
    writer.add_bos_token_id(config["bos_token_id"])
    for name, weight in sorted(want.items()):
        writer.add_tensor(name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def check_others(tool, folder, temporary):
    """The same ids and the same probabilities, to the last digit, from a file of others and from the folder."""
    config = json.loads((folder / "config.json").read_text())
    ids = json.loads((folder / "expected.json").read_text())["prompt_ids"]
    theirs, ours = temporary / "theirs.gguf", temporary / "ours.gguf"
    write_as_others(config, expected_tensors(config, stored_tensors(folder / "model.safetensors")), theirs)
    convert(tool, folder, ours)
    outputs = []
    for model in (theirs, ours):
        run = [tool, "run", "-m", model, "--ids", ",".join(map(str, ids)), "-n", "60", "--temp", "1", "-s", "5", "--json"]
        done = subprocess.run(run, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        outputs.append(json.loads(done.stdout)["ids"])
    assert outputs[0] == outputs[1], (folder, outputs)
    # What convert makes of it is what it makes of the folder, but for the name and what is stored in how many bits.
    kept = [{t.name: expanded(t) for t in GGUFReader(path).tensors} for path in (ours, theirs)]
    again = convert(tool, theirs, temporary / "again.gguf")
    for name, bits in kept[0].items():
        assert np.array_equal(bits, kept[1][name]) and np.array_equal(bits, expanded(again[name])), (folder, name)
    print(f"{folder.name}, written by the gguf package: {len(set(outputs[0]))} different ids, the same", flush=True)


def main():
    tool = str(pathlib.Path(sys.argv[1]).resolve())
    folders = [ROOT / "model/thimble-stories", *sorted(p.parent for p in ROOT.glob("tests/goldens/*/expected.json"))]
    assert len(folders) > 5
    with tempfile.TemporaryDirectory() as temporary:
        for folder in folders:
            for dtype in ("f32", "auto"):
                check(tool, folder, pathlib.Path(temporary) / f"{folder.name}.gguf", dtype)
        for folder in folders[1:]:
            check_others(tool, folder, pathlib.Path(temporary))
        assert sum(check_quant(tool, folder, pathlib.Path(temporary)) for folder in folders) > 20


if __name__ == "__main__":
    main()

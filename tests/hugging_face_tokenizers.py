"""Byte-level BPE against Hugging Face's tokenizers.

    python hugging_face_tokenizers.py THIMBLE TOKENIZE_TEXTS

For each way of dividing texts into words, tokenizers trains a vocabulary that is divided so. It becomes a model twice: a
folder with a tokenizer.json, which `thimble convert` reads, and a GGUF file that the gguf package writes. Random texts of
many scripts must get the same ids from all three. The classes of code points are compared with those of tokenizers'
regular expressions, all 1 114 112 of them. Exits with 77, "not run", where the packages of requirements.txt are missing.
"""

import json
import pathlib
import random
import re
import runpy
import struct
import subprocess
import sys
import tempfile
import unicodedata

try:
    import gguf
    import numpy as np
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
except ImportError as missing:
    print(f"SKIPPED: {missing}; ./check installs it in build/venv")
    sys.exit(77)

ROOT = pathlib.Path(__file__).resolve().parent.parent
NUM_TEXTS = 1200
HIDDEN = 8

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
          r"\s+(?!\S)|\s+")
LETTERS = "".join(
    "-".join(chr(int(end, 16)) for end in ends.split("-"))
    for ends in runpy.run_path(str(ROOT / "engine/text/make_unicode_table.py"))["LETTERS"].split())
EAST_ASIAN = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def byte_level(use_regex=False):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def digits(individual):
    return pre_tokenizers.Digits(individual_digits=individual)


# By name: what tokenizer.json has for it, and the name that `thimble convert` gives it.
PRE_TOKENIZERS = {
    "gpt-2": ([byte_level(True)], "gpt-2"),
    "starcoder": ([digits(True), byte_level(True)], "smollm"),
    "smollm": ([digits(True), byte_level(True)], "smollm"),
    "llama-bpe": ([split(LLAMA3), byte_level()], "llama-bpe"),
    "qwen2": ([split(LLAMA3.replace("{1,3}", "")), byte_level()], "qwen2"),
    "deepseek-llm": ([split("[\r\n]"), split(rf"\s?[{LETTERS}]+"),
                      split("\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"), split(r"\s+$"),
                      split(EAST_ASIAN), digits(False), byte_level()], "deepseek-llm"),
    "deepseek-coder": ([split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split(EAST_ASIAN), digits(True),
                        byte_level()], "deepseek-coder"),
    "falcon": ([split(r"[\p{P}\$\+<=>\^~\|`]+"), split(GPT2), split("[0-9][0-9][0-9]"), byte_level()], "falcon"),
}


def unicode_table():
    """The class of each code point in engine/text/unicode_table.h."""
    numbers = [int(n, 16) for n in re.findall(r"0x([0-9A-F]+),", (ROOT / "engine/text/unicode_table.h").read_text())]
    classes = []
    for run, after in zip(numbers, numbers[1:] + [0x110000 * 8]):
        classes += [run % 8] * (after // 8 - run // 8)
    return classes


def check_unicode_table():
    classes = unicode_table()
    assert len(classes) == 0x110000
    wanted = {r"\p{L}": (1, 2), rf"[{LETTERS}]": (2,), r"\p{N}": (3,), r"\p{P}": (4,), r"\s": (5,)}
    for pattern, numbers in wanted.items():
        separator = "\x00"
        matched = set()
        codes = [c for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000]
        for at in range(0, len(codes), 4096):
            text = separator.join(chr(c) for c in codes[at : at + 4096])
            for piece, _ in split(pattern).pre_tokenize_str(text):
                if len(piece) == 1 and piece != separator:
                    matched.add(ord(piece))
        table = {c for c in codes if classes[c] in numbers}
        assert table <= matched, (pattern, [hex(c) for c in sorted(table - matched)[:9]])
        # tokenizers knows a later Unicode.
        newer = {c for c in matched - table if unicodedata.category(chr(c)) == "Cn" or classes[c] == 0}
        assert matched - table == newer, (pattern, [hex(c) for c in sorted(matched - table - newer)[:9]])
        assert all(unicodedata.category(chr(c)) == "Cn" for c in newer), [hex(c) for c in newer][:9]


def is_known(code):
    """Assigned in the versions of Unicode that all sides know."""
    return not 0xD800 <= code < 0xE000 and unicodedata.category(chr(code)) != "Cn"


KNOWN = [c for c in range(0x110000) if is_known(c) and not 0xE000 <= c < 0xF900 and c < 0xF0000]


def random_text(rng):
    """A few stretches of a kind each."""
    text = ""
    for _ in range(rng.randrange(1, 12)):
        kind = rng.randrange(16)
        n = rng.choice([1, 1, 2, 3, 4, 7])
        if kind < 3:
            text += " " + "".join(rng.choice("etaoinshrdlu") for _ in range(n))
        elif kind == 3:
            text += rng.choice(["'s", "'t", "'RE", "'ve", "'M", "'ll", "'D", "'\u017f", "'", "''s", "'lL", "'x", " 'd"])
        elif kind == 4:
            text += "".join(rng.choice("0123456789") for _ in range(n))
        elif kind == 5:
            text += "".join(rng.choice(" \t\n\r\u00a0\u2003\u3000\x0b\x0c\x85\u2028 \n ") for _ in range(n))
        elif kind == 6:
            text += " " * n
        elif kind == 7:
            text += "".join(rng.choice("!?.,;:-_()[]{}<>=+*/\\|~`^$#@&%\"") for _ in range(n))
        elif kind == 8:
            text += "".join(chr(rng.randrange(0x4E00, 0x9FA6)) for _ in range(n))
        elif kind == 9:
            text += "".join(chr(rng.randrange(0x410, 0x450)) for _ in range(n))
        elif kind == 10:
            text += "".join(rng.choice("\U0001F600\U0001F9D1\u200d\U0001F680\ufe0f\u2764\U0001F1E9\U0001F1EA") for _ in range(n))
        elif kind == 11:
            text += "".join(rng.choice("\u0300\u0301\u0e01\u0e33\u0915\u094d\u0937\u05d0\u05b8\u0663\u00bd\u2167\u3007") for _ in range(n))
        elif kind == 12:
            text += rng.choice(["\u2018a\u2019", "\uff01\uff0f", "\u3001\u3002", "\u300a\u300b", "\ufffd", "\ufeff", "\x00", "\x1c", "\u180e"])
        elif kind == 13:
            text += rng.choice(["Hello", "world", "the", "The", "def f(x):", "\u00c4pfel", "na\u00efve", "\u1f5f\u1f7d", "\u212a\u2126", "\u01bb\u0294"])
        else:
            text += "".join(chr(rng.choice(KNOWN)) for _ in range(n))
    return text


def train(parts, corpus):
    """A vocabulary; with a special token, and two that are found before anything is divided."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = parts[0] if len(parts) == 1 else pre_tokenizers.Sequence(parts)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(corpus, trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<|endoftext|>"],
        show_progress=False))
    tokenizer.add_tokens(["the  end", "\u2764\u2764"])
    return tokenizer


def vocabulary_of(tokenizer):
    data = json.loads(tokenizer.to_str())
    added = {token["id"]: token["special"] for token in data["added_tokens"]}
    tokens = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    types = [1 if i not in added else 3 if added[i] else 4 for i in range(len(tokens))]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in data["model"]["merges"]]
    return tokens, types, merges


def weights(vocab_size):
    """Of one layer, by Hugging Face's names."""
    rng = np.random.default_rng(1)
    shapes = {"model.embed_tokens.weight": (vocab_size, HIDDEN), "lm_head.weight": (vocab_size, HIDDEN),
              "model.norm.weight": (HIDDEN,)}
    for name, shape in {"input_layernorm": (HIDDEN,), "post_attention_layernorm": (HIDDEN,),
                        "self_attn.q_proj": (HIDDEN, HIDDEN), "self_attn.k_proj": (HIDDEN, HIDDEN),
                        "self_attn.v_proj": (HIDDEN, HIDDEN), "self_attn.o_proj": (HIDDEN, HIDDEN),
                        "mlp.gate_proj": (16, HIDDEN), "mlp.up_proj": (16, HIDDEN), "mlp.down_proj": (HIDDEN, 16)}.items():
        shapes[f"model.layers.0.{name}.weight"] = shape
    return {name: rng.standard_normal(shape).astype("<f4") for name, shape in shapes.items()}


def write_folder(folder, tokenizer):
    folder.mkdir()
    vocab_size = tokenizer.get_vocab_size()
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": HIDDEN,
        "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "vocab_size": vocab_size,
        "tie_word_embeddings": False, "torch_dtype": "float32", "bos_token_id": 0, "eos_token_id": 0}))
    header, data = {}, b""
    for name, weight in weights(vocab_size).items():
        header[name] = {"dtype": "F32", "shape": weight.shape, "data_offsets": [len(data), len(data) + weight.nbytes]}
        data += weight.tobytes()
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    tokenizer.save(str(folder / "tokenizer.json"))


def write_gguf(path, tokenizer, pre):
    tokens, types, merges = vocabulary_of(tokenizer)
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(16)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    names = {"model.embed_tokens": "token_embd", "lm_head": "output", "model.norm": "output_norm",
             "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
             "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
             "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
    for name, weight in weights(len(tokens)).items():
        name = name.removesuffix(".weight").replace("model.layers.0.", "")
        prefix = "" if name in ("model.embed_tokens", "lm_head", "model.norm") else "blk.0."
        writer.add_tensor(f"{prefix}{names[name]}.weight", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, errors="backslashreplace")
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def ids_of(tool, model, texts, scratch):
    path = scratch / "texts"
    path.write_bytes(b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts))
    return [[int(i) for i in line.split()] for line in run(tool, model, path).splitlines()]


def compare(name, where, expected, actual, texts):
    assert len(actual) == len(expected), (name, where, len(actual))
    for text, want, have in zip(texts, expected, actual):
        assert want == have, f"{name}, {where}: {text!r}\n  tokenizers {want}\n  thimble    {have}"


def main():
    thimble, tokenize_texts = sys.argv[1:]
    check_unicode_table()
    rng = random.Random(20)
    corpus = [random_text(rng) for _ in range(600)]
    texts = [random_text(rng) for _ in range(NUM_TEXTS)]
    texts += ["", "a" * 300, " " * 70, "\n" * 50 + "x", "12345678901234567890", "the  end of the  endthe  end\u2764\u2764\u2764",
              "<|endofte|>"]
    with tempfile.TemporaryDirectory() as folder:
        for name, (parts, converted) in PRE_TOKENIZERS.items():
            scratch = pathlib.Path(folder) / name
            scratch.mkdir()
            tokenizer = train(parts, corpus)
            expected = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
            write_gguf(scratch / "model.gguf", tokenizer, name)
            compare(name, "GGUF", expected, ids_of(tokenize_texts, scratch / "model.gguf", texts, scratch), texts)
            write_folder(scratch / "folder", tokenizer)
            run(thimble, "convert", scratch / "folder", "-o", scratch / "converted.gguf")
            read = gguf.GGUFReader(scratch / "converted.gguf").fields
            assert read["tokenizer.ggml.pre"].contents() == converted, read["tokenizer.ggml.pre"].contents()
            compare(name, "convert", expected, ids_of(tokenize_texts, scratch / "converted.gguf", texts, scratch), texts)
    print(f"{len(PRE_TOKENIZERS)} vocabularies, {len(texts)} texts each: the same ids")


if __name__ == "__main__":
    main()

"""SentencePiece's tokenizers against the sentencepiece package and Hugging Face's tokenizers.

    python sentencepiece_tokenizers.py THIMBLE TOKENIZE_TEXTS

For each normaliser, BPE and Unigram, with and without bytes, with and without extra spaces removed and a space in front,
spm_train trains a vocabulary. It becomes a folder with a tokenizer.model, which `thimble convert` reads. Random texts of
many scripts, ill-formed ones too, must get the ids that sentencepiece gives, and come back as the text that it gives, with
tables in memory, in an image, on a card and in stretches of a few bytes. Vocabularies of tokenizers with some of the bytes,
none, fused or not, and its Unigram, are compared with tokenizers. Exits with 77, "not run", where the packages of
requirements.txt are missing.
"""

import io
import json
import pathlib
import random
import struct
import sys
import tempfile

import hugging_face_tokenizers as hugging_face

try:
    import sentencepiece
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
except ImportError as missing:
    print(f"SKIPPED: {missing}; ./check installs it in build/venv")
    sys.exit(77)

NUM_TEXTS = 400

# What normalisers change: ligatures, wide and composed letters, signs, spaces of all kinds, controls.
CHANGED = ("\ufb01\ufb03\u2460\u2126\u212b\u00bd\u00c5\u1e9b\u0323\u0041\u030a\u0065\u0301\uff21\uff42\uff11\u30ab\u3099\uff76\uff9e\u1100\u1161\u11a8"
           "\uac01\ufdfa\u33a1\u0130\u00df\u1e9e\u03a3\u2167\u200b\u200d\u00ad\ufeff\u2028\u3000\u00a0\u2003\u0009\u000a\u000d\u0001\u007f\u0085"
           "\u2581\ufffd\u0344\u0f73\u1d15e\u02d8\u00a8\u2017\u2047\u00b4\u037a\u3392\u0345\u1fb3")


def random_bytes(rng):
    text = ""
    for _ in range(rng.randrange(1, 6)):
        kind = rng.randrange(8)
        if kind < 3:
            text += hugging_face.random_text(rng)
        elif kind < 6:
            text += "".join(rng.choice(CHANGED) for _ in range(rng.randrange(1, 8)))
        elif kind == 6:
            text += rng.choice([" ", "  ", "   ", "\u2581", "\u2581\u2581 ", " \u2581", "\t", "\n\n", "\u00a0 "])
        else:
            text += rng.choice(["once upon a time", "Once  Upon", "<unk>", "<s>", "</s>", "<0x41>", "caf\u00e9s", "STRASSE", "[x] [ y]", "@@"])
    data = text.encode()
    for _ in range(rng.choice([0, 0, 0, 1, 3])):
        at = rng.randrange(len(data) + 1)
        data = data[:at] + rng.choice([b"\xff", b"\x80", b"\xe2\x96", b"\xf0\x9f", b"\xc0\x80", b"\xed\xa0\x80", b"\x00"]) + data[at:]
    return data


def make_texts(rng):
    texts = [random_bytes(rng) for _ in range(NUM_TEXTS)]
    return texts + [b"", b" ", b"    ", b"\xe2\x96\x81", b" \xe2\x96\x81 ", b"\x01", b"\x01 \x01", b"  a  ", b"a" * 700, b"-" * 900,
                    b"Once  upon  a time", "\ufdfa".encode() * 40, "\u0915\u094d\u0937".encode() * 99, (b"ab " * 99)[:-1], b" " * 333]


def train(corpus, **options):
    model = io.BytesIO()
    settings = {"vocab_size": 900 if options.get("byte_fallback") else 640, "character_coverage": 0.98, "hard_vocab_limit": False,
                "user_defined_symbols": ["@@", "[x]", "\u2126\u2126"], "minloglevel": 2, "num_threads": 1}
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(corpus), model_writer=model, **{**settings, **options})
    return model.getvalue()


def write_folder(folder, vocab_size, name, tokenizer):
    class Plain:
        def get_vocab_size(self):
            return vocab_size

        def save(self, path):
            pathlib.Path(path).parent.joinpath(name).write_bytes(tokenizer)

    hugging_face.write_folder(folder, Plain())


def results_of(tool, model, texts, scratch):
    """Ids, and what they are as text."""
    path = scratch / "texts"
    path.write_bytes(b"".join(struct.pack("<I", len(text)) + text for text in texts))
    lines = hugging_face.run(tool, "--decoded", model, path).splitlines()
    pairs = [line.split("|") for line in lines]
    return [([int(i) for i in ids.split()], bytes.fromhex(text)) for ids, text in pairs]


def convert(thimble, tool, folder, texts, scratch):
    hugging_face.run(thimble, "convert", folder, "-o", scratch / "model.gguf")
    return results_of(tool, scratch / "model.gguf", texts, scratch)


def check_sentencepiece(thimble, tool, rng, corpus):
    texts = make_texts(rng)
    variants = []
    for kind in ("bpe", "unigram"):
        for rule in ("identity", "nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf"):
            variants.append(dict(model_type=kind, normalization_rule_name=rule, byte_fallback=rule != "nfkc",
                                 remove_extra_whitespaces=rule not in ("nfkc_cf",)))
        variants.append(dict(model_type=kind, normalization_rule_name="identity", add_dummy_prefix=False,
                             remove_extra_whitespaces=True))
        variants.append(dict(model_type=kind, normalization_rule_name="nmt_nfkc", add_dummy_prefix=False,
                             remove_extra_whitespaces=False, byte_fallback=True))
        variants.append(dict(model_type=kind, normalization_rule_name="identity", allow_whitespace_only_pieces=True,
                             remove_extra_whitespaces=False, split_by_whitespace=False, byte_fallback=True))
    num_unescaped = 0
    for number, options in enumerate(variants):
        model = train(corpus, **options)
        for escapes in (True, False) if number in (0, len(variants) // 2) else (True,):
            with tempfile.TemporaryDirectory() as name:
                scratch = pathlib.Path(name)
                if not escapes:
                    model = without_escapes(model)
                    num_unescaped += 1
                processor = sentencepiece.SentencePieceProcessor(model_proto=model)
                write_folder(scratch / "folder", processor.vocab_size(), "tokenizer.model", model)
                results = convert(thimble, tool, scratch / "folder", texts, scratch)
                assert len(results) == len(texts)
                for text, (ids, back) in zip(texts, results):
                    expected = processor.encode(text)
                    assert ids == expected, f"{options}, {escapes}: {text!r}\n  sentencepiece {expected}\n  thimble       {ids}"
                    if processor.unk_id() in ids:
                        continue  # nothing here, U+2047 there
                    wanted = processor.decode(expected).encode()
                    assert back == wanted, f"{options}, {escapes}: {text!r}\n  sentencepiece {wanted!r}\n  thimble       {back!r}"
    return len(variants) + num_unescaped, len(texts)


def fields_of(message):
    """Tags and contents of a protocol buffer whose fields are all texts, messages or of one byte."""
    at, fields = 0, []
    while at < len(message):
        tag, size, shift = message[at], 0, 0
        at += 1
        while True:
            size |= (message[at] & 127) << shift
            shift, at = shift + 7, at + 1
            if message[at - 1] < 128:
                break
        if tag % 8 == 2:
            fields.append((tag, message[at : at + size]))
            at += size
    return fields


def without_escapes(model):
    """The same pieces, half of them with spaces as they are, and NormalizerSpec.escape_whitespaces off."""
    changed = b""
    for number, (tag, message) in enumerate(fields_of(model)):
        escaped = "\u2581".encode()
        if tag == 0x0A and number % 2 and message[0] == 0x0A and message[1] < 128 and escaped in message[2 : 2 + message[1]]:
            piece = message[2 : 2 + message[1]].replace(escaped, b" ")
            message = bytes([0x0A, len(piece)]) + piece + message[2 + message[1] :]
        length, size = b"", len(message)
        while size >= 128:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        changed += bytes([tag]) + length + bytes([size]) + message
    return changed + b"\x1a\x02\x28\x00"


def charsmap_of(model):
    """NormalizerSpec.precompiled_charsmap."""
    return dict(fields_of(dict(fields_of(model))[0x1A]))[0x12]


def check_tokenizers(thimble, tool, rng, corpus):
    texts = [text for text in make_texts(rng) if not text.startswith((b" ", b"\xe2\x96\x81"))]
    texts = [text for text in texts if text.decode("utf-8", "ignore").encode() == text]
    num_variants = 0
    spm = sentencepiece.SentencePieceProcessor(model_proto=train(corpus, model_type="bpe", user_defined_symbols=[]))
    pieces = [spm.id_to_piece(i) for i in range(spm.vocab_size()) if not spm.is_control(i) and not spm.is_unknown(i)]
    for some_bytes in ("", "some", "all"):
        for fuses in (True, False):
            names = {"": [], "some": [0xC3, 0xA9, 0xA4, 0xE4, 0xB8, 0x80, 0x81, 0xD0, 0xB0], "all": range(256)}[some_bytes]
            tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in names] + pieces
            ids = {token: i for i, token in enumerate(tokens)}
            merges = [(piece[:at], piece[at:]) for piece in pieces for at in range(1, len(piece))
                      if piece[:at] in ids and piece[at:] in ids]
            tokenizer = Tokenizer(models.BPE(ids, merges, unk_token="<unk>", fuse_unk=fuses, byte_fallback=True))
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
            tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
            num_variants += compare_tokenizers(thimble, tool, tokenizer, texts)
    for rule in ("identity", "nmt_nfkc"):
        model = train(corpus, model_type="unigram", user_defined_symbols=[], normalization_rule_name=rule)
        spm = sentencepiece.SentencePieceProcessor(model_proto=model)
        scores = [(spm.id_to_piece(i), spm.get_score(i)) for i in range(spm.vocab_size())]
        tokenizer = Tokenizer(models.Unigram(scores, unk_id=spm.unk_id(), byte_fallback=False))
        steps = [normalizers.Strip(left=False, right=True), normalizers.Replace(hugging_face.Regex(" {2,}"), "\u2581")]
        tokenizer.normalizer = normalizers.Sequence(steps)
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
        # Strip takes away white space that sentencepiece keeps, and leaves U+2581, which it does not.
        plain = [text for text in texts if text.decode().strip("\u2581 ").strip().encode() == text]
        if rule == "identity":
            num_variants += compare_tokenizers(thimble, tool, tokenizer, plain)
        else:
            # tokenizers maps clusters, which is not sentencepiece's way.
            tokenizer.normalizer = normalizers.Sequence([normalizers.Precompiled(charsmap_of(model)), *steps])
            num_variants += compare_tokenizers(thimble, tool, tokenizer, texts, spm.encode)
    return num_variants


def compare_tokenizers(thimble, tool, tokenizer, texts, encode=None):
    data = tokenizer.to_str()
    texts = [text for text in texts if not any(name in text for name in (b"<s>", b"</s>", b"<unk>"))]
    with tempfile.TemporaryDirectory() as name:
        scratch = pathlib.Path(name)
        write_folder(scratch / "folder", tokenizer.get_vocab_size(), "tokenizer.json", data.encode())
        results = convert(thimble, tool, scratch / "folder", texts, scratch)
        for text, (ids, _) in zip(texts, results, strict=True):
            expected = encode(text) if encode else tokenizer.encode(text.decode()).ids
            model = json.loads(data)["model"]
            about = {key: model.get(key) for key in ("type", "fuse_unk", "byte_fallback")}
            assert ids == expected, f"{about}: {text!r}\n  tokenizers {expected}\n  thimble    {ids}"
    return 1


def main():
    thimble, tool = sys.argv[1:]
    rng = random.Random(7)
    stories = ["Once upon a time there was a little girl named Lily.", "She loved to play outside in the park.",
               "One day, she saw a big, red ball in the sky and said: \u00abcaf\u00e9\u00bb!", "na\u00efve \u00fcber Stra\u00dfe \u0431\u044b\u043b\u0430"]
    corpus = stories * 40 + [hugging_face.random_text(rng).replace("\x00", "") for _ in range(40)]
    num_models, num_texts = check_sentencepiece(thimble, tool, rng, corpus)
    num_tokenizers = check_tokenizers(thimble, tool, rng, corpus)
    print(f"{num_models} models and {num_tokenizers} of tokenizers, {num_texts} texts each: the same ids and texts")


if __name__ == "__main__":
    main()

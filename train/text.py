"""Text files to documents, documents to tokens."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Iterable

import sentencepiece as spm

from refusal import Refusal

UNK, BOS, EOS = 0, 1, 2
# Of so many documents, one is held out: never trained on, to measure the loss on.
HELD_OUT_EVERY = 20
MOST_HELD_OUT = 2000
# Enough to train a tokenizer on.
TOKENIZER_DOCUMENTS = 20_000
BLANK_LINES = re.compile(r"\n[ \t]*\n\s*")


def read_documents(paths: Iterable[Path]) -> list[str]:
    """The documents of the files: what blank lines separate."""
    documents = []
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise Refusal(f"cannot read {path}: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise Refusal(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
        documents += filter(None, (part.strip() for part in BLANK_LINES.split(text)))
    if len(documents) < 2:
        raise Refusal(f"the text has {len(documents)} documents; it takes 2 at least, with a blank line between them")
    return documents


def train_tokenizer(documents: Iterable[str], vocab_size: int) -> bytes:
    """The bytes of a tokenizer.model: SentencePiece BPE with byte fallback."""
    written = io.BytesIO()
    try:
        spm.SentencePieceTrainer.train(
            sentence_iterator=iter(documents), model_writer=written,
            model_type="bpe", vocab_size=vocab_size, byte_fallback=True,
            normalization_rule_name="identity", remove_extra_whitespaces=False,
            character_coverage=1.0, unk_id=UNK, bos_id=BOS, eos_id=EOS, pad_id=-1,
            num_threads=1, minloglevel=1)
    except RuntimeError as error:
        raise Refusal(f"SentencePiece makes no vocabulary of {vocab_size} pieces from this text"
                      f" ({' '.join(str(error).split())})") from None
    return written.getvalue()


def read_tokenizer(folder: Path) -> bytes:
    """The bytes of a folder's tokenizer.model."""
    try:
        return (folder / "tokenizer.model").read_bytes()
    except OSError as error:
        raise Refusal(f"cannot read {folder / 'tokenizer.model'}: {error.strerror}") from None


def processor_of(tokenizer: bytes, where: object) -> spm.SentencePieceProcessor:
    try:
        return spm.SentencePieceProcessor(model_proto=tokenizer)
    except RuntimeError:
        raise Refusal(f"{where} is no SentencePiece model") from None


def encode(processor: spm.SentencePieceProcessor, documents: list[str], context: int) -> list[list[int]]:
    """One row a document, <s> first, </s> last; a document that is longer than the context is cut into
    rows of `context` tokens, each of which starts with the last token of the one before."""
    rows = []
    for ids in processor.encode(documents):
        whole = [BOS, *ids, EOS]
        rows += [whole[at:at + context] for at in range(0, max(1, len(whole) - 1), context - 1)]
    return rows


def split(rows: list) -> tuple[list, list]:
    """Rows to train on and rows held out, evenly spaced."""
    held_out = range(0, len(rows), max(HELD_OUT_EVERY, len(rows) // MOST_HELD_OUT))
    return [row for i, row in enumerate(rows) if i not in held_out], [rows[i] for i in held_out]

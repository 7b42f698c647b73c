"""The exact next-token distribution of the story language: the best teacher there can be.

    python exact.py --out exact-targets stories.txt
    python exact.py --check 200

The first writes, for the stories of a text, what train/distill.py reads with `--given --targets`. The second
holds the distribution to Language.probability, which parses whole stories and knows nothing of tokens.

A prefix of tokens can be the beginning of several readings: each a place in the grammar, with the rows of each
table that what was read leaves open. From a place the grammar spells its next words, up to a space; a word's
tokens do not depend on its neighbours, because no token of the vocabulary has a space but in front.
"""

from __future__ import annotations

import argparse
import math
import sys
from functools import lru_cache
from pathlib import Path
from typing import Iterator, NamedTuple

import sentencepiece as spm

from stories import HELD_OUT_SEED, OPENING, OPENING_TABLES, Chain, Language, Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "train"))
from refusal import Refusal, run  # noqa: E402
from targets import Row, write_targets  # noqa: E402
from text import BOS, EOS, encode, read_documents, split  # noqa: E402

# Which rows of each table are still possible.
Open = tuple[tuple[int, ...], ...]
ORIGIN = "the exact distribution of the story language"


class Place(NamedTuple):
    """Where a reading is: before a beat (sentence -1), or so many characters into a piece of a sentence."""

    chain: int
    beat: int
    sentence: int
    piece: int
    offset: int
    rows: Open


# What may come next of a place: the share, the tokens of a word or of the end, the place after it.
Option = tuple[float, tuple[int, ...], Place | None]


class NextToken:
    """Distributions over the tokens that follow a prefix of a story's tokens."""

    def __init__(self, processor: spm.SentencePieceProcessor, language: Language) -> None:
        self.plots = language.chains
        # The last chain is the opening that all plots share.
        self.chains = [*self.plots, Chain("opening", OPENING_TABLES, OPENING)]
        self.tokens_of = lru_cache(maxsize=None)(lambda word: tuple(processor.encode(word)))
        self.start = Place(len(self.plots), 0, -1, 0, 0, self._all_rows(OPENING_TABLES))
        self.options = lru_cache(maxsize=1 << 18)(self._options)

    @staticmethod
    def _all_rows(tables: list[Table]) -> Open:
        return tuple(tuple(range(len(rows))) for rows in tables)

    def _options(self, place: Place) -> list[Option]:
        return [(share, self.tokens_of(word) if word else (EOS,), after)
                for share, word, after in self._words(place, 1.0, "")]

    def _words(self, place: Place, share: float, word: str) -> Iterator[tuple[float, str, Place | None]]:
        """The rest of a word that begins with `word`; an empty word is the end of the story."""
        chain = self.chains[place.chain]
        if place.sentence < 0:
            if word:
                yield share, word, place
            elif place.beat < len(chain.beats):
                alternatives = chain.pieces[place.beat]
                for number, pieces in enumerate(alternatives):
                    after = (place._replace(sentence=number) if pieces
                             else place._replace(beat=place.beat + 1))
                    yield from self._words(after, share / len(alternatives), "")
            elif place.chain == len(self.plots):
                for number, plot in enumerate(self.plots):
                    rows = place.rows + self._all_rows(plot.tables[len(OPENING_TABLES):])
                    yield from self._words(Place(number, len(OPENING), -1, 0, 0, rows),
                                           share / len(self.plots), "")
            else:
                yield share, "", None
            return
        pieces = chain.pieces[place.beat][place.sentence]
        if place.piece == len(pieces):
            yield from self._words(Place(place.chain, place.beat + 1, -1, 0, 0, place.rows), share, word)
            return
        piece = pieces[place.piece]
        if isinstance(piece, str):
            yield from self._spell(piece, place, share, word)
            return
        number, slot = piece
        table, left = chain.tables[number], place.rows[number]
        for value in dict.fromkeys(table[row][slot] for row in left):
            fitting = tuple(row for row in left if table[row][slot] == value)
            rows = place.rows[:number] + (fitting,) + place.rows[number + 1:]
            yield from self._spell(value, place._replace(rows=rows), share * len(fitting) / len(left), word)

    def _spell(self, text: str, place: Place, share: float, word: str) -> Iterator[tuple[float, str, Place | None]]:
        """Goes on with a piece's text, from place.offset."""
        space = text.find(" ", place.offset)
        if space < 0:
            yield from self._words(place._replace(piece=place.piece + 1, offset=0), share,
                                   word + text[place.offset:])
        elif word or space > place.offset:
            yield share, word + text[place.offset:space], place._replace(offset=space + 1)
        else:
            yield from self._spell(text, place._replace(offset=space + 1), share, word)

    def of_row(self, row: list[int]) -> Row:
        """For each token of a row but the last: the tokens that can follow up to there, and their shares."""
        answer: Row = []
        readings: dict[tuple[tuple[int, ...], Place | None], float] = {((), self.start): 1.0}
        for position, token in enumerate(row[1:], 1):
            shares: dict[int, float] = {}
            after: dict[tuple[tuple[int, ...], Place | None], float] = {}
            for (pending, place), weight in readings.items():
                for share, tokens, follows in [(1.0, pending, place)] if pending else self.options(place):
                    shares[tokens[0]] = shares.get(tokens[0], 0.0) + weight * share
                    if tokens[0] == token:
                        key = (tokens[1:], follows)
                        after[key] = after.get(key, 0.0) + weight * share
            if not after:
                raise Refusal(f"token {position} of a text cannot follow in a story: it is none of this language")
            answer.append((list(shares), list(shares.values())))
            whole = sum(after.values())
            readings = {key: weight / whole for key, weight in after.items()}
        return answer


def check(following: NextToken, processor: spm.SentencePieceProcessor, language: Language, count: int) -> list[str]:
    """What is wrong with the distributions of `count` held-out stories; nothing, if they can be trusted."""
    wrong = []
    least = taken = expected = 0.0
    tokens = 0
    stories = list(language.corpus(HELD_OUT_SEED, count))
    for story, row in zip(stories, encode(processor, stories, 512)):
        said = 0.0
        for token, (likely, shares) in zip(row[1:], following.of_row(row)):
            if abs(sum(shares) - 1) > 1e-9:
                wrong.append(f"shares sum to {sum(shares)} in: {story}")
            said -= math.log(shares[likely.index(token)])
            expected -= sum(share * math.log(share) for share in shares)
        exact = -math.log(language.probability(story))
        if abs(said - exact) > 1e-6:
            wrong.append(f"tokens say {said} nats, the parse says {exact}: {story}")
        taken, least, tokens = taken + said, least + exact, tokens + len(row) - 1
    print(f"{count} stories, {tokens} tokens: {taken / tokens:.4f} nats a token by tokens, {least / tokens:.4f} by"
          f" whole stories, {expected / tokens:.4f} expected from the distributions")
    if abs(expected - taken) / tokens > 0.02:
        wrong.append("what the distributions expect is not what the stories take")
    try:
        following.of_row([BOS, *processor.encode(stories[0].replace("there", "three")), EOS])
    except Refusal:
        return wrong
    return wrong if "there" not in stories[0] else [*wrong, "a text that is no story is let through"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path, nargs="*", help="stories, a blank line between them")
    parser.add_argument("--out", type=Path, help="where the targets go")
    parser.add_argument("--model", type=Path, default=Path(__file__).parent / "thimble-stories",
                        help="the folder with the tokenizer")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--check", type=int, metavar="N", help="check the distributions of N held-out stories")
    args = parser.parse_args()
    processor = spm.SentencePieceProcessor(model_file=str(args.model / "tokenizer.model"))
    language = Language()
    following = NextToken(processor, language)
    if args.check:
        wrong = check(following, processor, language, args.check)
        print("\n".join(wrong) or "the distributions are exact")
        return 1 if wrong else 0
    if not args.text or not args.out:
        parser.error("give --out and texts, or --check")
    rows = encode(processor, split(read_documents(args.text))[0], args.context)
    write_targets(args.out, rows, ORIGIN, lambda part: list(map(following.of_row, part)), "stories read")
    return 0


if __name__ == "__main__":
    run(main)

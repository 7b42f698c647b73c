#!/usr/bin/env python3
"""Writes engine/text/unicode_table.h: the classes of code points that pre-tokenizers ask for.

    apt-get install unicode-data
    engine/text/make_unicode_table.py > engine/text/unicode_table.h

From the Unicode Character Database as Debian packages it (/usr/share/unicode/UnicodeData.txt): general categories L, N
and P, and the property White_Space. LETTERS is the character class in DeepSeek LLM's tokenizer.json (deepseek-ai,
also in llama.cpp, src/llama-vocab.cpp): cased letters of one version of Unicode, which no category of today is.
"""
import re
import sys

FOLDER = "/usr/share/unicode/"
OTHER, LETTER, CASED_LETTER, NUMBER, PUNCTUATION, SPACE = range(6)
LETTERS = """
    41-5A 61-7A B5 C0-D6 D8-F6 F8-1BA 1BC-1BF 1C4-293 295-2AF 370-373 376 377 37B-37D 37F 386 388-38A 38C 38E-3A1
    3A3-3F5 3F7-481 48A-52F 531-556 10A0-10C5 13A0-13F5 13F8-13FD 1C90-1CBA 1CBD-1CBF 1D00-1D2B 1D6B-1D77 1D79-1D9A
    1E00-1F15 1F18-1F1D 1F20-1F45 1F48-1F4D 1F50-1F57 1F59 1F5B 1F5D 1F5F-1F7D 1F80-1FB4 1FB6-1FBC 1FBE 1FC2-1FC4
    1FC6-1FCC 1FD0-1FD3 1FD6-1FDB 1FE0-1FEC 1FF2-1FF4 1FF6-1FFC 2102 2107 210A-2113 2115 2119-211D 2124 2126 2128
    212A-212D 212F-2134 2139 213C-213F 2145-2149 214E 2183 2184 2C00-2C7B 2C7E-2CE4 2CEB-2CEE 2CF2 2CF3 A640-A66D
    A680-A69B A722-A76F A771-A787 A78B-A78E AB70-ABBF FB00-FB06 FB13-FB17 FF21-FF3A FF41-FF5A 10400-1044F
    104B0-104D3 104D8-104FB 10C80-10CB2 10CC0-10CF2 118A0-118DF 1E900-1E943
"""


def ranges(text):
    for ends in text.split():
        first, _, last = ends.partition("-")
        yield int(first, 16), int(last or first, 16)


def classes():
    of = [OTHER] * 0x110000
    first = None
    with open(FOLDER + "UnicodeData.txt") as file:
        for line in file:
            code, name, category = line.split(";")[:3]
            code = int(code, 16)
            if name.endswith(", First>"):
                first = code
                continue
            kind = {"L": LETTER, "N": NUMBER, "P": PUNCTUATION}.get(category[0], OTHER)
            for c in range(code if first is None else first, code + 1):
                of[c] = kind
            first = None
    with open(FOLDER + "PropList.txt") as file:
        for line in file:
            fields = line.split("#")[0].split(";")
            if len(fields) == 2 and fields[1].strip() == "White_Space":
                ends = fields[0].strip().split("..")
                for c in range(int(ends[0], 16), int(ends[-1], 16) + 1):
                    of[c] = SPACE
    for first, last in ranges(LETTERS):
        for c in range(first, last + 1):
            assert of[c] in (LETTER, OTHER), hex(c)
            of[c] = CASED_LETTER
    return of


def main():
    of = classes()
    with open(FOLDER + "ReadMe.txt") as file:
        version = re.search(r"versions/Unicode([0-9.]+)/", file.read())[1]
    runs = [(c, kind) for c, kind in enumerate(of) if c == 0 or kind != of[c - 1]]
    print(f"""// Classes of code points, Unicode {version}. Made by make_unicode_table.py; not to be changed by hand.
#ifndef THIMBLE_ENGINE_TEXT_UNICODE_TABLE_H_
#define THIMBLE_ENGINE_TEXT_UNICODE_TABLE_H_

#include <cstdint>

namespace thimble::text {{

// Each run's first code point times 8, and its class, in ascending order.
// clang-format off
inline constexpr uint32_t kUnicodeRuns[{len(runs)}] = {{""")
    numbers = [f"0x{first * 8 + kind:X}," for first, kind in runs]
    line = ""
    for number in numbers:
        if len(line) + 1 + len(number) > 118:
            print(" " + line)
            line = ""
        line += " " + number
    print(" " + line)
    print("""};
// clang-format on

}  // namespace thimble::text

#endif  // THIMBLE_ENGINE_TEXT_UNICODE_TABLE_H_""")


if __name__ == "__main__":
    sys.exit(main())

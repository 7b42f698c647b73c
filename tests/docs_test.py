#!/usr/bin/env python3
"""What can be measured of the pages: links that lead somewhere, commands that exist, words that are spelt as a
dictionary has them, sentences that are short.

    tests/docs_test.py build/thimble [--words]    --words: prints the words that neither dictionary nor list has

Words that are right and in no dictionary stand in tests/words.txt, one a line.
"""

import pathlib
import re
import shlex
import shutil
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "model/README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"),
                *ROOT.glob("train/*.md")])
# For people who begin here. Pages about how something works are for those who want to know it.
PLAIN = ["README.md", "docs/first-board.md", "docs/convert.md", "docs/planning.md", "docs/faq.md", "docs/serve.md",
         "docs/chat.md", "docs/compare-projects.md", "docs/your-own-model.md", "docs/library.md",
         "docs/browser.md"]
MAX_README_WORDS = 900
MAX_WORDS_OF_SENTENCE = 35
MAX_MEDIAN = 16
AVOIDED = ["whoever", "of which", "there is not", "are had by", "foretell"]

failures = []


def fail(page, what):
    failures.append(f"{page.relative_to(ROOT)}: {what}")


def anchors(text):
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ +(.*)$", without_code(text), re.M)
    named = set(re.findall(r'<a id="([^"]+)">', text))
    return named | {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", h).strip().lower()).replace(" ", "-") for h in headings}


def without_code(text):
    return re.sub(r"^[ ]*```.*?^[ ]*```[^\n]*$", "", text, flags=re.M | re.S)


def check_links(page, text):
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(text)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists():
            fail(page, f"the link {target} leads nowhere")
        elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text(encoding="utf-8")):
            fail(page, f"the link {target} names a heading that is not there")


def commands(text):
    for block in re.findall(r"^[ ]*```[^\n]*\n(.*?)^[ ]*```", text, re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            found = re.match(r"\s*\$?\s*(?:[A-Z_]+=\S* )?(?:build/)?thimble ([a-z-]+)( .*|$)", line)
            # Two spaces begin what is said about the command.
            if found:
                yield found[1], re.split(r"\s{2,}|\s#|\s[|<>&;]", found[2])[0]


def check_commands(page, text, helps):
    for name, rest in commands(text):
        if name not in helps:
            fail(page, f"there is no command 'thimble {name}'")
            continue
        known = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", helps[name]))
        try:
            words = shlex.split(rest)
        except ValueError:
            continue
        for word in words:
            option = word.split("=")[0]
            if re.fullmatch(r"--?[a-z][\w-]*", option) and option not in known:
                fail(page, f"'thimble {name}' has no option {option}")


def sentences(text):
    """Of paragraphs and lists: no code, tables, headings, links' targets or pictures."""
    text = without_code(text)
    text = re.sub(r"^#.*$|^\|.*$|^!\[.*$", "", text, flags=re.M)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    for paragraph in re.split(r"\n\s*\n|\n(?=\s*(?:\*|\d+\.) )", text):
        paragraph = re.sub(r"\s+", " ", re.sub(r"^\s*(\*|\d+\.) ", "", paragraph)).strip()
        for sentence in re.split(r"(?<=[.!?:;])\s+", paragraph):
            if sentence:
                yield sentence


def check_english(page, text):
    found = list(sentences(text))
    lengths = [len(s.split()) for s in found]
    if not lengths:
        return
    median = statistics.median(lengths)
    if median > MAX_MEDIAN:
        fail(page, f"half of its sentences have more than {median:g} words")
    for sentence, length in zip(found, lengths):
        if length > MAX_WORDS_OF_SENTENCE:
            fail(page, f"{length} words: {sentence}")
    for phrase in AVOIDED:
        if re.search(rf"\b{phrase}", " ".join(found), re.I):
            fail(page, f"'{phrase}' is hard to read")


def misspelt(text):
    """What hunspell does not know, less names, code and the list."""
    text = without_code(text)
    text = re.sub(r"`[^`]*`|\]\([^)]*\)|https?://\S+|<[^>]*>", " ", text)
    known = set((ROOT / "tests/words.txt").read_text(encoding="utf-8").split())
    words = {w for w in re.findall(r"[A-Za-z][A-Za-z']+", text) if w.islower() or w.istitle()}
    words = {w.removesuffix("'s").rstrip("'") for w in words}
    done = subprocess.run(["hunspell", "-d", "en_US", "-l"], input="\n".join(sorted(words)), text=True, check=True,
                          stdout=subprocess.PIPE)
    return sorted({w.lower() for w in done.stdout.split()} - known)


def run_readme(tool):
    """Two of the commands of README that need nothing but the bundled model, as they stand there."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for line in ('thimble fit model/thimble-stories', 'thimble run model/thimble-stories -p "Once upon a time"'):
        if line not in text:
            fail(ROOT / "README.md", f"'{line}' is gone")
        done = subprocess.run([tool, *shlex.split(line)[1:]], cwd=ROOT, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        if done.returncode != 0:
            fail(ROOT / "README.md", f"'{line}' fails: {done.stdout}")


def main():
    tool = str(pathlib.Path(sys.argv[1]).resolve())
    names = re.findall(r"^  ([a-z-]+) ", subprocess.run([tool, "help"], text=True, stdout=subprocess.PIPE).stdout, re.M)
    helps = {n: subprocess.run([tool, "help", n], text=True, stdout=subprocess.PIPE).stdout for n in names}
    helps["help"] = ""
    spells = shutil.which("hunspell") is not None
    if not spells:
        print("there is no hunspell: words are not looked up; ./check installs it")
    unknown = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        check_links(page, text)
        check_commands(page, text, helps)
        if str(page.relative_to(ROOT)) in PLAIN:
            check_english(page, text)
        if spells:
            words = misspelt(text)
            unknown.update(words)
            if words and "--words" not in sys.argv:
                fail(page, f"misspelt, or missing in tests/words.txt: {', '.join(words)}")
    if "--words" in sys.argv:
        print("\n".join(sorted(unknown)))
        return
    words = len((ROOT / "README.md").read_text(encoding="utf-8").split())
    if words > MAX_README_WORDS:
        fail(ROOT / "README.md", f"{words} words; {MAX_README_WORDS} are enough")
    run_readme(tool)
    for failure in failures:
        print(failure)
    sys.exit(1 if failures else 0)


main()

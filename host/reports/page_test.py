"""The page of `thimble simulate --html` and the plot of `thimble compare` in a real browser, light and dark, on a phone and on a desk:

    python3 page_test.py THIMBLE [PICTURE]

The figures on it are those of `simulate --json` and `plan --json`; it asks for nothing, complains of nothing, is as wide
as the screen, and its text can be read. With PICTURE it only writes a PNG of the page instead. Exits with 77, "not run",
where there is no Chromium.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests"))
from support.browser import Browser, program
from support.look import look, plain_spaces

if program() is None:
    print("SKIPPED: there is no chromium-headless-shell; ./check installs it")
    sys.exit(77)

TOOL = str(pathlib.Path(sys.argv[1]).resolve())
DESK, PHONE = (1280, 900), (390, 844)
EVIL = "</script><b>&amp;\"'"

# The page's figures, as a reader finds them.
FIGURES = r"""(() => {
  const texts = (selector, within = document) => [...within.querySelectorAll(selector)].map((e) => e.innerText.trim());
  return {
    heading: document.querySelector("h1").innerText,
    bold: document.querySelectorAll("body > b, main b:not([style]), header b").length,
    figures: Object.fromEntries([...document.querySelectorAll(".figures > div")].map(
      (div) => [div.querySelector("dt").innerText, div.querySelector("dd").innerText.replace(/\s+/g, " ")])),
    samplers: [...document.querySelectorAll("#samplers tbody tr")].map((tr) => texts("th, td", tr)),
    lanes: [...document.querySelectorAll(".lane")].map((lane) => ({
      id: lane.id, busy: lane.querySelector("small").innerText, label: lane.querySelector("svg").ariaLabel,
      blocks: lane.querySelectorAll("rect").length,
      inside: [...lane.querySelectorAll("rect")].every((rect, i, all) => {
        const [x, width] = [rect.x.baseVal.value, rect.width.baseVal.value];
        const before = all[i - 1];
        return x >= 0 && width > 0 && x + width < 10000.1 &&
          (!before || x > before.x.baseVal.value + before.width.baseVal.value - 0.1);
      }),
    })),
    stages: [...document.querySelectorAll("#stages tbody tr, #stages tfoot tr")].map((tr) => texts("th, td", tr)),
    regions: Object.fromEntries([...document.querySelectorAll(".region")].map((region) => {
      const area = region.querySelector("svg")?.getBoundingClientRect().width;
      const shares = [...region.querySelectorAll("rect")].map((rect) => rect.getBoundingClientRect().width / area);
      return [region.id, { rows: [...region.querySelectorAll("li")].map((li) => texts("span:not(.swatch)", li)), shares }];
    })),
    ladder: [...document.querySelectorAll("#ladder li")].map((li) => ({
      what: li.querySelector(".what").textContent, speed: li.querySelector(".speed")?.innerText.replace(/\s+/g, " "),
      worth: li.querySelector(".worth")?.innerText.replace(/\s+/g, " "),
      refused: li.querySelector(".refused")?.innerText ?? "",
      bar: li.querySelector(".track i")?.getBoundingClientRect().width / li.querySelector(".track")?.getBoundingClientRect().width,
    })),
    constants: texts(".constants dt"),
  };
})()"""

wrong = []


def expect(what, ok, found=""):
    if not ok:
        wrong.append(f"{what}: {found}")


def look_at_page(page):
    return look(page, ".strip, .region, .figures > div",
                "section, .figures > div, .region, .lane svg, svg.map, .ladder li") | plain_spaces(page.evaluate(FIGURES))


def equal(what, found, wanted):
    expect(what, found == wanted, f"{found!r} instead of {wanted!r}")


def grouped(number):
    return f"{number:,}".replace(",", " ")


def rounded(number):
    """As C's llround()."""
    return int(number + 0.5)


def triple(value):
    return f"{value['typical']:.2f} ({value['low']:.2f} to {value['high']:.2f})"


def run(*arguments):
    return json.loads(subprocess.run([TOOL, *arguments, "--json"], check=True, capture_output=True,
                                     stdin=subprocess.DEVNULL).stdout)


def check_figures(name, seen, simulated, planned):
    """The page's figures against those that the tool prints."""
    modelled = simulated["modelled"]
    zones = modelled["a_token_by_zone"]
    speed = modelled["tok_per_s"]
    first = modelled["first_token_s"]
    equal(f"{name}: speed", seen["figures"]["Speed"],
          f"{speed['typical']:.2f} tok/s modelled: low {speed['low']:.2f}, high {speed['high']:.2f} tok/s")
    equal(f"{name}: first token", seen["figures"]["First token after"],
          f"{first['typical']:.2f} s modelled: low {first['low']:.2f}, high {first['high']:.2f} s")
    busiest = max(modelled["busy"].values())
    expect(f"{name}: busiest", seen["figures"]["Busiest part"].startswith(f"{100 * busiest:.0f} % "), seen["figures"])
    equal(f"{name}: samplers", seen["samplers"],
          [[one["sampler"], triple(one["tok_per_s"]), triple(one["first_token_s"])]
           for one in [modelled, *simulated["modelled_beside"]]])
    equal(f"{name}: lanes", [(lane["id"], lane["busy"]) for lane in seen["lanes"]],
          [(f"lane-{lane}", f"busy {100 * busy:.1f} %") for lane, busy in modelled["busy"].items()])
    for lane in seen["lanes"]:
        expect(f"{name}: {lane['id']}", lane["inside"] and lane["blocks"] > 0 and "modelled" in lane["label"], lane)
    columns = ("ms", "waited_ms", "stalled_ms", "card_bytes", "reads", "memory_bytes", "card_ms", "spi_bus_ms",
               "core0_ms", "core1_ms")
    rows = []
    total = dict.fromkeys(columns, 0.0)
    for zone, values in zones.items():
        values["memory_bytes"] = values["psram_bytes"] + values["flash_bytes"]
        for column in columns:
            total[column] += values[column]
        rows.append((zone, values))
    rows.append(("a token", total))
    form = {"card_bytes": lambda v: grouped(rounded(v)), "memory_bytes": lambda v: grouped(rounded(v)),
            "reads": lambda v: f"{v:.1f}"}
    equal(f"{name}: stages", len(seen["stages"]), len(rows))
    for found, (zone, values) in zip(seen["stages"], rows):
        wanted = [zone] + [form.get(column, lambda v: f"{v:.2f}")(values[column]) for column in columns]
        if zone == "a token":  # the sum of rounded sums
            expect(f"{name}: a token", found[0] == zone and all(
                abs(float(a.replace(" ", "")) - float(b.replace(" ", ""))) <= (1 if float(b.replace(" ", "")).is_integer() else 0.06) for a, b in zip(found[1:], wanted[1:])),
                (found, wanted))
        else:
            equal(f"{name}: {zone}", found, wanted)
    for region, memory in simulated["memory"].items():
        capacity = memory["capacity_bytes"]
        found = seen["regions"].get(f"region-{region}", {"rows": [], "shares": []})
        if capacity == 0:
            equal(f"{name}: {region}", found["rows"], [])
            continue
        buffers = sorted((b for b in planned["buffers"] if b["region"] == region), key=lambda b: -b["bytes"])
        listed = [(b["name"], b["bytes"]) for b in buffers] + [("free", capacity - memory["peak_bytes"])]
        equal(f"{name}: {region}", found["rows"],
              [[what, grouped(size), f"{100 * size / capacity:.1f} %"] for what, size in listed])
        expect(f"{name}: scale of {region}", all(
            abs(share - size / capacity) < 0.01 for share, (_, size) in zip(found["shares"], listed)), found["shares"])
        equal(f"{name}: map of {region}", len(found["shares"]), len(buffers))
    ladder = simulated["modelled_ladder"]
    equal(f"{name}: ladder", [rung["what"] for rung in seen["ladder"]], [rung["what"] for rung in ladder])
    most = max(rung["tok_per_s"]["high"] for rung in ladder if "tok_per_s" in rung)
    before = None
    for rung, found in zip(ladder, seen["ladder"]):
        what = f"{name}: {rung['what']}"
        if "refused" in rung:
            expect(what, rung["refused"] in found["refused"], found)
            continue
        ms, speed = rung["ms_of_token"], rung["tok_per_s"]
        equal(what, found["speed"], "{typical:.2f} tok/s {low:.2f} to {high:.2f}".format(**speed))
        equal(what, found["worth"], (f"× {before / ms:.2f} " if before else "") + f"{ms:.1f} ms a token")
        expect(what, abs(found["bar"] - speed["typical"] / most) < 0.02, found)
        before = ms


def check_looks(name, page, seen, size, scheme):
    equal(f"{name}: requests", [url for url in page.requests if not url.startswith(("file:", "data:"))], [])
    equal(f"{name}: files asked for", len([url for url in page.requests if url.startswith("file:")]), 1)
    equal(f"{name}: complaints", page.complaints, [])
    equal(f"{name}: width", seen["width"], size[0])
    expect(f"{name}: little text", seen["pieces"] > 60, seen["pieces"])
    for fault in ("unreadable", "outside", "overlapping", "broken", "empty"):
        equal(f"{name}: {fault}", seen[fault][:5], [])
    expect(f"{name}: ground", seen["ground"] < 0.05 if scheme == "dark" else seen["ground"] > 0.8, seen["ground"])
    expect(f"{name}: does not say 'modelled'", seen["words"].lower().count("modelled") >= 8)
    expect(f"{name}: {EVIL}", EVIL in seen["words"] and seen["bold"] == 0, seen["words"][:600])


def check_keys(name, page):
    """Zoom and keyboard."""
    page.evaluate("document.querySelector('#zoom-5').click(); document.querySelector('.scroll').focus()")
    equal(f"{name}: zoom", page.evaluate(
        "document.querySelector('.strip').clientWidth / document.querySelector('.scroll').clientWidth"), 5)
    texts = []
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        page.press(key)
        texts.append(page.evaluate("document.querySelector('.readout').innerText"))
    expect(f"{name}: keys", len(set(texts)) == 3 and all(" us from " in text for text in texts), texts)


def check_replay(name, page, text):
    """The text is typed again, at the board's pace, and is whole in the end."""
    said = "document.querySelector('.said').textContent"
    button = "document.querySelector('.replay button')"
    equal(f"{name}: text", page.evaluate(said), text)
    page.evaluate(f"{button}.click()")
    equal(f"{name}: replay begins empty", page.evaluate(f"new Promise((d) => requestAnimationFrame(() => "
                                                        f"requestAnimationFrame(() => d({said}.length))))") < len(text), True)
    page.evaluate(f"{button}.click()")
    equal(f"{name}: all is shown", page.evaluate(said), text)


def board_file(path):
    path.write_text(json.dumps({"thimble_board": 1, "name": "mine", "like": "esp32-cam", "description": EVIL}))
    return str(path)


def draw(picture):
    """The top of the bundled model's page, as in docs/."""
    model = pathlib.Path(__file__).resolve().parents[2] / "model" / "thimble-stories"
    with tempfile.TemporaryDirectory() as temporary, Browser() as browser:
        out = pathlib.Path(temporary) / "page.html"
        subprocess.run([TOOL, "simulate", model.name, "--plan", "best", "--temp", "0", "-p", "Once upon a time", "--html",
                        out], check=True, cwd=model.parent, stdout=subprocess.DEVNULL)
        page = browser.page()
        page.open(out.as_uri(), 1120, 1230, "light")
        pathlib.Path(picture).write_bytes(page.picture())


def timeless_board(path):
    """One core, and nothing takes any time."""
    board = run("boards", "esp32-cam") | {"name": "timeless", "description": EVIL}
    board["cpu"]["cores"] = 1
    for cost in board["costs"].values():
        cost.update(low=0, typical=0, high=0)
    path.write_text(json.dumps(board))
    return str(path)


# What a reader sees of a plot: texts that stick out or lie over each other, circles, and colours like the ground's.
LOOK_AT_PLOT = r"""(() => {
  const found = { outside: [], overlapping: [], faint: [], words: "" };
  const whole = document.documentElement.getBoundingClientRect();
  const luminance = (text) => {
    const [r, g, b] = text.match(/[\d.]+/g).map((c) => c / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = luminance(getComputedStyle(document.querySelector(".ground")).fill);
  const texts = [...document.querySelectorAll("text")].map((text) => [text, text.getBoundingClientRect()]);
  for (const [text, box] of texts) {
    found.words += text.textContent + "\n";
    if (box.left < whole.left || box.right > whole.right || box.bottom > whole.bottom) found.outside.push(text.textContent);
    const [low, high] = [ground, luminance(getComputedStyle(text).fill)].sort((a, b) => a - b);
    if ((high + 0.05) / (low + 0.05) < 4.5) found.faint.push(text.textContent);
  }
  texts.forEach(([a, first], i) => texts.slice(i + 1).forEach(([b, second]) => {
    const wide = Math.min(first.right, second.right) - Math.max(first.left, second.left);
    const high = Math.min(first.bottom, second.bottom) - Math.max(first.top, second.top);
    if (wide > 1 && high > 4) found.overlapping.push([a.textContent, b.textContent]);
  }));
  found.points = [...document.querySelectorAll("circle:not(.key) > title")].map((title) => {
    const circle = title.parentElement;
    return [title.textContent, Number(circle.getAttribute("cx")), Number(circle.getAttribute("cy"))];
  });
  return found;
})()"""


def check_plot(page, folder):
    """The bundled model's, and one whose rows are all exact, with a name that is markup and too long."""
    bundled = str(pathlib.Path(__file__).resolve().parents[2] / "model" / "thimble-stories")
    small = str(folder / "<" / ("script><b>&amp;" + "long" * 20 + ".gguf"))
    subprocess.run([TOOL, "synth", "small", "-o", small], check=True)
    for name, model in (("plot", bundled), ("long name", small)):
        out = folder / "plot.svg"
        compared = run("compare", model, "--chunks", "2", "-n", "8", "--kld", "0.0001", "--screen", "48,3", "--plot",
                       str(out))
        rows = [row for row in compared["rows"] if "same_as" not in row]
        for scheme in ("light", "dark"):
            page.open(out.as_uri(), 800, 500, scheme)
            seen = page.evaluate(LOOK_AT_PLOT)
            for fault in ("outside", "overlapping", "faint"):
                equal(f"{name}, {scheme}: {fault}", seen[fault], [])
            equal(f"{name}: requests", len(page.requests), 1)
            expect(f"{name}: words", "modelled" in seen["words"] and "quality against speed" in seen["words"], seen["words"])
        # The faster the further right, the farther from float32 the lower, and all as the table has it.
        points = [("{}, {}: {:.2f} tok/s".format(row["stored"], head, row[key]["modelled_tok_per_s"]["typical"]),
                   row[key]["modelled_tok_per_s"]["typical"], row["kld_mean"])
                  for row in rows for head, key in (("full", "full"), ("screened", "screened")) if "refused" not in row[key]]
        expect(f"{name}: many points", len(points) >= 6, points)
        equal(f"{name}: points", [point[0].split(" modelled")[0] for point in seen["points"]], [p[0] for p in points])
        for at, key in ((1, 1), (2, 2)):
            ranks = sorted(zip([p[key] for p in points], [s[at] for s in seen["points"]]))
            expect(f"{name}: order", all(a[1] <= b[1] + 0.11 for a, b in zip(ranks, ranks[1:]) if a[0] < b[0]), ranks)


def main():
    with tempfile.TemporaryDirectory() as temporary, Browser() as browser:
        folder = pathlib.Path(temporary)
        (folder / "<").mkdir()
        model = str(folder / "<" / "script><b>&amp;\"'.gguf")
        subprocess.run([TOOL, "synth", "small", "-o", model], check=True)
        board = board_file(folder / "board.json")
        page = browser.page()

        out = folder / "page.html"
        simulated = run("simulate", model, "--board", board, "-n", "6", "-p", "a", "--temp", "0", "--html", str(out))
        planned = run("plan", model, "--board", board, "--temp", "0")
        expect("size", out.stat().st_size < 1_000_000, out.stat().st_size)
        for where, size in (("desk", DESK), ("phone", PHONE)):
            for scheme in ("light", "dark"):
                name = f"{where}, {scheme}"
                page.open(out.as_uri(), *size, scheme)
                seen = look_at_page(page)
                check_looks(name, page, seen, size, scheme)
                check_figures(name, seen, simulated, planned)
                check_keys(name, page)
                check_replay(name, page, simulated["text"])
        page.open(out.as_uri(), *PHONE, "light", scripts=False)
        check_figures("without scripts", look_at_page(page), simulated, planned)

        check_plot(page, folder)

        edges = {"one token": (board, "1"), "no time": (timeless_board(folder / "timeless.json"), "4")}
        for name, (board, tokens) in edges.items():
            run("simulate", model, "--board", board, "-n", tokens, "-p", "a", "--html", str(out))
            page.open(out.as_uri(), *PHONE, "light")
            seen = look_at_page(page)
            check_looks(name, page, seen, PHONE, "light")
            equal(f"{name}: lanes", seen["lanes"], [])
            equal(f"{name}: regions", len(seen["regions"]), 4)
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    draw(sys.argv[2]) if len(sys.argv) > 2 else main()

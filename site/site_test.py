"""The site in a real browser, light and dark, on a phone and on a desk:

    python3 site_test.py SITE THIMBLE [PICTURES]

SITE is what build.mjs has made, THIMBLE the native tool. A story and converted files are the native tool's, byte for byte;
keys do what a mouse does; nobody but the site's own server is asked; and once loaded it works without one. PICTURES: a
folder for pictures of what was looked at. Exits with 77, "not run", where there is no Chromium or no site.
"""

import base64
import functools
import http.server
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from support.browser import Browser, program
from support.look import look, plain_spaces
from support.service import until

SITE, TOOL = pathlib.Path(sys.argv[1]), str(pathlib.Path(sys.argv[2]).resolve())
PICTURES = pathlib.Path(sys.argv[3]) if len(sys.argv) > 3 else None
DESK, PHONE = (1280, 900), (390, 844)
BUNDLED = ROOT / "model/thimble-stories"

for there, what in ((program(), "chromium-headless-shell"), ((SITE / "thimble.wasm").exists(), str(SITE))):
    if not there:
        print(f"SKIPPED: there is no {what}; ./check installs or builds it")
        sys.exit(77)


class Quiet(http.server.SimpleHTTPRequestHandler):
    extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".wasm": "application/wasm",
                      ".js": "text/javascript"}

    def log_message(self, *_):
        pass


def serve():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(SITE)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}/"


def text(page, selector):
    return plain_spaces(page.evaluate(f"document.querySelector({json.dumps(selector)}).innerText"))


def is_seen(page, selector):
    return page.evaluate(f"document.querySelector({json.dumps(selector)}).checkVisibility()")


def tool(*arguments, folder):
    return subprocess.run([TOOL, *arguments], cwd=folder, capture_output=True, check=True, text=True)


def check_looks(page, what, scheme, size):
    seen = look(page, ".box, li, .row, #figures > div, #output div", "section, #scale li, .bar, #figures > div", "#figures")
    for fault in ("unreadable", "outside", "overlapping", "broken", "empty"):
        assert not seen[fault], (what, fault, seen[fault][:5])
    assert seen["width"] == size[0], (what, seen["width"])
    assert seen["ground"] < 0.05 if scheme == "dark" else seen["ground"] > 0.8, (what, seen["ground"])
    small = page.evaluate("""[...document.querySelectorAll("button, select, textarea, fieldset label")].filter((e) => {
      const { width, height } = e.getBoundingClientRect();
      return e.checkVisibility() && (width < 44 || height < 44);
    }).map((e) => e.outerHTML)""")
    assert not small, (what, small)
    unnamed = page.evaluate("""[...document.querySelectorAll("button, input, select, textarea")].filter(
      (e) => e.checkVisibility() && !(e.innerText?.trim() || e.labels?.length)).map((e) => e.outerHTML)""")
    assert not unnamed, (what, unnamed)
    if PICTURES:
        (PICTURES / f"{what}.png".replace(" ", "-")).write_bytes(page.picture())


def expect_calm(page, url):
    others = [one for one in page.requests if not one.startswith((url, "data:", "blob:"))]
    assert not others, others
    # Whether there is a firmware is asked for, and there is none.
    loud = [one for one in page.complaints if "firmware/manifest" not in json.dumps(one)]
    assert not loud, loud


def tell_story(page, pace):
    page.evaluate(f"document.querySelector('[name=pace][value={pace}]').checked = true")
    page.click("#tell")
    until("a story is told", lambda: len(text(page, "#story-text")) > 40)


def wait_for_end(page):
    until("the story ends", lambda: page.evaluate("document.querySelector('#story-text').ariaBusy") == "false")


def check_story(page, folder):
    """The native tool's text and bytes, for the seed that the page took."""
    page.evaluate("Math.random = () => 0.000006")  # seed 7
    tell_story(page, "full")
    wait_for_end(page)
    tool("convert", str(BUNDLED), "-o", "stories.gguf", folder=folder)
    printed = tool("run", "-m", "stories.gguf", "--board", "esp32-cam", "-n", "300", "--temp", "0.8", "-s", "7", "-v",
                   "--prompt=Once upon a time", folder=folder)
    assert text(page, "#story-text") == printed.stdout.strip(), (text(page, "#story-text"), printed.stdout)
    regions = re.findall(r"(\d[\d ]*) of", re.search(r"^memory(.*\n)+?card", printed.stderr, re.M)[0])
    used = sum(int(region.replace(" ", "")) for region in regions)
    assert text(page, "#scale-text").startswith(f"{used / 1e6:.2f} MB of memory run"), text(page, "#scale-text")
    reads = int(text(page, "#reads").replace(" ", ""))
    least = int(re.search(r"in ([\d ]+) reads", printed.stderr)[1].replace(" ", ""))
    assert least <= reads < least + 200, (reads, least)  # with those that open the model


def check_pace(page):
    """Text comes when the modelled board would have it, and a button stops it."""
    tell_story(page, "board")
    begun = float(text(page, "#seconds"))
    until("time goes on", lambda: float(text(page, "#seconds")) > begun + 1)
    page.click("#tell")
    wait_for_end(page)
    assert text(page, "#story-note") == "Stopped.", text(page, "#story-note")
    assert text(page, "#tell") == "Tell the story"


def choose_files(page, selector, paths):
    document = page.call("DOM.getDocument")["root"]["nodeId"]
    node = page.call("DOM.querySelector", nodeId=document, selector=selector)["nodeId"]
    page.call("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in paths])


def take_step(page, step):
    page.click(f"[data-step={step}]")
    until(f"{step} ends", lambda: not is_seen(page, "#going"))


def made(page, name):
    return base64.b64decode(page.evaluate(f"""made.get({json.dumps(name)}).arrayBuffer().then((bytes) => {{
      let text = "";
      for (const byte of new Uint8Array(bytes)) text += String.fromCharCode(byte);
      return btoa(text);
    }})"""))


def check_model(page, folder):
    """A file and a folder of this computer, through all steps; wrong ones are a sentence."""
    page.click("#tab-yours")
    choose_files(page, "#files", [ROOT / "LICENSE"])
    until("the file is chosen", lambda: is_seen(page, "#steps"))
    take_step(page, "convert")
    refused = text(page, "#trouble-text")
    assert refused == "LICENSE is neither a Hugging Face folder nor a llama2.c checkpoint." or refused.startswith("LICENSE"), refused

    tool("synth", "small", "-o", "seeded.gguf", folder=folder)
    choose_files(page, "#files", [folder / "seeded.gguf"])
    until("the model is chosen", lambda: text(page, "#chosen") == "seeded.gguf")
    take_step(page, "inspect")
    assert text(page, "#output").split() == tool("inspect", "seeded.gguf", folder=folder).stdout.split()
    take_step(page, "prepare")
    tool("prepare", "seeded.gguf", folder=folder)
    assert made(page, "seeded.thimble") == (folder / "seeded.thimble").read_bytes()

    page.click("#pick-bundled")
    take_step(page, "fit")
    assert "esp32-cam" in text(page, "#output"), text(page, "#output")
    page.evaluate("document.querySelector('#quant').value = 'q8_0'")
    take_step(page, "convert")
    tool("convert", str(BUNDLED), "--quant", "q8_0", "-o", "eight.gguf", folder=folder)
    assert made(page, "thimble-stories-q8_0.gguf") == (folder / "eight.gguf").read_bytes()


def check_keys(page):
    page.evaluate("document.querySelector('#tab-try').focus()")
    for name in ("yours", "flash", "try"):
        page.press("ArrowRight")
        assert page.evaluate("document.activeElement.id") == f"tab-{name}"
        assert is_seen(page, f"#{name}")
    page.press("Tab")
    assert page.evaluate("document.activeElement.id") == "beginning"


def check_flash(page):
    page.click("#tab-flash")
    until("it says what there is", lambda: text(page, "#flash-text").startswith("No firmware image was released yet"))


def check_flash_of_a_release(page, url, folder):
    """With images that stand for a release's: one chip has both kinds, the other one of them."""
    images = folder / "images"
    images.mkdir()
    for ending in ("esp32", "esp32-wifi", "esp32s3"):
        (images / f"thimble-9.8.7-{ending}.bin").write_bytes(ending.encode())
    lay_out = ["node", ROOT / "site/manifest.mjs"]
    refused = subprocess.run([*lay_out, "1.0.0", images, SITE], capture_output=True, text=True)
    assert refused.returncode == 1 and "has no thimble-1.0.0-CHIP.bin" in refused.stderr, refused
    try:
        subprocess.run([*lay_out, "9.8.7", images, SITE], check=True)
        wifi = json.loads((SITE / "firmware/manifest-wifi.json").read_text())
        assert [build["chipFamily"] for build in wifi["builds"]] == ["ESP32"] and wifi["new_install_improv_wait_time"] > 0, wifi
        plain = json.loads((SITE / "firmware/manifest.json").read_text())
        assert [build["chipFamily"] for build in plain["builds"]] == ["ESP32", "ESP32-S3"], plain
        for build in plain["builds"] + wifi["builds"]:
            for part in build["parts"]:
                assert (SITE / "firmware" / part["path"]).read_bytes() and part["offset"] == 0, part
        page.open(url, *DESK, "light")
        page.click("#tab-flash")
        if page.evaluate("'serial' in navigator"):
            until("both are offered", lambda: page.evaluate("document.querySelectorAll('esp-web-install-button button').length") == 2)
            assert "Wi-Fi" in text(page, "#flash-button"), text(page, "#flash-button")
            check_looks(page, "flash of a release", "light", DESK)
        else:
            until("it says what can", lambda: "Chrome or Edge" in text(page, "#flash-text"))
        expect_calm(page, url)
    finally:
        shutil.rmtree(SITE / "firmware")


def check_without_network(page, server, url):
    until("the site is kept", lambda: page.evaluate("navigator.serviceWorker.ready.then((one) => one.active?.state)") == "activated")
    server.shutdown()
    server.server_close()
    page.open(url, *PHONE, "light")
    tell_story(page, "full")
    wait_for_end(page)


server, url = serve()
with tempfile.TemporaryDirectory() as work, Browser() as browser:
    folder = pathlib.Path(work)
    page = browser.page()
    page.open(url, *DESK, "light")
    check_keys(page)
    check_story(page, folder)
    expect_calm(page, url)
    check_pace(page)
    check_model(page, folder)
    check_flash(page)
    expect_calm(page, url)
    for size, name in ((DESK, "desk"), (PHONE, "phone")):
        for scheme in ("light", "dark"):
            page.open(url, *size, scheme)
            tell_story(page, "full")
            wait_for_end(page)
            check_looks(page, f"try {name} {scheme}", scheme, size)
            page.click("#tab-yours")
            page.click("#pick-bundled")
            take_step(page, "fit")
            check_looks(page, f"yours {name} {scheme}", scheme, size)
            check_flash(page)
            check_looks(page, f"flash {name} {scheme}", scheme, size)
    check_flash_of_a_release(page, url, folder)
    check_without_network(page, server, url)
print("the site tells the native tool's story, makes its files, and works without a network")

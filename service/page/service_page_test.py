"""The page of `thimble serve` in a real browser, light and dark, on a phone and on a desk:

    python3 service_page_test.py THIMBLE

Texts are those that the service gives by itself, figures those of its ledger; whatever goes wrong is one sentence, and no
text of the user is lost; keys do what a mouse does; it asks nobody but the service. Exits with 77, "not run", where there
is no Chromium.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests"))
from support.browser import Browser, program
from support.look import look, plain_spaces
from support.service import Service, post, until

if program() is None:
    print("SKIPPED: there is no chromium-headless-shell; ./check installs it")
    sys.exit(77)

TOOL = str(pathlib.Path(sys.argv[1]).resolve())
DESK, PHONE = (1280, 900), (390, 844)
KEY = "secret"
# Made-up words, thousands of them with the seeds below, some hundred a second.
ENDLESS = ("small", "--seed", "3", "--shape",
           "max_position_embeddings=8192,num_hidden_layers=32,intermediate_size=1024,vocab_size=8192")
MESSAGE = "What did the rabbit see?"


def text(page, selector):
    return plain_spaces(page.evaluate(f"document.querySelector({json.dumps(selector)}).innerText"))


def value(page, selector):
    return page.evaluate(f"document.querySelector({json.dumps(selector)}).value")


def is_seen(page, selector):
    return page.evaluate(f"document.querySelector({json.dumps(selector)}).checkVisibility()")


def expect_trouble(page, words):
    """One sentence, where it is seen."""
    until("there is a sentence", lambda: is_seen(page, "#trouble-text") and words in text(page, "#trouble-text"))
    found = text(page, "#trouble-text")
    assert found[0].isupper() and found.endswith("."), found
    at_its_place = page.evaluate("""(() => {
      const box = document.querySelector("#trouble-text").getBoundingClientRect();
      return document.elementFromPoint(box.x + box.width / 2, box.bottom - 2)?.id;
    })()""")
    assert at_its_place == "trouble-text", at_its_place


def focus(page):
    return page.evaluate("document.activeElement.id")


def open_page(page, service, size=PHONE, scheme="light"):
    """As if in a new tab."""
    page.open(service.url, *size, scheme)
    page.evaluate("sessionStorage.clear()")
    page.open(service.url, *size, scheme)
    until("the page knows the model", lambda: is_seen(page, "#figures") or is_seen(page, "#key-form"))


def set_field(page, name, number):
    page.evaluate(f"document.querySelector('[name={name}]').value = {json.dumps(str(number))}")


def write(page, selector, words):
    page.evaluate(f"document.querySelector({json.dumps(selector)}).select()")
    page.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
    page.type(words)
    assert value(page, selector) == words, value(page, selector)


def is_running(page):
    return page.evaluate("document.querySelector('#story-text').ariaBusy === 'true'")


def wait_for_end(page):
    until("the text ends", lambda: not is_running(page))


def wait_for_tokens(page, least):
    until("tokens come", lambda: int("0" + text(page, "#tokens").replace(" ", "").replace("–", "")) >= least)


def expect_calm(page, service, statuses=()):
    """Nobody but the service was asked, and nothing complained of but these refusals."""
    others = [url for url in page.requests if not url.startswith((service.url, "data:"))]
    assert not others, others
    refusals = [f"the server responded with a status of {status}" for status in statuses]
    loud = [one for one in page.complaints if not any(refusal in json.dumps(one) for refusal in refusals)]
    assert not loud, loud


def three(number):
    if number >= 99.95:
        return f"{int(number + 0.5):,}".replace(",", " ")
    return f"{number:.{2 - (number >= 10) if number >= 1 else 3}f}"


def megabytes(number):
    return f"{three(number / 1e6)} MB"


def check_looks(page, what, scheme, size):
    seen = look(page, ".box, li, .row, #figures > div", "section, #scale li, .bar, #figures > div", "#figures, #chat-form, .tell")
    for fault in ("unreadable", "outside", "overlapping", "broken", "empty"):
        assert not seen[fault], (what, fault, seen[fault][:5])
    assert seen["width"] == size[0], (what, seen["width"])
    assert seen["ground"] < 0.05 if scheme == "dark" else seen["ground"] > 0.8, (what, seen["ground"])
    small = page.evaluate("""[...document.querySelectorAll("button, summary, input, textarea")].filter((e) => {
      const { width, height } = e.getBoundingClientRect();
      return e.checkVisibility() && (width < 44 || height < 44);
    }).map((e) => e.outerHTML)""")
    assert not small, (what, small)
    unnamed = page.evaluate("""[...document.querySelectorAll("button, input, textarea")].filter(
      (e) => e.checkVisibility() && !(e.innerText.trim() || e.labels?.length)).map((e) => e.outerHTML)""")
    assert not unnamed, (what, unnamed)


def check_story(browser, page, service):
    """All by keys; the text, its figures and the bars are the service's."""
    open_page(page, service)
    set_field(page, "seed", 7)
    page.press("Tab")
    assert focus(page) == "pick-name", focus(page)
    page.press("Enter")
    page.press("Tab")
    for _ in range(2):
        page.press(" ")
    assert [text(page, f"#pick-{kind} b") for kind in ("name", "animal", "place")] == ["Tom", "puppy", "in the garden"]
    prompt = value(page, "#beginning")
    assert "a kind boy named Tom" in prompt and prompt.endswith("It was a little puppy"), prompt
    for _ in range(3):
        page.press("Tab")
    assert focus(page) == "tell", focus(page)
    page.press("Enter")
    until("the story is told", lambda: is_seen(page, "#copy-story"))
    told = text(page, "#story-text")
    whole = service.json("/v1/completions", {"prompt": prompt, "seed": 7})
    assert told == prompt + whole["choices"][0]["text"], (told, whole)
    assert focus(page) == "tell", focus(page)

    page.click("#tell")
    wait_for_end(page)
    ledger = service.json("/thimble/ledger")
    assert ledger["cached_tokens"] > 5, ledger
    assert text(page, "#card-bytes") == megabytes(ledger["card_bytes"]), (text(page, "#card-bytes"), ledger)
    assert text(page, "#reads").replace(" ", "") == str(ledger["reads"]), (text(page, "#reads"), ledger)
    assert text(page, "#tokens") == str(ledger["completion_tokens"])
    rate = three(ledger["timings"]["predicted_per_second"])
    assert text(page, "#rate") == rate
    assert text(page, "#story-note") == (
        f"{ledger['completion_tokens']} tokens · {rate} a second · {megabytes(ledger['card_bytes'])} from the card · "
        f"{ledger['cached_tokens']} of {ledger['prompt_tokens']} prompt tokens kept"), text(page, "#story-note")

    props = service.json("/props")
    regions = [region for region in props["board"]["memory"] if region["used_bytes"]]
    sizes = [props["model_bytes"]] + [size for r in regions for size in (r["capacity_bytes"], r["used_bytes"])]
    shares = page.evaluate("""[...document.querySelectorAll("#scale i")].map(
      (i) => i.getBoundingClientRect().width / i.parentElement.getBoundingClientRect().width)""")
    largest = max(sizes)
    assert len(shares) == len(sizes) and all(abs(share - size / largest) < 0.01 for share, size in zip(shares, sizes))
    assert megabytes(props["model_bytes"]) in text(page, "#scale-text")

    # With a clipboard, and without one, as without HTTPS.
    browser.call("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    page.click("#copy-story")
    until("it says so", lambda: text(page, "#copy-story") == "Copied")
    assert page.evaluate("navigator.clipboard.readText()") == told
    page.evaluate("""Object.defineProperty(navigator, "clipboard", { value: undefined });
      document.addEventListener("copy", () => { window.copied = document.activeElement.value; })""")
    until("it can be pressed again", lambda: text(page, "#copy-story") == "Copy")
    page.click("#copy-story")
    until("it says so", lambda: text(page, "#copy-story") == "Copied")
    assert page.evaluate("window.copied") == told and focus(page) == "copy-story"

    # A beginning of one's own is never replaced.
    write(page, "#beginning", "Tom had a red cap")
    page.click("#pick-animal")
    assert value(page, "#beginning") == "Tom had a red cap" and "puppy" in text(page, "#status")
    page.click("#pick-name")
    assert value(page, "#beginning") == "Mia had a red cap"
    page.open(service.url, *PHONE, "light")
    until("it is there after a reload", lambda: value(page, "#beginning") == "Mia had a red cap")
    expect_calm(page, service)


def check_refusal(page, service):
    open_page(page, service)
    long = "word " * 600
    write(page, "#beginning", long)
    page.click("#tell")
    expect_trouble(page, "send less text")
    assert value(page, "#beginning") == long and not is_seen(page, "#story-text") and not is_seen(page, "#again")
    set_field(page, "temperature", -1)
    page.click("#tell")
    assert focus(page) == "" and page.evaluate("document.activeElement.name") == "temperature"
    expect_calm(page, service, [400])


def check_chat(page, service):
    headers = {"Authorization": f"Bearer {KEY}"}
    open_page(page, service)
    assert focus(page) == "key" and not is_seen(page, "#figures"), focus(page)
    page.type("wrong")
    page.press("Enter")
    expect_trouble(page, "This is not the key of the service: look at it again.")
    assert focus(page) == "key"
    write(page, "#key", KEY)
    page.press("Enter")
    until("the chat is there", lambda: is_seen(page, "#chat") and focus(page) == "message")
    assert not is_seen(page, "#key-form") and not is_seen(page, "#trouble")

    set_field(page, "seed", 3)
    set_field(page, "max_tokens", 20)
    messages = []
    for turn, question in enumerate((MESSAGE, "And then?\nTell me.")):
        messages.append({"role": "user", "content": question})
        lines = question.split("\n")
        page.type(lines[0])
        for line in lines[1:]:
            page.press("Enter", shift=True)
            page.type(line)
        page.press("Enter")
        until("the answer is there", lambda: page.evaluate("document.querySelectorAll('#messages .note').length") == turn + 1)
        assert value(page, "#message") == "" and focus(page) == "message"
        status, _, answer = service.ask("POST", "/v1/chat/completions",
                                        {"messages": messages, "seed": 3, "max_tokens": 20}, headers)
        assert status == 200, answer
        messages.append(json.loads(answer)["choices"][0]["message"])
        shown = page.evaluate("[...document.querySelectorAll('#messages .text')].map((e) => e.textContent)")
        wanted = [m["content"] if m["role"] == "user" else m["content"].lstrip() for m in messages]
        assert shown == wanted, (shown, wanted)
        messages[-1] = {"role": "assistant", "content": messages[-1]["content"]}
    kept, of = text(page, "#messages li:last-child .note").split(" · ")[-1].replace(" prompt tokens kept", "").split(" of ")
    assert 10 < int(kept) < int(of), (kept, of)
    page.type("half a mess")
    page.open(service.url, *PHONE, "light")
    until("all is there after a reload", lambda: is_seen(page, "#chat"))
    assert value(page, "#message") == "half a mess"
    assert page.evaluate("[...document.querySelectorAll('#messages .text')].map((e) => e.textContent)") == wanted
    page.click("#new-chat")
    assert page.evaluate("document.querySelector('#messages li')") is None
    expect_calm(page, service, [401])


def check_growing(page, service):
    """A long text comes bit by bit, counts, and stops."""
    open_page(page, service)
    assert text(page, "#model") == "endless, inside this computer"
    assert page.evaluate("document.querySelectorAll('#scale li').length") == 2
    set_field(page, "seed", 1)
    page.click("#tab-story")
    page.click("#tell")
    seen = []
    tokens = 0
    for _ in range(3):
        wait_for_tokens(page, tokens + 2)
        told, card_bytes, tokens = page.evaluate(
            "['#story-text', '#card-bytes', '#tokens'].map((at) => document.querySelector(at).textContent)")
        tokens = int(plain_spaces(tokens).replace(" ", ""))
        number, unit = plain_spaces(card_bytes).split(" ")
        seen.append((told, float(number) * {"MB": 1, "GB": 1000}[unit]))
        assert is_running(page) and text(page, "#tell") == "Stop"
    for (before, bytes_before), (after, bytes_after) in zip(seen, seen[1:]):
        assert after.startswith(before) and len(after) > len(before) and bytes_after > bytes_before, seen
    # What beats does not for those who want nothing to move.
    beat = "getComputedStyle(document.querySelector('.growing'), '::after').animationName"
    assert page.evaluate(beat) == "beat"
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
    assert page.evaluate(beat) == "none"
    cancelled = service.metric("texts_cancelled_total")
    page.click("#tell")
    wait_for_end(page)
    until("the service stops", lambda: service.metric("texts_cancelled_total") == cancelled + 1)
    told = text(page, "#story-text")
    assert text(page, "#story-note").startswith("Stopped · ") and not is_seen(page, "#trouble"), text(page, "#story-note")
    assert text(page, "#tell") == "Tell the story"
    # On from where it was.
    set_field(page, "max_tokens", 3)
    page.click("#go-on")
    wait_for_end(page)
    longer = text(page, "#story-text")
    assert longer.startswith(told) and len(longer) > len(told), (told, longer)
    # And stopped by a key.
    set_field(page, "max_tokens", "")
    page.click("#tell")
    wait_for_tokens(page, 2)
    page.press("Escape")
    wait_for_end(page)
    until("the service stops", lambda: service.metric("texts_cancelled_total") == cancelled + 2)
    assert "".join(page.evaluate("[...document.querySelectorAll('#said p')].map((p) => p.textContent)")).endswith("Stopped.")
    expect_calm(page, service)


def check_busy(page, service):
    """Who is sent away has their message, and sends it again."""
    open_page(page, service)
    page.click("#tab-chat")
    set_field(page, "seed", 1)
    set_field(page, "max_tokens", 150)
    write(page, "#message", "Hello")
    page.press("Enter")
    until("a long answer is there", lambda: page.evaluate("document.querySelectorAll('#messages .note').length") == 1)
    set_field(page, "max_tokens", 5)
    other = service.connect(post("/v1/completions", {"prompt": "a", "stream": True, "seed": 1}))
    until("somebody else has the turn", lambda: service.metric("requests_in_queue") == 1)
    write(page, "#message", MESSAGE)
    page.press("Enter")
    expect_trouble(page, "The service is busy with other texts: try again in 10 seconds.")
    assert value(page, "#message") == MESSAGE and page.evaluate("document.querySelectorAll('#messages li').length") == 2
    other.close()
    until("it is free", lambda: service.metric("requests_in_queue") == 0)
    page.click("#again")
    until("there is an answer", lambda: page.evaluate("document.querySelectorAll('#messages .note').length") == 2)
    assert value(page, "#message") == "" and not is_seen(page, "#trouble")
    expect_calm(page, service, [503])


def check_lost(page, service):
    """The service is gone in mid-stream, and stays so. Texts stay, too."""
    open_page(page, service)
    set_field(page, "seed", 1)
    page.click("#tab-story")
    page.click("#tell")
    wait_for_tokens(page, 5)
    service.process.kill()
    wait_for_end(page)
    expect_trouble(page, "The connection to the service was lost; what came before stays here.")
    assert text(page, "#story-note").startswith("Not complete · ")
    told = text(page, "#story-text")
    page.click("#again")
    expect_trouble(page, "does not answer")
    assert text(page, "#story-text") == told
    page.click("#tab-chat")
    write(page, "#message", MESSAGE)
    page.press("Enter")
    until("the message is back", lambda: not is_running(page) and value(page, "#message") == MESSAGE)
    expect_trouble(page, "does not answer")


def check_all_looks(page, story, chat):
    for size in (PHONE, DESK):
        for scheme in ("light", "dark"):
            what = f"{size[0]} {scheme}"
            open_page(page, story, size, scheme)
            check_looks(page, f"{what}, story", scheme, size)
            page.click("#tell")
            until("the story is told", lambda: is_seen(page, "#copy-story"))
            check_looks(page, f"{what}, told", scheme, size)
            open_page(page, chat, size, scheme)
            check_looks(page, f"{what}, key", scheme, size)
            page.evaluate(f"document.querySelector('#key').value = '{KEY}'")
            page.click("#key-form button")
            until("the chat is there", lambda: is_seen(page, "#chat"))
            check_looks(page, f"{what}, chat", scheme, size)
            set_field(page, "max_tokens", 9)
            write(page, "#message", MESSAGE + " " + "a" * 90)
            page.click("#chat-form .main")
            until("the answer is there", lambda: page.evaluate("document.querySelectorAll('#messages .note').length") == 1)
            page.evaluate("document.querySelector('#key').value = ''")
            page.click("#tab-story")
            page.click("#tell")
            until("it is refused", lambda: is_seen(page, "#trouble-text") and is_seen(page, "#key-form"))
            check_looks(page, f"{what}, refused", scheme, size)
            page.click("#tab-chat")
            check_looks(page, f"{what}, answered", scheme, size)


def main():
    with tempfile.TemporaryDirectory() as folder, Browser() as browser:
        endless = str(pathlib.Path(folder) / "endless.gguf")
        subprocess.run([TOOL, "synth", *ENDLESS, "-o", endless], check=True)
        page = browser.page()
        with Service(TOOL) as story, Service(TOOL, "--chat-template", "chatml", "--api-key", KEY) as chat:
            check_story(browser, page, story)
            check_refusal(page, story)
            check_chat(page, chat)
            check_all_looks(page, story, chat)
        slow = Service(TOOL, "--board", "host", "--chat-template", "chatml", "--max-waiting", "0", model=endless)
        try:
            check_growing(page, slow)
            check_busy(page, slow)
            check_lost(page, slow)
        finally:
            slow.process.kill()
            slow.process.wait()


main()

"""What a reader sees of a page in tests/support/browser.py, and whether they can.

    seen = look(page, clip=".card", boxes="section")

One function in the browser finds text that is hard to read, sticks out, lies over other text, or is broken.
"""

import json

# Every details element is opened first.
LOOK = r"""((clips, boxesToMeasure, over) => {
  for (const details of document.querySelectorAll("details")) details.open = true;
  const found = { unreadable: [], outside: [], overlapping: [], broken: [], empty: [] };
  const blend = (over, under) => {
    const alpha = over[3];
    return [0, 1, 2].map((i) => over[i] * alpha + under[i] * (1 - alpha)).concat(1);
  };
  const rgba = (text) => {
    const numbers = text.match(/[\d.]+/g).map(Number);
    return numbers.length === 3 ? numbers.concat(1) : numbers;
  };
  const ground = (element) => {
    if (!element) return [255, 255, 255, 1];
    const own = rgba(getComputedStyle(element).backgroundColor);
    return own[3] === 1 ? own : blend(own, ground(element.parentElement));
  };
  const luminance = (colour) => {
    const [r, g, b] = colour.map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => {
    const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
    return (high + 0.05) / (low + 0.05);
  };

  const isClipped = (element) => element && (getComputedStyle(element).clipPath !== "none" || isClipped(element.parentElement));
  const pieces = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    const element = node.parentElement;
    const text = node.data.trim();
    if (!text || element.closest("svg, script, style, textarea") || !element.checkVisibility()) continue;
    if (isClipped(element)) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const boxes = [...range.getClientRects()].filter((box) => box.width > 0);
    if (!boxes.length) { found.empty.push(text); continue; }
    if (!/\s/.test(text) && text.length < 20 && new Set(boxes.map((box) => box.top)).size > 1) found.broken.push(text);
    const ratio = contrast(blend(rgba(getComputedStyle(element).color), ground(element)), ground(element));
    if (ratio < 4.5) found.unreadable.push([text, ratio]);
    const clip = ((clips ? element.closest(clips) : null) ?? document.querySelector("main")).getBoundingClientRect();
    const style = getComputedStyle(element);
    const space = style.whiteSpace === "pre-wrap" ? parseFloat(style.fontSize) / 2 : 1;  // may hang over a line's end
    if (boxes.some((box) => box.left < clip.left - 1 || box.right > clip.right + space)) found.outside.push(text);
    const layer = over ? element.closest(over) : null;
    for (const box of boxes) pieces.push({ text, node, box, layer });
  }
  for (let i = 0; i < pieces.length; ++i) {
    for (let j = i + 1; j < pieces.length; ++j) {
      const [a, b] = [pieces[i], pieces[j]];
      if (a.node === b.node || a.layer !== b.layer) continue;
      const wide = Math.min(a.box.right, b.box.right) - Math.max(a.box.left, b.box.left);
      const high = Math.min(a.box.bottom, b.box.bottom) - Math.max(a.box.top, b.box.top);
      if (wide > 1 && high > Math.min(a.box.height, b.box.height) / 3) found.overlapping.push([a.text, b.text]);
    }
  }
  for (const box of boxesToMeasure ? document.querySelectorAll(boxesToMeasure) : []) {
    if (!box.checkVisibility()) continue;
    const { width, height } = box.getBoundingClientRect();
    if (width < 40 || height < 10) found.empty.push(box.className);
  }

  // What is typed into, and what stands there before.
  for (const field of document.querySelectorAll("input, textarea")) {
    if (!field.checkVisibility()) continue;
    for (const style of [getComputedStyle(field), getComputedStyle(field, "::placeholder")]) {
      const ratio = contrast(blend(rgba(style.color), ground(field)), ground(field));
      if (ratio < 4.5) found.unreadable.push([field.id || field.name, ratio]);
    }
  }
  return {
    ...found,
    pieces: pieces.length,
    title: document.title,
    width: document.documentElement.scrollWidth,
    ground: luminance(ground(document.body)),
    words: document.body.innerText,
  };
})"""


def look(page, clip="", boxes="", over=""):
    """Lists of faults, and what the page is. `clip`, `boxes`, `over`: selectors of what text may not stick out of (else of
    <main>), of what may not be tiny, and of what lies over the rest. Spaces that do not break a line are as others.

    unreadable: contrast below 4.5 to 1; outside, overlapping; broken: a short word over two lines; empty: no size.
    ground: luminance of the page's, 0 to 1; words: all its text; pieces: how many; width: what it takes, in pixels."""
    expression = f"{LOOK}({json.dumps(clip)}, {json.dumps(boxes)}, {json.dumps(over)})"
    return plain_spaces(page.evaluate(expression))


def plain_spaces(value):
    """Strings anywhere in `value` with U+0020 in place of U+00A0 and U+202F."""
    return json.loads(json.dumps(value).replace("\\u00a0", " ").replace("\\u202f", " "))

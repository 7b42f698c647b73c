"use strict";
// What both pages have: of the service, and of site/. Words and numbers, and bars of memory.

const $ = (id) => document.getElementById(id);
const count = (n) => new Intl.NumberFormat("en").format(n).replaceAll(",", "\u202f");
const plural = (n, what) => `${count(n)} ${what}${n === 1 ? "" : "s"}`;
const three = (n) => n >= 99.95 ? count(Math.round(n)) : n.toPrecision(3);  // digits that say something
function bytesText(n) {
  const [unit, size] = [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]].find(([, least]) => n >= least * 0.9995) ?? ["bytes", 1];
  return `${size === 1 ? Math.round(n) : three(n / size)}\u00a0${unit}`;
}
const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1).trim()}`.replace(/[^.!?]$/, "$&.");

// Bars of a model and of regions of memory, all in one scale, as items of a list. A region: { name, title, used_bytes,
// capacity_bytes }; `title` is what it is called here, and where all of it is in use it is one bar.
function scaleBars(modelTitle, modelBytes, regions) {
  const titles = { sram_dma: "SRAM for the card", sram: "SRAM", psram: "PSRAM", flash: "Flash" };
  const most = Math.max(modelBytes, ...regions.map((region) => region.capacity_bytes), 1);
  const bar = (kind, name, text, parts) => {
    const item = document.createElement("li");
    item.className = kind;
    const what = document.createElement("div");
    what.className = "what";
    const [label, value] = [document.createElement("b"), document.createElement("span")];
    label.textContent = name;
    value.textContent = text;
    what.append(label, value);
    const track = document.createElement("div");
    track.className = "bar";
    for (const [part, bytes] of parts) {
      const block = document.createElement("i");
      block.className = part;
      block.style.width = `${(100 * bytes) / most}%`;
      track.append(block);
    }
    item.append(what, track);
    return item;
  };
  return [
    bar("model", modelTitle, bytesText(modelBytes), [["used", modelBytes]]),
    ...regions.map((r) => bar(r.name, r.title ?? titles[r.name] ?? r.name,
                              r.title ? bytesText(r.used_bytes) : `${bytesText(r.used_bytes)} of ${bytesText(r.capacity_bytes)}`,
                              [["room", r.capacity_bytes], ["used", r.used_bytes]])),
  ];
}

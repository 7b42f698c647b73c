// Types the text again, as fast as the board would, modelled; the button stops that, too.
(() => {
  const button = document.querySelector(".replay button");
  const said = document.querySelector(".said");
  if (!button) return;
  const text = said.textContent;
  const label = button.textContent;
  const firstMs = 1000 * button.dataset.firstS;
  const textMs = 1000 * button.dataset.textS;
  let frame = 0;

  const end = () => {
    cancelAnimationFrame(frame);
    frame = 0;
    said.textContent = text;
    button.textContent = label;
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    if (frame) return end();
    const characters = [...text];
    const begun = performance.now();
    button.textContent = "Show all";
    const type = (now) => {
      const part = Math.min(1, textMs > 0 ? (now - begun - firstMs) / textMs : 1);
      if (part >= 1) return end();
      said.textContent = characters.slice(0, Math.max(0, Math.ceil(part * characters.length))).join("");
      frame = requestAnimationFrame(type);
    };
    frame = requestAnimationFrame(type);
  });
})();

// Says what a block of the timeline is: the one under the pointer, or the one that the arrow keys reach.
(() => {
  const scroll = document.querySelector(".scroll");
  const readout = document.querySelector(".readout");
  if (!scroll) return;
  const lanes = [...scroll.querySelectorAll("svg")].map((svg) => [...svg.querySelectorAll("rect")]);
  let shown = null;

  const show = (rect) => {
    shown?.classList.remove("on");
    shown = rect;
    shown.classList.add("on");
    readout.textContent = rect.querySelector("title").textContent;
  };
  const middle = (rect) => rect.x.baseVal.value + rect.width.baseVal.value / 2;
  const nearest = (lane, x) =>
    lane.reduce((best, rect) => (Math.abs(middle(rect) - x) < Math.abs(middle(best) - x) ? rect : best));

  const step = (key) => {
    if (!shown) return lanes.find((lane) => lane.length)?.[0];
    const lane = lanes.findIndex((rects) => rects.includes(shown));
    const at = lanes[lane].indexOf(shown);
    if (key === "ArrowLeft") return lanes[lane][at - 1];
    if (key === "ArrowRight") return lanes[lane][at + 1];
    const other = key === "ArrowUp" ? lanes.slice(0, lane).reverse() : lanes.slice(lane + 1);
    const next = other.find((rects) => rects.length);
    return next && nearest(next, middle(shown));
  };

  scroll.addEventListener("pointerover", (event) => event.target.matches("rect") && show(event.target));
  scroll.addEventListener("keydown", (event) => {
    if (!event.key.startsWith("Arrow")) return;
    event.preventDefault();
    const rect = step(event.key);
    if (!rect) return;
    show(rect);
    rect.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
  readout.textContent = "Point at a block, tap it, or reach it with the arrow keys: what it is stands here.";
})();

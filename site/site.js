// The page: three tabs over one worker at a time.

let worker = null;  // of the job that runs

function trouble(text) {
  $("trouble-text").textContent = text && sentence(text);
  $("trouble").hidden = !text;
  if (text) $("trouble").scrollIntoView({ block: "nearest" });
}

// Starts a job in a worker of its own; `on` gets its messages.
function start(job, on) {
  stop();
  trouble("");
  worker = new Worker("worker.js", { type: "module" });
  worker.onmessage = ({ data }) => on(data);
  worker.onerror = () => on({ failed: "this browser cannot run the tool: take a newer one, of 2023 or later" });
  worker.postMessage(job);
}

function stop() {
  worker?.terminate();
  worker = null;
}

// ---- Try it

let shown = null;  // the timer of what is to be shown next

function setTelling(isTelling) {
  $("story-text").ariaBusy = String(isTelling);
  $("tell").textContent = isTelling ? "Stop" : $("tell").dataset.label;
  $("tell").classList.toggle("stops", isTelling);
}

function endStory(note = "") {
  clearTimeout(shown);
  shown = null;
  stop();
  setTelling(false);
  $("story-note").textContent = note;
}

function drawMemory({ memory, modelBytes }) {
  const regions = Object.entries(memory).filter(([, region]) => region.peak_bytes > 0)
    .map(([name, region]) => ({ name, used_bytes: region.peak_bytes, capacity_bytes: region.capacity_bytes }));
  const used = regions.reduce((sum, region) => sum + region.used_bytes, 0);
  $("scale").replaceChildren(...scaleBars("The model, on the card", modelBytes, regions));
  $("scale-text").textContent = `${bytesText(used)} of memory run a model of ${bytesText(modelBytes)}.`;
  $("memory").hidden = false;
}

function tellStory() {
  const beginning = $("beginning").value.trim();
  if (!beginning) return trouble("write how the story begins");
  const isPaced = document.querySelector("[name=pace]:checked").value === "board";
  const queue = [];
  let begun = 0;
  let latest = null;
  let all = "";
  $("story-text").hidden = false;
  $("story-text").replaceChildren();
  $("story-note").textContent = "";
  setTelling(true);

  const draw = (last) => {
    const text = all.trimEnd();
    $("story-text").textContent = text;
    $("story-text").classList.toggle("growing", !last.isLast);
    $("card-bytes").textContent = bytesText(last.cardBytes);
    $("reads").textContent = count(last.reads);
    $("seconds").textContent = (last.ms / 1000).toFixed(1);
    $("words").textContent = count(text.split(/\s+/).filter(Boolean).length);
    if (!last.isLast) return;
    endStory(last.modelled ? `Modelled ${last.modelled}.` : "");
    $("said").textContent = `The story has ended. ${text}`;
  };
  const next = () => {
    const now = performance.now() - begun;
    let last = null;
    while (queue.length && (!isPaced || queue[0].ms <= now)) {
      last = queue.shift();
      all += last.text;
    }
    if (last) draw(last);
    shown = last?.isLast ? null : queue.length ? setTimeout(next, Math.max(0, queue[0].ms - now)) : null;
  };
  start({ job: "story", prompt: beginning, seed: 1 + Math.floor(Math.random() * 1e6), isPaced }, (message) => {
    if (message.failed) {
      endStory();
      return trouble(message.failed);
    }
    if (message.memory) drawMemory(message);
    if (message.text !== undefined) queue.push(latest = message);
    if (message.done !== undefined) queue.push({ ...latest, text: "", isLast: true, modelled: message.modelled });
    if (queue.length && !begun) begun = performance.now();
    if (queue.length && shown === null) next();
  });
}

$("story-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if ($("story-text").ariaBusy === "true") return endStory("Stopped.");
  tellStory();
});

// ---- Your model

let chosen = null;     // { name, argument, files, tokenizer, withBundled }
const made = new Map();  // what was made of it: name to blob

const stem = (name) => name.replace(/\.(gguf|bin)$/, "");

function choose(next) {
  chosen = next;
  made.clear();
  showMade();
  $("chosen").textContent = chosen.name;
  $("steps").hidden = false;
  $("output").hidden = true;
  trouble("");
}

function chooseFolder(files) {
  if (!files.length) return;
  const kept = [...files].map((file) => ({ path: file.webkitRelativePath || file.name, blob: file }));
  const name = kept[0].path.split("/")[0];
  choose({ name, argument: name, files: kept });
}

function chooseFiles(files) {
  if (!files.length) return;
  const kept = [...files].map((file) => ({ path: file.name, blob: file }));
  const isTokenizer = ({ path }) => /^tokenizer.*\.(bin|model|json)$/.test(path);
  const model = kept.filter((file) => !isTokenizer(file)).sort((a, b) => (a.path < b.path ? -1 : 1))[0] ?? kept[0];
  choose({ name: model.path, argument: model.path, files: kept, tokenizer: kept.find(isTokenizer)?.path });
}

function showMade() {
  $("made").replaceChildren(...[...made].map(([name, blob]) => {
    const item = document.createElement("li");
    const [label, button] = [document.createElement("span"), document.createElement("button")];
    label.textContent = `${name}, ${bytesText(blob.size)}`;
    button.type = "button";
    button.textContent = "Save";
    button.setAttribute("aria-label", `Save ${name}`);
    button.addEventListener("click", () => save(name, blob));
    item.append(label, button);
    return item;
  }));
}

async function save(name, blob) {
  if ("showSaveFilePicker" in window) {
    try {
      const file = await window.showSaveFilePicker({ suggestedName: name });
      const writable = await file.createWritable();
      await blob.stream().pipeTo(writable);
    } catch (error) {
      if (error.name !== "AbortError") trouble(`${name} was not saved: ${error.message}`);
    }
    return;
  }
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

const converted = () => [...made.keys()].findLast((name) => name.endsWith(".gguf"));

// What a step is called with.
function argvOf(step) {
  const model = converted() ?? chosen.argument;
  const board = ["--board", $("board").value];
  const tokenizer = chosen.tokenizer && !converted() ? ["--tokenizer", chosen.tokenizer] : [];
  if (step === "inspect") return ["inspect", model, ...board, ...tokenizer];
  if (step === "fit") return ["fit", model, ...tokenizer];
  if (step === "prepare") return ["prepare", model, ...board, "-o", `${stem(model)}.thimble`];
  const quant = $("quant").value;
  const name = `${stem(chosen.name)}${quant === "none" ? "" : `-${quant}`}.gguf`;
  const out = chosen.files.some((file) => file.path === name) ? `converted-${name}` : name;
  return ["convert", chosen.argument, "-o", out, "--quant", quant, ...tokenizer];
}

function setGoing(text) {
  $("going").hidden = !text;
  $("progress-text").textContent = text;
  $("progress").removeAttribute("value");
  for (const button of document.querySelectorAll("#yours button:not(#cancel)")) button.disabled = Boolean(text);
}

// Lines of a table stay lines; long ones are broken.
function showOutput(said) {
  $("output").replaceChildren(...said.trimEnd().split("\n").map((line) => {
    const shown = document.createElement("div");
    shown.className = line.length > 90 ? "prose" : "";
    shown.textContent = line || " ";
    return shown;
  }));
}

function take(step) {
  if (step === "prepare" && !converted() && !chosen.argument.endsWith(".gguf")) {
    return trouble("convert the model first: an index belongs to a GGUF file");
  }
  if (step === "convert") made.clear();
  const files = [...chosen.files, ...[...made].map(([path, blob]) => ({ path, blob }))];
  $("output").hidden = true;
  setGoing("Reading …");
  start({ job: "tool", argv: argvOf(step), files, withBundled: chosen.withBundled }, (message) => {
    if (message.progress) {
      $("progress-text").textContent = message.progress;
      const percent = /(\d+)%/.exec(message.progress)?.[1];
      if (percent !== undefined) $("progress").value = Number(percent);
    }
    if (message.file) made.set(message.file.name, message.file.blob);
    if (message.said !== undefined) {
      showOutput(message.said);
      $("output").hidden = !message.said;
      $("said").textContent = "Done.";
    }
    if (message.failed) trouble(message.failed);
    if (message.failed || message.done !== undefined) {
      stop();
      setGoing("");
      showMade();
    }
  });
}

$("pick-folder").addEventListener("click", () => $("folder").click());
$("pick-file").addEventListener("click", () => $("files").click());
$("pick-bundled").addEventListener("click", () => choose({ name: "thimble-stories", argument: "thimble-stories", files: [], withBundled: true }));
$("folder").addEventListener("change", () => chooseFolder($("folder").files));
$("files").addEventListener("change", () => chooseFiles($("files").files));
for (const button of document.querySelectorAll("[data-step]")) button.addEventListener("click", () => take(button.dataset.step));
$("cancel").addEventListener("click", () => {
  stop();
  setGoing("");
});

// ---- Flash

const FIRMWARES = [
  { manifest: "firmware/manifest.json", text: "Tell stories, by a cable" },
  { manifest: "firmware/manifest-wifi.json", text: "With Wi-Fi: a page for your phone" },
];

async function showFlash() {
  const answers = await Promise.all(FIRMWARES.map(({ manifest }) => fetch(manifest, { method: "HEAD" }).catch(() => null)));
  const released = FIRMWARES.filter((_, i) => answers[i]?.ok);
  if (!released.length) {
    $("flash-text").textContent = "No firmware image was released yet, so there is nothing to flash from here. docs/firmware.md says how to build one with ESP-IDF.";
    return;
  }
  if (!("serial" in navigator)) {
    $("flash-text").textContent = "This browser cannot talk to a board. Chrome or Edge on a computer can.";
    return;
  }
  await import("./vendor/esp-web-tools/install-button.js");
  $("flash-text").textContent = "Connect the board by USB, choose a firmware, then the board's port. One with Wi-Fi asks for your network afterwards.";
  $("flash-button").replaceChildren(...released.map(({ manifest, text }) => {
    const flasher = document.createElement("esp-web-install-button");
    flasher.setAttribute("manifest", manifest);
    const button = document.createElement("button");
    button.slot = "activate";
    button.textContent = text;
    flasher.append(button);
    return flasher;
  }));
}

// ---- Tabs

const TABS = ["try", "yours", "flash"];

function openTab(name) {
  for (const tab of TABS) {
    $(tab).hidden = tab !== name;
    $(`tab-${tab}`).setAttribute("aria-selected", String(tab === name));
    $(`tab-${tab}`).tabIndex = tab === name ? 0 : -1;
  }
  $("inside").hidden = name !== "try";
  trouble("");
  if (name === "flash") showFlash();
}

for (const name of TABS) $(`tab-${name}`).addEventListener("click", () => openTab(name));
$("modes").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const at = TABS.findIndex((name) => $(`tab-${name}`).getAttribute("aria-selected") === "true");
  const name = TABS[(at + step + TABS.length) % TABS.length];
  openTab(name);
  $(`tab-${name}`).focus();
});

if ("serviceWorker" in navigator) navigator.serviceWorker.register("sw.js");

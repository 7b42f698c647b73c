
// Words that the bundled model knows, as other models of children's stories do.
const words = {
  name: ["Lily", "Tom", "Mia", "Ben", "Zoe", "Sam", "Nora", "Max", "Ruby", "Leo"],
  animal: ["rabbit", "bird", "puppy", "duck", "kitten", "pony", "squirrel", "goat"],
  place: ["in the garden", "in the forest", "by the pond", "near the river", "on the hill", "in the meadow", "behind the barn"],
};
const girls = ["Lily", "Mia", "Zoe", "Nora", "Ruby"];
const picked = { name: 0, animal: 0, place: 0 };

let props = null;    // of the service
let history = [];    // of the chat: { role, content, note }
let running = null;  // the AbortController of the text that is being made
let retry = null;    // what "Try again" does

// ---- Words and numbers

const rateText = (made) => made.rate > 0 ? three(made.rate) : "–";

// ---- What is kept over a reload, in this tab only

const kept = {
  get(key) { try { return sessionStorage.getItem(`thimble.${key}`); } catch { return null; } },
  set(key, value) { try { sessionStorage.setItem(`thimble.${key}`, value); } catch { /* then it is not kept */ } },
};
function keepText(id) {
  kept.set(id, $(id).value);
  if (CSS.supports("field-sizing", "content")) return;
  $(id).style.height = "auto";
  $(id).style.height = `${$(id).scrollHeight + 2}px`;
}
const setText = (id, text) => { $(id).value = text; keepText(id); };
const setHistory = (messages) => { history = messages; kept.set("history", JSON.stringify(messages)); };

// ---- What is said

function status(text) { $("status").textContent = text; }

function trouble(text, label = "", action = null) {
  $("trouble-text").textContent = text;
  $("trouble").hidden = !text;
  retry = action;
  $("again").hidden = !action;
  $("again").textContent = label;
  if (!text) return;
  $("trouble").scrollIntoView({ block: "nearest" });
  show($("trouble"));
}

// For screen readers: a growing text by its sentences, and short messages.
let unsaid = "";
function say(text, isEnd = false) {
  unsaid += text;
  const end = isEnd ? unsaid.length : Math.max(...[". ", "! ", "? ", ".\n", "\" "].map((mark) => unsaid.lastIndexOf(mark))) + 1;
  const part = unsaid.slice(0, end).trim();
  unsaid = unsaid.slice(end);
  if (!part) return;
  const line = document.createElement("p");
  line.textContent = part;
  $("said").append(line);
  while ($("said").childElementCount > 20) $("said").firstChild.remove();
}

// ---- The service

class Refusal extends Error {
  constructor(status, error = {}, retryAfter = null) {
    super(error.message || `status ${status}`);
    Object.assign(this, { status, code: error.code, retryAfter });
  }
}
class Lost extends Error {}

async function send(path, options = {}) {
  const key = $("key").value;
  const headers = { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Lost();
  }
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  throw new Refusal(answer.status, body.error, answer.headers.get("Retry-After"));
}

// One sentence for a person.
function explain(error, hasText) {
  if (error instanceof Lost) {
    return hasText ? "The connection to the service was lost; what came before stays here."
                   : "The service does not answer: see that it runs, and that this device reaches its network.";
  }
  if (!(error instanceof Refusal)) return sentence(`this page failed: ${error.message || error}`);
  if (error.code === "shutting_down") return "The service was ended: start it again, then try again.";
  if (error.status === 503) {
    return `The service is busy with other texts: try again in ${plural(Number(error.retryAfter) || 5, "second")}.`;
  }
  if (error.status === 401) return $("key").value ? "This is not the key of the service: look at it again." : "This service asks for its key.";
  if (error.status >= 500) return sentence(`the model could not go on: ${error.message}`);
  return sentence(error.message);
}

function askForKey() {
  $("key-form").hidden = false;
  $("key").select();
  $("key").focus();
}

function settings() {
  const chosen = {};
  for (const field of $("sampler").elements) {
    if (field.type !== "number" || field.value === "" || field.value === field.defaultValue) continue;
    chosen[field.name] = Number(field.value);
  }
  return chosen;
}

function setRunning(controller) {
  running = controller;
  for (const button of document.querySelectorAll("button.main[data-label]")) {
    button.textContent = controller ? "Stop" : button.dataset.label;
    button.classList.toggle("stops", Boolean(controller));
  }
  for (const id of ["story-text", "messages"]) $(id).setAttribute("aria-busy", String(Boolean(controller)));
}

function showFigures(made) {
  $("card-bytes").textContent = bytesText(made.cardBytes);
  $("reads").textContent = count(made.reads);
  $("tokens").textContent = count(made.tokens);
  $("rate").textContent = rateText(made);
  $("each").textContent = made.tokens > 0
    ? `For each token ${bytesText(made.cardBytes / made.tokens)} came from the card, in ${three(made.reads / made.tokens)} reads.` : "";
}

// Streams a text into `out`, an element. The text, how it ended and what it took; `error` where something went wrong.
async function stream(path, body, out) {
  const made = { text: "", tokens: 0, cardBytes: 0, reads: 0, rate: 0, ended: "", usage: null, error: null };
  if (!$("sampler").checkValidity()) {
    $("settings").open = true;
    $("sampler").reportValidity();
    made.ended = "refused";
    return made;
  }
  trouble("");
  const controller = new AbortController();
  setRunning(controller);
  showFigures(made);
  status("The model reads …");
  const slow = setTimeout(() => status("Still waiting: a board takes its time, and others may be served first."), 6000);
  out.classList.add("growing");
  let first = null;  // when tokens had come, and how many
  let isComplete = false;
  let pending = "";
  const draw = () => {
    if (pending) grow(out, pending);
    pending = "";
    if (made.tokens) showFigures(made);
  };
  const take = (data) => {
    if (data.error) throw new Refusal(data.error.code === "shutting_down" ? 503 : 500, data.error);
    if (data.usage) made.usage = data.usage;
    const choice = data.choices?.[0];
    made.ended = choice?.finish_reason ?? made.ended;
    const text = choice?.text ?? choice?.delta?.content ?? "";
    if (data.ledger) {
      made.tokens = data.ledger.tokens ?? data.ledger.completion_tokens;
      made.cardBytes = data.ledger.card_bytes;
      made.reads = data.ledger.reads;
      made.timings = data.ledger.timings;
    }
    if (text) {
      made.text += text;
      say(text);
    }
    if (!pending) requestAnimationFrame(draw);
    pending += text;
  };
  try {
    const answer = await send(path, {
      method: "POST", signal: controller.signal,
      body: JSON.stringify({ ...settings(), ...body, stream: true, ledger: true, stream_options: { include_usage: true } }),
    });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; ;) {
      const { value, done } = await reader.read();
      if (done) break;
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const event of events) {
        if (event === "data: [DONE]") isComplete = true;
        else if (event.startsWith("data: ")) take(JSON.parse(event.slice(6)));
      }
      if (made.tokens && !first) {
        first = { at: performance.now(), tokens: made.tokens };
        clearTimeout(slow);
        status("");
      }
      const seconds = first ? (performance.now() - first.at) / 1000 : 0;
      made.rate = made.timings?.predicted_per_second || (seconds > 0 ? (made.tokens - first.tokens) / seconds : 0);
    }
    if (!isComplete) throw new Lost();
  } catch (error) {
    if (controller.signal.aborted) made.ended = "stopped";
    else made.error = error instanceof Refusal || error instanceof SyntaxError ? error : new Lost();
  }
  clearTimeout(slow);
  draw();
  out.classList.remove("growing");
  setRunning(null);
  status("");
  say("", true);
  if (made.error) {
    made.ended = "failed";
    if (made.error.status === 401) askForKey();
  } else if (made.ended === "stopped") {
    say("Stopped.", true);
  }
  return made;
}

// How a text ended and what it took.
function noteOf(made) {
  if (made.tokens === 0) return "";
  const parts = [];
  if (made.ended === "stopped") parts.push("stopped");
  if (made.ended === "failed") parts.push("not complete");
  if (made.ended === "length") parts.push(made.tokens === settings().max_tokens ? "as long as the settings allow" : "the model's memory of a text is full");
  parts.push(plural(made.tokens, "token"));
  if (rateText(made) !== "–") parts.push(`${rateText(made)} a second`);
  parts.push(`${bytesText(made.cardBytes)} from the card`);
  if (made.usage) {
    parts.push(`${count(made.usage.prompt_tokens_details.cached_tokens)} of ${plural(made.usage.prompt_tokens, "prompt token")} kept`);
  }
  return sentence(parts.join(" · ")).replace(/\.$/, "");
}

// ---- A text that grows on the screen

// Down to here a reader sees the text.
function floor() {
  if (!$("chat").hidden) return $("chat-form").getBoundingClientRect().top;
  const strip = getComputedStyle($("figures")).position === "sticky" ? $("figures").getBoundingClientRect().top : innerHeight;
  return strip - 16;
}

// Adds to the end, and keeps the end in sight for who was looking at it.
function grow(out, text) {
  const before = out.getBoundingClientRect().bottom;
  const isSeen = before < floor() + 48 && before > 0;
  out.append(out.textContent || out.closest("article") ? text : text.trimStart());
  out.normalize();
  if (isSeen) show(out);
}

function show(element) {
  const below = element.getBoundingClientRect().bottom - floor();
  if (below > 0) scrollBy(0, below);
}

async function copy(text, button) {
  let isDone = false;
  try {
    await navigator.clipboard.writeText(text);
    isDone = true;
  } catch {
    // Without HTTPS a browser has no clipboard but this way.
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "unseen";
    document.body.append(area);
    area.select();
    isDone = document.execCommand("copy");
    area.remove();
    button.focus();
  }
  button.textContent = isDone ? "Copied" : "Not copied";
  say(isDone ? "Copied." : "This browser lets no page copy: select the text by hand.", true);
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
}

// ---- Stories

const word = (kind) => words[kind][picked[kind]];
const beginning = () => `Once upon a time, there was a kind ${girls.includes(word("name")) ? "girl" : "boy"} named ${word("name")}. ` +
  `One sunny day, ${word("name")} heard a small cry ${word("place")}. It was a little ${word("animal")}`;

function showPicked() {
  for (const kind of Object.keys(words)) $(`pick-${kind}`).querySelector("b").textContent = word(kind);
}

// The next word; in a beginning that somebody wrote it takes the place of the word before.
function pick(kind) {
  const text = $("beginning").value;
  const isOurs = text === beginning() || text.trim() === "";
  const old = word(kind);
  if (!isOurs && !text.includes(old)) {
    status(`Your beginning says nothing of “${old}”, so it stays as it is.`);
    return;
  }
  picked[kind] = (picked[kind] + 1) % words[kind].length;
  setText("beginning", isOurs ? beginning() : text.replaceAll(old, word(kind)));
  showPicked();
  status("");
  say(`${word(kind)}.`, true);
}

// Goes on from `prompt`; the text shown is `given` and what the model makes of it.
async function tell(prompt) {
  const given = document.createElement("span");
  given.className = "given";
  given.textContent = prompt;
  const told = document.createElement("span");
  const before = [...$("story-text").childNodes];
  $("story-text").replaceChildren(given, told);
  $("story-text").hidden = false;
  $("story-note").textContent = "";
  $("go-on").hidden = $("copy-story").hidden = true;
  show(given);
  const made = await stream("/v1/completions", { prompt }, told);
  // Where nothing came, the story before stays.
  if (!made.text && made.ended !== "stop" && before.length) $("story-text").replaceChildren(...before);
  const isSeen = $("story-text").getBoundingClientRect().bottom < floor() + 48;
  $("story-note").textContent = noteOf(made);
  $("story-text").hidden = $("story-text").textContent === "" || (!made.text && !before.length);
  $("copy-story").hidden = $("story-text").hidden;
  $("go-on").hidden = $("story-text").hidden || made.ended === "stop";
  if (isSeen) show($("story-note"));
  if (made.error) trouble(explain(made.error, made.text), "Try again", made.error.status === 400 ? null : () => tell(made.text ? prompt + made.text : prompt));
}

// ---- Chats

function addMessage({ role, content, note = "" }) {
  const item = document.createElement("li");
  item.className = role;
  const who = document.createElement("span");
  who.className = "unseen";
  who.textContent = role === "user" ? "You: " : "The model: ";
  const text = document.createElement("div");
  text.className = "text";
  text.textContent = role === "user" ? content : content.trimStart();
  item.append(who, text);
  $("messages").append(item);
  const end = (noteText) => {
    const row = document.createElement("div");
    row.className = "row";
    const line = document.createElement("p");
    line.className = "note";
    line.textContent = noteText;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.setAttribute("aria-description", "Copies this answer");
    button.addEventListener("click", () => copy(text.textContent, button));
    row.append(line, button);
    item.append(row);
    return row;
  };
  if (role === "assistant" && content) end(note);
  return { item, text, end };
}

function showChat() {
  $("chat-hint").hidden = history.length > 0;
  $("new-chat").hidden = history.length === 0;
}

async function chat(content) {
  setText("message", "");
  const user = { role: "user", content };
  const asked = addMessage(user);
  const answer = addMessage({ role: "assistant", content: "" });
  $("chat-hint").hidden = true;
  show(asked.item);
  const system = $("sampler").elements.system.value;
  const messages = [...history, user].map(({ role, content }) => ({ role, content }));
  if (system) messages.unshift({ role: "system", content: system });
  const made = await stream("/v1/chat/completions", { messages }, answer.text);
  const isAnswered = made.text !== "" || made.ended === "stop";
  if (isAnswered) {
    const note = noteOf(made);
    setHistory([...history, user, { role: "assistant", content: made.text, note }]);
    show(answer.end(note));
  } else {
    // Nothing came: the message is there to be sent again, before what was written meanwhile.
    asked.item.remove();
    answer.item.remove();
    setText("message", [content, $("message").value].filter(Boolean).join("\n"));
  }
  showChat();
  if (!made.error) return;
  if (made.error.code === "context_length_exceeded" && history.length) {
    trouble("This chat has no more room in the model's memory: begin a new one.", "New chat", newChat);
  } else {
    const canRetry = !isAnswered && made.error.status !== 400 && made.error.status !== 401;
    trouble(explain(made.error, made.text), "Try again", canRetry ? () => $("chat-form").requestSubmit() : null);
  }
}

function newChat() {
  if (running) return;
  setHistory([]);
  $("messages").replaceChildren();
  trouble("");
  showChat();
  $("message").focus();
}

// ---- Memory

const isComputer = () => props.board.name === "host";

// Of the model and of the board's memory.
function drawScale() {
  const regions = (props.board.memory ?? []).filter((region) => region.used_bytes > 0);
  const used = regions.reduce((sum, region) => sum + region.used_bytes, 0);
  // A computer has no regions, and more of everything than could be drawn.
  $("scale").replaceChildren(...(isComputer()
    ? scaleBars("The model", props.model_bytes, [{ name: "psram", title: "In memory", used_bytes: used, capacity_bytes: used }])
    : scaleBars("The model, on the card", props.model_bytes, regions)));
  $("scale-text").textContent = `${bytesText(used)} of memory run a model of ${bytesText(props.model_bytes)}.`;
  $("memory").hidden = !isComputer() && regions.length === 0;
}

// ---- The page

function choose(mode) {
  for (const name of ["story", "chat"]) {
    $(name).hidden = name !== mode;
    $(`tab-${name}`).setAttribute("aria-selected", String(name === mode));
    $(`tab-${name}`).tabIndex = name === mode ? 0 : -1;
  }
  document.querySelector(`#${mode} .slot`).append($("notice"));
  $("system-label").hidden = !props?.chat_template;
  kept.set("mode", mode);
}

async function begin() {
  try {
    props = await (await send("/props")).json();
  } catch (error) {
    $("model").textContent = "A language model inside a board";
    if (error.status !== 401) trouble(explain(error), "Try again", begin);
    else if ($("key").value) trouble(explain(error));
    if (error.status === 401) askForKey();
    return false;
  }
  trouble("");
  $("key-form").hidden = true;
  $("inside").hidden = false;
  document.title = `${props.model_path} – Thimble`;
  const where = document.createElement("span");
  where.textContent = isComputer() ? "this computer" : props.board.name;
  $("model").replaceChildren(`${props.model_path}, inside `, where);
  const fields = $("sampler").elements;
  const defaults = props.default_generation_settings;
  for (const name of ["temperature", "top_k", "top_p", "min_p", "repeat_penalty"]) fields[name].defaultValue = defaults.params[name];
  if (defaults.params.n_predict >= 0) fields.max_tokens.placeholder = count(defaults.params.n_predict);
  $("context").textContent = `The model sees ${plural(defaults.n_ctx, "token")} at once: what it is given and what it answers.`;
  drawScale();
  if (!props.has_texts) {
    trouble("This model has no tokenizer that can be read, so it takes no texts, only token ids.");
    return true;
  }
  $("modes").hidden = !props.chat_template;
  choose(props.chat_template && kept.get("mode") !== "story" ? "chat" : "story");
  return true;
}

function restore() {
  $("key").value = kept.get("key") ?? "";
  $("message").value = kept.get("message") ?? "";
  $("beginning").value = kept.get("beginning") || beginning();
  const fields = JSON.parse(kept.get("settings") ?? "{}");
  for (const [name, value] of Object.entries(fields)) if ($("sampler").elements[name]) $("sampler").elements[name].value = value;
  history = JSON.parse(kept.get("history") ?? "[]");
  for (const message of history) addMessage(message);
  showPicked();
  showChat();
}

for (const kind of Object.keys(words)) $(`pick-${kind}`).addEventListener("click", () => pick(kind));
for (const id of ["beginning", "message"]) $(id).addEventListener("input", () => keepText(id));
$("sampler").addEventListener("change", () => {
  const changed = [...$("sampler").elements].filter((field) => field.name && field.value !== field.defaultValue);
  kept.set("settings", JSON.stringify(Object.fromEntries(changed.map((field) => [field.name, field.value]))));
});
$("sampler").addEventListener("reset", () => kept.set("settings", "{}"));
$("sampler").addEventListener("submit", (event) => event.preventDefault());

const hasKeyboard = !matchMedia("(pointer: coarse)").matches;
$("message-hint").hidden = !hasKeyboard;
$("message").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || !(hasKeyboard || event.ctrlKey)) return;
  event.preventDefault();
  if (!running) $("chat-form").requestSubmit();
});
$("beginning").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !running) $("story-form").requestSubmit();
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape") running?.abort(); });

$("story-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) running.abort();
  else tell($("beginning").value);
});
$("chat-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("message").value.trim();
  if (running) running.abort();
  else if (text) chat(text);
  else $("message").focus();
});
// The second click of a double one shall not stop what the first began.
for (const button of document.querySelectorAll("button.main")) {
  button.addEventListener("click", (event) => { if (event.detail > 1) event.preventDefault(); });
}
$("go-on").addEventListener("click", () => { if (!running) tell($("story-text").textContent); });
$("copy-story").addEventListener("click", () => copy($("story-text").textContent, $("copy-story")));
$("new-chat").addEventListener("click", newChat);
$("again").addEventListener("click", () => {
  const action = retry;
  if (running || !action) return;
  trouble("");
  action();
});
$("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  kept.set("key", $("key").value);
  if (await begin()) $($("chat").hidden ? "beginning" : "message").focus();
});
for (const [name, other] of [["story", "chat"], ["chat", "story"]]) {
  $(`tab-${name}`).addEventListener("click", () => choose(name));
  $(`tab-${name}`).addEventListener("keydown", (event) => {
    if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
    choose(other);
    $(`tab-${other}`).focus();
  });
}

// The mark as an icon.
const icon = $("mark").cloneNode(true);
icon.setAttribute("color", "#0b6b63");
document.querySelector("link[rel=icon]").href = `data:image/svg+xml,${encodeURIComponent(new XMLSerializer().serializeToString(icon))}`;

restore();
begin();

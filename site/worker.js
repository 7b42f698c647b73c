// The tool beside the page: one job at a time. The page ends a job by ending the worker.
//
// In:  { job: "story", prompt, seed, isPaced } or { job: "tool", argv, files: [{ path, blob }] }
// Out: { memory, modelBytes }, { text, ms, cardBytes, reads }, { said }, { progress }, { file: { name, blob } },
//      { done: exit code }, { failed: sentence }
import { Folder, MemoryFile, SourceFile, runTool } from "./tool.js";

const BUNDLED = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.model", "tokenizer_config.json"];

const tool = WebAssembly.compileStreaming(fetch("thimble.wasm"));
const textOf = () => {
  const decoder = new TextDecoder();
  return (bytes) => decoder.decode(bytes, { stream: true });
};

// Runs the tool and returns what it says; `onText` gets the pieces of its result as well. What it draws again and again,
// of progress, goes to the page.
async function run(root, argv, onText = () => {}) {
  const [decodeResult, decodeAside] = [textOf(), textOf()];
  const said = { text: "", aside: "" };
  const code = runTool(await tool, argv, {
    root,
    onText: (bytes, sparedSeconds) => {
      const piece = decodeResult(bytes);
      said.text += piece;
      onText(piece, sparedSeconds);
    },
    onAside: (bytes) => {
      const piece = decodeAside(bytes);
      const lines = piece.replaceAll("\x1b[K", "").split("\r");
      said.aside += lines.shift();
      for (const line of lines) postMessage({ progress: line });
    },
    progress: true,
  });
  return { code, ...said };
}

const fromBlob = (blob, onRead) => new SourceFile(blob.size, (offset, size) =>
  new Uint8Array(new FileReaderSync().readAsArrayBuffer(blob.slice(offset, offset + size))), onRead);

// Files under their paths, as folders.
function tree(files) {
  const root = new Folder();
  for (const { path, blob } of files) {
    const parts = path.split("/").filter((part) => part && part !== "." && part !== "..");
    const name = parts.pop();
    let folder = root;
    for (const part of parts) {
      if (!folder.contents.has(part)) folder.contents.set(part, new Folder());
      folder = folder.contents.get(part);
    }
    folder.contents.set(name, fromBlob(blob));
  }
  return root;
}

async function bundledFiles() {
  return Promise.all(BUNDLED.map(async (name) => {
    const answer = await fetch(`thimble-stories/${name}`);
    if (!answer.ok) throw new Error(`${name} of the bundled model cannot be loaded`);
    return { path: `thimble-stories/${name}`, blob: await answer.blob() };
  }));
}

const sentenceOf = (aside) => aside.trim().split("\n").at(-1).replace(/^thimble: /, "");

async function tellStory({ prompt, seed, isPaced }) {
  const model = "stories.gguf";
  const root = tree(await bundledFiles());
  const converted = await run(root, ["convert", "thimble-stories", "-o", model]);
  if (converted.code !== 0) return postMessage({ failed: sentenceOf(converted.aside) });
  const file = root.contents.get(model);
  const planned = await run(root, ["plan", model, "--board", "esp32-cam", "--json"]);
  if (planned.code !== 0) return postMessage({ failed: sentenceOf(planned.aside) });
  postMessage({ memory: JSON.parse(planned.text).memory, modelBytes: file.size });

  let cardBytes = 0;
  let reads = 0;
  root.contents.set(model, new SourceFile(file.size, (offset, size) => file.read(offset, size), (bytes) => {
    cardBytes += bytes;
    ++reads;
  }));
  const begun = performance.now();
  const argv = ["run", "-m", model, "--board", "esp32-cam", "-n", "300", "--temp", "0.8", "-s", String(seed), `--prompt=${prompt}`];
  if (isPaced) argv.push("--pace", "board");
  const told = await run(root, argv, (text, sparedSeconds) => {
    if (text) postMessage({ text, ms: performance.now() - begun + sparedSeconds * 1000, cardBytes, reads });
  });
  if (told.code !== 0) return postMessage({ failed: sentenceOf(told.aside) });
  postMessage({ done: 0, modelled: /^modelled +(.*)$/m.exec(told.aside)?.[1] });
}

async function runJob({ argv, files, withBundled }) {
  const root = tree(withBundled ? [...await bundledFiles(), ...files] : files);
  const result = await run(root, argv);
  for (const [name, file] of root.contents) {
    if (file instanceof MemoryFile && result.code === 0) postMessage({ file: { name, blob: new Blob(file.parts()) } });
  }
  if (result.code === 0) postMessage({ said: result.text + result.aside });
  postMessage(result.code === 0 ? { done: 0 } : { failed: sentenceOf(result.aside) });
}

onmessage = async ({ data }) => {
  try {
    await (data.job === "story" ? tellStory(data) : runJob(data));
  } catch (error) {
    const isTooLarge = error instanceof RangeError || error instanceof WebAssembly.RuntimeError;
    postMessage({ failed: isTooLarge ? "this browser has no memory left for that" : error.message });
  }
};

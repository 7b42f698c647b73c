// The tool as WebAssembly gives the native tool's texts, exit codes and files, byte for byte:
//
//     node same_bytes_test.mjs THIMBLE SITE
//
// SITE is what build.mjs has made. Models are the bundled one and a seeded one. Exits with 77, "not run", where a program
// is missing.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import zlib from "node:zlib";

const MAX_BYTES = 2_000_000;
const MAX_COMPRESSED_BYTES = 700_000;

const [native, site] = process.argv.slice(2).map((one) => path.resolve(one));
for (const needed of [native, path.join(site, "thimble.wasm")]) {
  if (fs.existsSync(needed)) continue;
  console.log(`SKIPPED: there is no ${needed}; ./check builds it`);
  process.exit(77);
}
const { Folder, MemoryFile, SourceFile, runTool } = await import(pathToFileURL(path.join(site, "tool.js")));
const program = fs.readFileSync(path.join(site, "thimble.wasm"));
const module = new WebAssembly.Module(program);
const bundled = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../model/thimble-stories");

// A file or folder of this computer, to be read.
function given(from) {
  if (fs.statSync(from).isDirectory()) {
    return new Folder(Object.fromEntries(fs.readdirSync(from).map((name) => [name, given(path.join(from, name))])));
  }
  const fd = fs.openSync(from);
  return new SourceFile(fs.fstatSync(fd).size, (offset, size) => {
    const bytes = new Uint8Array(size);
    return bytes.subarray(0, fs.readSync(fd, bytes, 0, size, offset));
  });
}

const work = fs.mkdtempSync(path.join(os.tmpdir(), "thimble-same-bytes-"));
fs.cpSync(bundled, path.join(work, "thimble-stories"), { recursive: true });
const root = given(work);

// How fast this computer is, which differs, and where its folder is, whose name is shorter there.
function comparable(text) {
  return text.replace(/^(prompt|text) +.*on this computer, not on a board\n/gm, "").replaceAll(work + "/", "/");
}

let compared = 0;
function same(...argv) {
  const here = spawnSync(native, argv, { cwd: work });
  assert.equal(here.error, undefined);
  const printed = { out: [], aside: [] };
  const code = runTool(module, argv, {
    root,
    onText: (bytes) => printed.out.push(Buffer.from(bytes)),
    onAside: (bytes) => printed.aside.push(Buffer.from(bytes)),
  });
  const what = `thimble ${argv.join(" ")}`;
  assert.equal(comparable(Buffer.concat(printed.out).toString()), comparable(here.stdout.toString()), what);
  assert.equal(comparable(Buffer.concat(printed.aside).toString()), comparable(here.stderr.toString()), what);
  assert.equal(code, here.status, what);
  ++compared;
  return { code, text: here.stdout.toString() };
}

function written(...argv) {
  const name = argv.at(-1);
  same(...argv);
  const file = root.contents.get(name);
  assert(file instanceof MemoryFile, `${argv.join(" ")}: there is no ${name}`);
  assert(Buffer.concat(file.parts()).equals(fs.readFileSync(path.join(work, name))), `${name} differs`);
}

try {
  const compressed = zlib.gzipSync(program, { level: 9 });
  assert(program.length <= MAX_BYTES && compressed.length <= MAX_COMPRESSED_BYTES, `${program.length} bytes, ${compressed.length} compressed`);

  written("convert", "thimble-stories", "-o", "stories.gguf");
  written("convert", "thimble-stories", "--quant", "q8_0", "-o", "eight.gguf");
  written("convert", "thimble-stories", "--quant", "q4_k", "-o", "four.gguf");
  for (const model of ["stories.gguf"]) {
    written("prepare", model, "-o", model.replace("gguf", "thimble"));
  }
  assert(spawnSync(native, ["synth", "small", "-o", "seeded.gguf"], { cwd: work }).status === 0);
  root.contents.set("seeded.gguf", given(path.join(work, "seeded.gguf")));
  written("prepare", "seeded.gguf", "-o", "seeded.thimble");

  for (const model of ["thimble-stories", "stories.gguf", "four.gguf", "seeded.gguf"]) same("inspect", model);
  same("fit", "stories.gguf", "--json");
  same("fit", "seeded.gguf");
  for (const board of ["esp32-cam", "esp32-s3"]) same("plan", "stories.gguf", "--board", board);
  same("tokenize", "stories.gguf", "Once upon a time");
  for (const model of ["stories.gguf", "eight.gguf", "four.gguf"]) {
    const story = same("run", "-m", model, "--board", "esp32-cam", "-p", "Once upon a time", "-n", "200", "--temp", "0.8", "-s", "1");
    assert(story.text.startsWith("Once upon a time, "), story.text);
    same("run", "-m", model, "--board", "esp32-cam", "-p", "One day", "-n", "60", "--temp", "0");
  }
  same("run", "-m", "seeded.gguf", "--board", "esp32-cam", "--ids", "1,2,3", "-n", "24", "--temp", "0");

  // What is wrong is told in the same words.
  same("--version");
  same("run", "--help");
  for (const wrong of [["run"], ["run", "-m", "nothing.gguf"], ["fit", "thimble-stories/tokenizer.model"], ["nonsense"],
    ["run", "-m", "stories.gguf", "--board", "none"], ["run", "-m", "stories.gguf", "-n", "many"],
    ["convert", "thimble-stories", "-o", "stories.gguf/within"], ["plan", "stories.gguf", "-c", "99999999999999999999"]]) {
    assert.notEqual(same(...wrong).code, 0);
  }
  console.log(`${compared} commands gave the same bytes`);
} finally {
  fs.rmSync(work, { recursive: true });
}

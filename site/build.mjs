// Puts the site together:
//
//     node build.mjs WASM FOLDER
//
// FOLDER is made anew: the pages and programs of this folder, the tool as WebAssembly, the bundled model, and what npm has
// of others, as package-lock.json says. It can be served by anything that serves files.
import { execFileSync } from "node:child_process";
import crypto from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));
const root = path.dirname(here);
const [wasm, out] = process.argv.slice(2).map((one) => path.resolve(one));

const packages = path.join(path.dirname(out), "site-packages");
fs.mkdirSync(packages, { recursive: true });
let isNew = false;
for (const name of ["package.json", "package-lock.json"]) {
  const to = path.join(packages, name);
  const text = fs.readFileSync(path.join(here, name));
  isNew ||= !fs.existsSync(to) || !fs.readFileSync(to).equals(text);
  fs.writeFileSync(to, text);
}
// What is taken of each package, all of it as it is.
const vendored = {
  browser_wasi_shim: path.join(packages, "node_modules/@bjorn3/browser_wasi_shim/dist"),
  "esp-web-tools": path.join(packages, "node_modules/esp-web-tools/dist/web"),  // the page loads it where it is asked for
};
if (isNew || !Object.values(vendored).every((folder) => fs.existsSync(folder))) {
  execFileSync("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund"], { cwd: packages, stdio: "inherit" });
}

if (fs.existsSync(out) && fs.readdirSync(out).length && !fs.existsSync(path.join(out, "sw.js"))) {
  console.error(`${out} holds something else than the site: give another folder`);
  process.exit(1);
}
fs.rmSync(out, { recursive: true, force: true });
const copy = (from, to) => fs.cpSync(from, path.join(out, to), { recursive: true });
for (const name of fs.readdirSync(here)) {
  if (/\.(html|css|js|svg|webmanifest)$/.test(name)) copy(path.join(here, name), name);
}
copy(path.join(root, "service/page/page.css"), "base.css");
copy(path.join(root, "service/page/figures.js"), "figures.js");
copy(path.join(root, "model/thimble-stories"), "thimble-stories");
copy(wasm, "thimble.wasm");
for (const [to, folder] of Object.entries(vendored)) {
  for (const name of fs.readdirSync(folder)) {
    if (name.endsWith(".js")) copy(path.join(folder, name), `vendor/${to}/${name}`);
  }
  const [home] = /^.*node_modules\/(@[^/]+\/)?[^/]+/.exec(folder);
  for (const name of fs.readdirSync(home)) if (/^licen[cs]e/i.test(name)) copy(path.join(home, name), `vendor/${to}/${name}`);
}

// What the service worker keeps for a time without a network, under a name that changes with it.
const files = fs.readdirSync(out, { recursive: true }).map((name) => name.split(path.sep).join("/"))
  .filter((name) => name !== "sw.js" && !name.startsWith("vendor/esp-web-tools") && fs.statSync(path.join(out, name)).isFile()).sort();
const hash = crypto.createHash("sha256");
for (const name of files) hash.update(name).update(fs.readFileSync(path.join(out, name)));
const kept = `const VERSION = "${hash.digest("hex").slice(0, 16)}";\nconst FILES = ${JSON.stringify(files)};\n`;
const worker = path.join(out, "sw.js");
if (fs.existsSync(worker)) fs.writeFileSync(worker, kept + fs.readFileSync(worker, "utf8"));

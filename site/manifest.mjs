// Lays firmware images out for the page's flasher:
//
//     node manifest.mjs VERSION IMAGES SITE
//
// IMAGES has what 'idf.py merge-bin' made, each to be written from address 0: thimble-VERSION-esp32.bin, -esp32s3.bin, and
// with Wi-Fi -esp32-wifi.bin, -esp32s3-wifi.bin. They and their manifests (https://esphome.github.io/esp-web-tools) go to
// SITE/firmware; a chip without an image is left out.
import fs from "node:fs";
import path from "node:path";

const [version, images, site] = process.argv.slice(2);
const CHIPS = { esp32: "ESP32", esp32s3: "ESP32-S3" };
// How long the flasher waits for Improv after writing: a board with Wi-Fi says its page's address, or asks for a network.
const KINDS = [
  { file: "manifest.json", ending: "", wait: 0 },
  { file: "manifest-wifi.json", ending: "-wifi", wait: 20 },
];

const folder = path.join(site, "firmware");
fs.mkdirSync(folder, { recursive: true });
let count = 0;
for (const { file, ending, wait } of KINDS) {
  const builds = [];
  for (const [chip, chipFamily] of Object.entries(CHIPS)) {
    const name = `thimble-${version}-${chip}${ending}.bin`;
    if (!fs.existsSync(path.join(images, name))) continue;
    fs.copyFileSync(path.join(images, name), path.join(folder, name));
    builds.push({ chipFamily, parts: [{ path: name, offset: 0 }] });
  }
  count += builds.length;
  if (!builds.length) continue;
  const manifest = { name: "Thimble", version, new_install_prompt_erase: true, new_install_improv_wait_time: wait, builds };
  fs.writeFileSync(path.join(folder, file), JSON.stringify(manifest, null, 2) + "\n");
}
if (!count) {
  console.error(`${images} has no thimble-${version}-CHIP.bin: give the folder with what 'idf.py merge-bin' made`);
  process.exit(1);
}

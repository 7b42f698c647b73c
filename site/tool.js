// Runs the tool, compiled to WebAssembly, in a worker or under node: one command at a time, on files that lie in memory
// or are read from where they are. WASI is @bjorn3/browser_wasi_shim's; what is here is files that grow, files that are
// larger than memory, and a clock that is put forward instead of waited for.
import { Directory, Fd, Inode, PreopenDirectory, WASI, wasi } from "./vendor/browser_wasi_shim/index.js";

const CHUNK_BYTES = 1 << 22;

// A file that is read from elsewhere: `read(offset, size)` gives its bytes from there on.
export class SourceFile extends Inode {
  constructor(size, read, onRead = () => {}) {
    super();
    this.size = size;
    this.readonly = true;
    this.read = (offset, size) => {
      const bytes = read(offset, Math.max(0, Math.min(size, this.size - offset)));
      onRead(bytes.length);
      return bytes;
    };
  }

  path_open(oflags, rights) {
    const writes = oflags & wasi.OFLAGS_TRUNC || rights & BigInt(wasi.RIGHTS_FD_WRITE);
    if (writes) return { ret: wasi.ERRNO_PERM, fd_obj: null };
    return { ret: wasi.ERRNO_SUCCESS, fd_obj: new OpenFile(this) };
  }

  stat() {
    return new wasi.Filestat(this.ino, wasi.FILETYPE_REGULAR_FILE, BigInt(this.size));
  }
}

// A file in memory, in pieces, so that it grows without being copied.
export class MemoryFile extends Inode {
  constructor() {
    super();
    this.size = 0;
    this.chunks = [];
  }

  path_open(oflags) {
    if (oflags & wasi.OFLAGS_TRUNC) this.resize(0);
    return { ret: wasi.ERRNO_SUCCESS, fd_obj: new OpenFile(this) };
  }

  stat() {
    return new wasi.Filestat(this.ino, wasi.FILETYPE_REGULAR_FILE, BigInt(this.size));
  }

  resize(size) {
    const kept = Math.ceil(size / CHUNK_BYTES);
    this.chunks.length = Math.min(this.chunks.length, kept);
    while (this.chunks.length < kept) this.chunks.push(new Uint8Array(CHUNK_BYTES));
    if (size < this.size && size % CHUNK_BYTES) this.chunks[kept - 1].fill(0, size % CHUNK_BYTES);
    this.size = size;
  }

  // Calls `visit` with each piece of a chunk that these bytes lie in, and where it begins among them.
  *pieces(offset, size) {
    for (let done = 0; done < size; ) {
      const at = (offset + done) % CHUNK_BYTES;
      const piece = this.chunks[Math.floor((offset + done) / CHUNK_BYTES)].subarray(at, at + size - done);
      yield [piece, done];
      done += piece.length;
    }
  }

  read(offset, size) {
    const bytes = new Uint8Array(Math.max(0, Math.min(size, this.size - offset)));
    for (const [piece, done] of this.pieces(offset, bytes.length)) bytes.set(piece, done);
    return bytes;
  }

  write(offset, bytes) {
    if (offset + bytes.length > this.size) this.resize(offset + bytes.length);
    for (const [piece, done] of this.pieces(offset, bytes.length)) piece.set(bytes.subarray(done, done + piece.length));
  }

  // Its bytes, in pieces, which are not copied.
  parts() {
    return [...this.pieces(0, this.size)].map(([piece]) => piece);
  }
}

class OpenFile extends Fd {
  constructor(file) {
    super();
    this.file = file;
    this.at = 0;
  }

  fd_fdstat_get() {
    return { ret: wasi.ERRNO_SUCCESS, fdstat: new wasi.Fdstat(wasi.FILETYPE_REGULAR_FILE, 0) };
  }

  fd_filestat_get() {
    return { ret: wasi.ERRNO_SUCCESS, filestat: this.file.stat() };
  }

  fd_filestat_set_size(size) {
    if (this.file.readonly) return wasi.ERRNO_BADF;
    this.file.resize(Number(size));
    return wasi.ERRNO_SUCCESS;
  }

  fd_pread(size, offset) {
    return { ret: wasi.ERRNO_SUCCESS, data: this.file.read(Number(offset), size) };
  }

  fd_read(size) {
    const data = this.file.read(this.at, size);
    this.at += data.length;
    return { ret: wasi.ERRNO_SUCCESS, data };
  }

  fd_pwrite(data, offset) {
    if (this.file.readonly) return { ret: wasi.ERRNO_BADF, nwritten: 0 };
    this.file.write(Number(offset), data);
    return { ret: wasi.ERRNO_SUCCESS, nwritten: data.length };
  }

  fd_write(data) {
    const result = this.fd_pwrite(data, BigInt(this.at));
    this.at += result.nwritten;
    return result;
  }

  fd_seek(offset, whence) {
    const from = { [wasi.WHENCE_SET]: 0, [wasi.WHENCE_CUR]: this.at, [wasi.WHENCE_END]: this.file.size }[whence];
    const to = (from ?? NaN) + Number(offset);
    if (!(to >= 0)) return { ret: wasi.ERRNO_INVAL, offset: 0n };
    this.at = to;
    return { ret: wasi.ERRNO_SUCCESS, offset: BigInt(to) };
  }

  fd_tell() {
    return { ret: wasi.ERRNO_SUCCESS, offset: BigInt(this.at) };
  }
}

// A folder in which new files are MemoryFiles. `contents`: { name: file or folder }.
export class Folder extends Directory {
  constructor(contents = {}) {
    super(new Map(Object.entries(contents)));
  }

  create_entry_for_path(path, isFolder) {
    const made = super.create_entry_for_path(path, isFolder);
    if (made.entry === null) return made;
    const parts = path.split("/").filter((part) => part && part !== ".");
    const name = parts.pop();
    const folder = parts.reduce((at, part) => at.contents.get(part), this);
    made.entry = isFolder ? new Folder() : new MemoryFile();
    folder.contents.set(name, made.entry);
    return made;
  }
}

// What the tool prints. A terminal gets lines that are drawn again, of progress.
class Output extends Fd {
  constructor(write, isTerminal) {
    super();
    this.write = write;
    this.type = isTerminal ? wasi.FILETYPE_CHARACTER_DEVICE : wasi.FILETYPE_UNKNOWN;
  }

  fd_fdstat_get() {
    return { ret: wasi.ERRNO_SUCCESS, fdstat: new wasi.Fdstat(this.type, 0) };
  }

  fd_filestat_get() {
    return { ret: wasi.ERRNO_SUCCESS, filestat: new wasi.Filestat(0n, this.type, 0n) };
  }

  fd_write(data) {
    this.write(data);
    return { ret: wasi.ERRNO_SUCCESS, nwritten: data.length };
  }
}

class NoInput extends Fd {
  fd_read() {
    return { ret: wasi.ERRNO_SUCCESS, data: new Uint8Array() };
  }
}

// Runs `thimble ARGUMENTS` with `root` as its folder, and returns its exit code. `onText` and `onAside` get the bytes of
// standard output and standard error, and how many seconds of waiting the command has been spared: its clock is put
// forward by what it would have waited, so that whoever shows the text can wait instead.
export function runTool(module, argv, { root, onText, onAside, progress = false }) {
  let sparedNs = 0n;
  const spared = () => Number(sparedNs) / 1e9;
  const start = new PreopenDirectory("/", new Map());
  start.dir = root;
  if (!root.contents.has("tmp")) root.contents.set("tmp", new Folder());
  const tool = new WASI(["thimble", ...argv], [], [
    new NoInput(),
    new Output((bytes) => onText(bytes, spared()), false),
    new Output((bytes) => onAside(bytes, spared()), progress),
    start,
  ], { debug: false });
  const memory = () => new DataView(tool.inst.exports.memory.buffer);
  const imports = { ...tool.wasiImport };
  imports.clock_time_get = (id, precision, out) => {
    const failed = tool.wasiImport.clock_time_get(id, precision, out);
    if (!failed) memory().setBigUint64(out, memory().getBigUint64(out, true) + sparedNs, true);
    return failed;
  };
  imports.poll_oneoff = (subscription, event, count, outCount) => {
    const { eventtype, flags, timeout, userdata } = wasi.Subscription.read_bytes(memory(), subscription);
    const isWait = count === 1 && eventtype === wasi.EVENTTYPE_CLOCK && !(flags & wasi.SUBCLOCKFLAGS_SUBSCRIPTION_CLOCK_ABSTIME);
    if (!isWait) return wasi.ERRNO_NOTSUP;
    sparedNs += timeout;
    new wasi.Event(userdata, wasi.ERRNO_SUCCESS, eventtype).write_bytes(memory(), event);
    memory().setUint32(outCount, 1, true);
    return wasi.ERRNO_SUCCESS;
  };
  const instance = new WebAssembly.Instance(module, { wasi_snapshot_preview1: imports });
  return tool.start(instance);
}

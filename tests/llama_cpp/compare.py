"""Greedy ids of converted models: Thimble's against llama.cpp's.

    python compare.py build/thimble WORK_FOLDER

Converts every golden model and the bundled one, makes the synthetic one at Tiny-LLM's shape, and lets Thimble continue a
prompt greedily. llama.cpp (float32 KV cache, no flash attention, one thread) is fed the same ids one after the other, so that
a difference at one place does not hide what follows. Wherever llama.cpp's best two logits are more than MIN_GAP of the
logits' range apart, both must choose the same id.

MIN_GAP is chosen from what llama.cpp's own rounding does: two logits whose distance is larger than twice the largest error
cannot change places. The golden models tell the error (their float32 logits come from transformers); the check fails if it
is not below half of MIN_GAP.

The same with models in Q8_0, which llama.cpp itself quantises. There both round activations to 8 bits: at nearly all positions logits
agree to 1e-7 of their range, but where an activation lies in the middle between two steps, and llama.cpp's division and order of sums take it to
the other one, all that follows differs by up to 1.2e-2 of the range (measured over 1500 positions of these models).
MIN_GAP_Q8 is more than twice that.
"""

import ctypes
import json
import pathlib
import subprocess
import sys

import llama_cpp as lc
import numpy as np

MIN_GAP = 1e-4
MIN_GAP_Q8 = 3e-2
LOG_LEVEL_ERROR = 4  # ggml.h, ggml_log_level
ROOT = pathlib.Path(__file__).resolve().parents[2]


class LlamaCpp:
    """One model and one context; logits of one position after the other."""

    def __init__(self, gguf):
        model_params = lc.llama_model_default_params()
        model_params.n_gpu_layers = 0
        self.model = lc.llama_model_load_from_file(str(gguf).encode(), model_params)
        if not self.model:
            sys.exit(f"llama.cpp does not load {gguf}")
        params = lc.llama_context_default_params()
        params.n_ctx = lc.llama_model_n_ctx_train(self.model)
        params.n_threads = params.n_threads_batch = 1
        params.type_k = params.type_v = lc.GGML_TYPE_F32
        params.flash_attn_type = lc.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.context = lc.llama_init_from_model(self.model, params)
        if not self.context:
            sys.exit(f"llama.cpp makes no context for {gguf}")
        self.n_vocab = lc.llama_vocab_n_tokens(lc.llama_model_get_vocab(self.model))

    def step(self, token):
        ids = (lc.llama_token * 1)(token)
        if lc.llama_decode(self.context, lc.llama_batch_get_one(ids, 1)) != 0:
            sys.exit("llama.cpp failed to decode")
        logits = lc.llama_get_logits_ith(self.context, -1)
        return np.ctypeslib.as_array(ctypes.cast(logits, ctypes.POINTER(ctypes.c_float)), (self.n_vocab,)).copy()

    def close(self):
        lc.llama_free(self.context)
        lc.llama_model_free(self.model)


def thimble(tool, *arguments):
    done = subprocess.run([tool, *map(str, arguments)], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"thimble {' '.join(map(str, arguments))} failed: {done.stderr}")
    return done.stdout


def quantize(gguf, out):
    """llama.cpp's own Q8_0."""
    params = lc.llama_model_quantize_default_params()
    params.ftype = lc.LLAMA_FTYPE_MOSTLY_Q8_0
    params.nthread = 1
    if lc.llama_model_quantize(str(gguf).encode(), str(out).encode(), ctypes.byref(params)) != 0:
        sys.exit(f"llama.cpp does not quantise {gguf}")
    # It aligns tensors to 32 bytes whatever the key says that it copies; no reader takes such a file.
    data = bytearray(out.read_bytes())
    value = data.index(b"general.alignment") + len("general.alignment") + 4
    data[value : value + 4] = (32).to_bytes(4, "little")
    out.write_bytes(data)


def compare(tool, name, gguf, prompt, n, expected=None, min_gap=MIN_GAP):
    """Returns compared, near ties, differing, and the largest error against `expected`, {position: logits}."""
    run = json.loads(thimble(tool, "run", "-m", gguf, *prompt, "-n", n, "--temp", "0", "--board", "host", "--json"))
    llama = LlamaCpp(gguf)
    ids = run["prompt_ids"] + run["ids"]
    compared = near = differing = 0
    error = 0.0
    for position, token in enumerate(ids[:-1]):
        logits = llama.step(token)
        spread = logits.max() - logits.min()
        if expected and position in expected:
            error = max(error, float(np.abs(logits - expected[position]).max() / spread))
        if position + 1 < len(run["prompt_ids"]):
            continue
        second, best = np.partition(logits, -2)[-2:]
        if best - second <= min_gap * spread:
            near += 1
        elif int(logits.argmax()) == ids[position + 1]:
            compared += 1
        else:
            differing += 1
            print(f"  {name}: after {position + 1} ids llama.cpp chooses {logits.argmax()} and thimble {ids[position + 1]}")
    llama.close()
    print(f"{name}: {compared} ids equal, {differing} different, {near} nearer than {min_gap} of the range"
          + (f"; llama.cpp's logits are off by up to {error:.1e} of the range" if expected else ""), flush=True)
    return compared, near, differing, error


def main():
    tool, work = str(pathlib.Path(sys.argv[1]).resolve()), pathlib.Path(sys.argv[2]).resolve()
    log = lc.llama_log_callback(lambda level, text, data: level == LOG_LEVEL_ERROR and print(text.decode(), end=""))
    lc.llama_log_set(log, ctypes.c_void_p(0))
    lc.llama_backend_init()

    results, results_q8 = [], []
    for folder in sorted(path.parent for path in ROOT.glob("tests/goldens/*/expected.json")):
        golden = json.loads((folder / "expected.json").read_text())
        logits = np.fromfile(folder / "expected.bin", "<f4").reshape(len(golden["logits_positions"]), -1)
        gguf = work / f"{folder.name}.gguf"
        thimble(tool, "convert", folder, "-o", gguf)
        results.append(compare(tool, folder.name, gguf, ["--ids", ",".join(map(str, golden["prompt_ids"]))],
                               len(golden["greedy_ids"]), dict(zip(golden["logits_positions"], logits))))
    for name, command, n in (("thimble-stories", ("convert", "model/thimble-stories"), 200),
                             ("synthetic tiny-llm", ("synth", "tiny-llm"), 48)):
        gguf = work / f"{name.replace(' ', '-')}.gguf"
        thimble(tool, *command, "-o", gguf)
        results.append(compare(tool, name, gguf, ["-p", "Once upon a time"], n))

    for name, source, prompt, n in (
        ("Q8_0 of one-layer-bf16", "tests/goldens/one-layer-bf16", ["--ids", "1,2,3"], 100),
        ("Q8_0 of thimble-stories", "model/thimble-stories", ["-p", "Once upon a time"], 400),
        ("Q8_0 of thimble-stories, again", "model/thimble-stories", ["-p", "The dog"], 400),
        ("Q8_0 of synthetic tiny-llm", work / "synthetic-tiny-llm.gguf", ["-p", "Once upon a time"], 100),
    ):
        wide, theirs, ours = (work / f"{kind}.gguf" for kind in ("q8-source", "q8-theirs", "q8-ours"))
        thimble(tool, "convert", source, "-o", wide, "--dtype", "f32")
        thimble(tool, "convert", source, "-o", ours, "--quant", "q8_0")
        quantize(wide, theirs)
        results_q8.append(compare(tool, name, theirs, prompt, n, min_gap=MIN_GAP_Q8))
        runs = [thimble(tool, "run", "-m", gguf, *prompt, "-n", n, "--seed", "1", "--board", "host") for gguf in (theirs, ours)]
        if runs[0] != runs[1]:
            sys.exit(f"FAIL: {name}: the blocks of llama.cpp and of thimble convert give different texts")

    compared, near, differing = (sum(r[i] for r in results_q8) for i in range(3))
    print(f"in Q8_0: {compared} ids equal, {differing} different, {near} too near to tell")
    if differing or compared < 200 or near > compared:
        sys.exit("FAIL: ids of Q8_0 differ, or too few could be compared")
    compared, near, differing = (sum(r[i] for r in results) for i in range(3))
    error = max(r[3] for r in results)
    print(f"in all: {compared} ids equal, {differing} different, {near} too near to tell; largest error {error:.1e}")
    if differing or compared < 500 or near > compared / 10:
        sys.exit("FAIL: ids differ, or too few could be compared")
    if 2 * error >= MIN_GAP:
        sys.exit(f"FAIL: MIN_GAP must be more than twice the largest error, {error:.1e}")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Makes the golden models beside this script: small random models, and what Hugging Face transformers computes of them.

    python3 -m venv venv && venv/bin/pip install -r requirements.txt && venv/bin/python make_goldens.py [CASE...]

README.md says what is in the folders. Weights are seeded; what makes the queries of each layer (weights and bias, or the norm of
q) is scaled until the attention scores of a row deviate by SCORE_DEVIATION from their mean. A seed is taken if its greedy ids do not hang on rounding (the
best logit is MIN_GAP of the logits' range ahead of the second, each time) and are not one token over and over.
"""

import copy
import json
import pathlib
import sys

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

SCORE_DEVIATION = 4.0
MIN_GAP = 1e-3
HERE = pathlib.Path(__file__).parent

# name: (storage type, prompt length, greedy ids, config)
CASES = {
    "gqa": ("float32", 24, 72, dict(
        vocab_size=201, hidden_size=48, intermediate_size=108, num_hidden_layers=3, num_attention_heads=6,
        num_key_value_heads=3, max_position_embeddings=128, rope_theta=10000.0, rms_norm_eps=1e-5)),
    "mqa-bf16": ("bfloat16", 24, 72, dict(
        vocab_size=512, hidden_size=64, intermediate_size=176, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=1, max_position_embeddings=128, rms_norm_eps=1e-6,
        rope_parameters=dict(rope_type="default", rope_theta=500000.0))),
    "mha-f16": ("float16", 24, 72, dict(
        vocab_size=400, hidden_size=56, intermediate_size=120, num_hidden_layers=5, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=128, rope_theta=1000000.0, rms_norm_eps=1e-5)),
    "tied-bf16": ("bfloat16", 24, 72, dict(
        vocab_size=777, hidden_size=60, intermediate_size=148, num_hidden_layers=3, num_attention_heads=5,
        num_key_value_heads=5, max_position_embeddings=128, rope_theta=10000.0, rms_norm_eps=1e-5,
        tie_word_embeddings=True)),
    "odd-sizes": ("float32", 17, 60, dict(
        vocab_size=97, hidden_size=36, intermediate_size=50, num_hidden_layers=3, num_attention_heads=3, head_dim=10,
        num_key_value_heads=1, max_position_embeddings=77, rope_theta=10000.0, rms_norm_eps=1e-6)),
    "wide-heads-f16": ("float16", 24, 72, dict(
        vocab_size=333, hidden_size=40, intermediate_size=104, num_hidden_layers=3, num_attention_heads=4, head_dim=28,
        num_key_value_heads=2, max_position_embeddings=128, rope_theta=500000.0, rms_norm_eps=1e-5)),
    "one-layer-bf16": ("bfloat16", 24, 72, dict(
        vocab_size=640, hidden_size=96, intermediate_size=320, num_hidden_layers=1, num_attention_heads=2, head_dim=96,
        num_key_value_heads=1, max_position_embeddings=128, rope_theta=10000.0, rms_norm_eps=1e-5)),
    "full-context": ("float32", 600, 425, dict(
        vocab_size=211, hidden_size=48, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=1024, rope_theta=10000.0, rms_norm_eps=1e-5)),
    "qwen2-bf16": ("bfloat16", 24, 72, dict(
        model_type="qwen2", vocab_size=303, hidden_size=64, intermediate_size=112, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128, rope_theta=1000000.0,
        rms_norm_eps=1e-6, use_sliding_window=False, sliding_window=32, max_window_layers=2)),
    "qwen3": ("float32", 24, 72, dict(
        model_type="qwen3", vocab_size=310, hidden_size=40, intermediate_size=88, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, head_dim=24, max_position_embeddings=128, rms_norm_eps=1e-6,
        rope_parameters=dict(rope_type="default", rope_theta=1000000.0), tie_word_embeddings=True)),
    "rope-llama3-bf16": ("bfloat16", 24, 72, dict(
        vocab_size=305, hidden_size=64, intermediate_size=104, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=256, rms_norm_eps=1e-5, rope_theta=20000.0,
        rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                          original_max_position_embeddings=64))),
    "rope-linear": ("float32", 24, 72, dict(
        vocab_size=290, hidden_size=48, intermediate_size=96, num_hidden_layers=3, num_attention_heads=3,
        num_key_value_heads=3, max_position_embeddings=256, rms_norm_eps=1e-5, rope_theta=10000.0,
        rope_scaling=dict(type="linear", factor=2.5))),
}
ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}


def score_deviations(model, ids):
    """Of each layer: how far the attention scores of a row deviate from their mean, over rows of 8 positions and more.

    The logarithm of the attention weights is the scores less a constant of the row.
    """
    with torch.no_grad():
        attentions = model(torch.tensor([ids]), output_attentions=True, use_cache=False).attentions
    deviations = []
    for weights in attentions:
        log = weights[0].double().log()
        rows = [log[:, i, : i + 1].var(dim=-1, correction=0) for i in range(7, len(ids))]
        deviations.append(torch.stack(rows).mean().sqrt().item())
    return deviations


def random_model(config, storage, seed, probe_ids):
    rng = torch.Generator().manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**dict(model_type="llama") | copy.deepcopy(config)))
    model.set_attn_implementation("eager")
    model.eval()

    def fill(weight, deviation):
        weight.data = torch.randn(weight.shape, generator=rng) * deviation

    def fill_norm(weight):
        weight.data = 0.5 + torch.rand(weight.shape, generator=rng)

    def fill_linear(linear, gain):
        fill(linear.weight, gain / linear.in_features**0.5)

    fill(model.model.embed_tokens.weight, 1.0)
    for layer in model.model.layers:
        for name, gain in dict(q_proj=1.0, k_proj=1.0, v_proj=1.0, o_proj=1.5).items():
            fill_linear(getattr(layer.self_attn, name), gain)
            if getattr(layer.self_attn, name).bias is not None:
                fill(getattr(layer.self_attn, name).bias, 0.5)
        for name in ("q_norm", "k_norm"):
            if hasattr(layer.self_attn, name):
                fill_norm(getattr(layer.self_attn, name).weight)
        for name, gain in dict(gate_proj=1.5, up_proj=1.5, down_proj=1.5).items():
            fill_linear(getattr(layer.mlp, name), gain)
        fill_norm(layer.input_layernorm.weight)
        fill_norm(layer.post_attention_layernorm.weight)
    fill_norm(model.model.norm.weight)
    if not config.get("tie_word_embeddings"):
        fill_linear(model.lm_head, 3.0)
    for i, layer in enumerate(model.model.layers):
        scale = SCORE_DEVIATION / score_deviations(model, probe_ids)[i]
        q_norm = getattr(layer.self_attn, "q_norm", None)
        for parameter in (q_norm or layer.self_attn.q_proj).parameters():
            parameter.data *= scale
    return model.to(getattr(torch, storage))


def write_model(model, config, storage, folder):
    folder.mkdir(exist_ok=True)
    state = {k: v.contiguous() for k, v in model.state_dict().items()}
    if config.get("tie_word_embeddings"):
        del state["lm_head.weight"]
    weights = folder / "model.safetensors"
    save_file(state, weights, metadata={"format": "pt"})
    weights.chmod(0o644)
    model_type = config.get("model_type", "llama")
    text = dict(architectures=[ARCHITECTURES[model_type]], model_type=model_type, hidden_act="silu")
    text |= dict(attention_bias=False, mlp_bias=False) if model_type == "llama" else {}
    text |= dict(bos_token_id=1, tie_word_embeddings=False)
    # Version 5 of transformers writes other names than version 4; both are read.
    text |= dict(dtype=storage) if "rope_parameters" in config else dict(torch_dtype=storage, rope_scaling=None)
    (folder / "config.json").write_text(json.dumps(text | config, indent=2) + "\n")


def reference(folder, dtype):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()


def make(name, storage, prompt_length, greedy_length, config):
    folder = HERE / name
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        prompt = [1] + rng.integers(3, config["vocab_size"], prompt_length - 1).tolist()
        write_model(random_model(config, storage, seed, prompt), config, storage, folder)

        model = reference(folder, torch.float32)
        ids, gaps = list(prompt), []
        with torch.no_grad():
            out = model(torch.tensor([ids]), use_cache=True)
            while True:
                logits = out.logits[0, -1]
                top = logits.topk(2)
                gaps.append(((top.values[0] - top.values[1]) / (logits.max() - logits.min())).item())
                ids.append(int(top.indices[0]))
                if len(gaps) == greedy_length or gaps[-1] < MIN_GAP:
                    break
                out = model(torch.tensor([ids[-1:]]), past_key_values=out.past_key_values, use_cache=True)
        greedy = ids[prompt_length:]
        if min(gaps) >= MIN_GAP and len(set(greedy)) >= min(24, greedy_length // 3):
            break
    else:
        sys.exit(f"{name}: no seed gives greedy ids that are far enough apart")

    # One pass over all positions but the last, whose logits nobody needs; the cache above is not used again.
    with torch.no_grad():
        logits = model(torch.tensor([ids[:-1]]), use_cache=False).logits[0]
        exact = reference(folder, torch.float64)(torch.tensor([ids[:-1]]), use_cache=False).logits[0]
    assert logits[prompt_length - 1 :].argmax(dim=-1).tolist() == greedy
    span = (logits.max() - logits.min()).item()
    step = 8 if len(ids) <= 128 else 64
    positions = sorted({prompt_length - 1, len(ids) - 2, *range(prompt_length - 1 + step, len(ids) - 1, step)})
    logits[positions].numpy().astype("<f4").tofile(folder / "expected.bin")
    deviations = score_deviations(model, ids[:-1])
    assert min(deviations) >= 3
    expected = dict(
        prompt_ids=prompt,
        greedy_ids=greedy,
        greedy_gaps=[float(f"{gap:.3g}") for gap in gaps],
        logits_positions=positions,
        logits_range=span,
        score_deviations=[round(d, 2) for d in deviations],
        float64_difference=float(f"{(logits - exact).abs().max().item() / span:.2g}"),
        seed=seed,
    )
    (folder / "expected.json").write_text(
        "{\n" + ",\n".join(f" {json.dumps(k)}: {json.dumps(v)}" for k, v in expected.items()) + "\n}\n")
    print(f"{name}: seed {seed}, scores {expected['score_deviations']}, smallest gap {min(gaps):.2g}, "
          f"{len(set(greedy))} different of {greedy_length} ids, range {span:.1f}, "
          f"float32 is {expected['float64_difference']} of it from float64", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for case in sys.argv[1:] or CASES:
        make(case, *CASES[case])

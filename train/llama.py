"""A Llama in plain PyTorch, its tensors named as Hugging Face names them, and its folder.

The folder holds config.json, generation_config.json, model.safetensors (float16),
tokenizer.model (SentencePiece) and tokenizer_config.json: what `thimble convert` reads.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from refusal import Refusal
from text import BOS, EOS

# Keys and values of each layer, [batch, kv heads, positions, head_dim].
Past = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Shape:
    """The figures of a Llama, by their names in config.json."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    tie_word_embeddings: bool = False
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0

    def config(self) -> dict:
        """What config.json says."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "max_position_embeddings": self.max_position_embeddings,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            "rope_scaling": None,
            "attention_bias": False,
            "attention_dropout": 0.0,
            "mlp_bias": False,
            "initializer_range": 0.02,
            "pretraining_tp": 1,
            "tie_word_embeddings": self.tie_word_embeddings,
            "use_cache": True,
            "bos_token_id": BOS,
            "eos_token_id": EOS,
            "torch_dtype": "float16",
            "vocab_size": self.vocab_size,
        }

    @staticmethod
    def of_config(config: dict, where: Path) -> Shape:
        """The shape that a config.json gives; refuses what this file does not compute."""
        if config.get("model_type") != "llama":
            raise Refusal(f"{where} is a model of type {config.get('model_type')!r}; a teacher must be of type 'llama'")
        for key, plain in (("hidden_act", "silu"), ("rope_scaling", None), ("attention_bias", False),
                           ("mlp_bias", False), ("bos_token_id", BOS), ("eos_token_id", EOS)):
            if config.get(key, plain) != plain:
                raise Refusal(f"{where} has {key} {config[key]!r}; only {plain!r} is known here")
        try:
            heads = config["num_attention_heads"]
            return Shape(
                config["vocab_size"], config["hidden_size"], config["intermediate_size"],
                config["num_hidden_layers"], heads, config.get("num_key_value_heads") or heads,
                config.get("head_dim") or config["hidden_size"] // heads,
                config["max_position_embeddings"], config.get("tie_word_embeddings", False),
                config.get("rms_norm_eps", 1e-6), config.get("rope_theta", 10000.0)).checked()
        except KeyError as missing:
            raise Refusal(f"{where} does not say {missing}") from None

    def checked(self) -> Shape:
        """This shape, if there can be such a model."""
        for name in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                     "num_key_value_heads", "head_dim", "max_position_embeddings"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise Refusal(f"{name} is {value!r}; it must be a whole number from 1")
        if self.num_attention_heads % self.num_key_value_heads:
            raise Refusal(f"{self.num_attention_heads} attention heads cannot share {self.num_key_value_heads} key/value"
                          " heads; the second must divide the first")
        if self.head_dim % 2:
            raise Refusal(f"the head dimension is {self.head_dim}; rotary embedding needs an even one")
        return self

    def parameters(self) -> int:
        """How many numbers the model has."""
        heads = self.num_attention_heads + self.num_key_value_heads
        layer = self.hidden_size * (2 * heads * self.head_dim + 3 * self.intermediate_size + 2)
        tables = self.vocab_size * self.hidden_size * (1 if self.tie_word_embeddings else 2)
        return tables + self.num_hidden_layers * layer + self.hidden_size


def rope_table(shape: Shape) -> tuple[Tensor, Tensor]:
    """Cosines and sines, [position, head_dim], in the rotate-halves layout."""
    steps = torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim
    inverse = shape.rope_theta ** -steps
    angles = torch.outer(torch.arange(shape.max_position_embeddings).float(), inverse)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    low, high = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-high, low], dim=-1) * sin


def linear(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=False)


class Attention(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = (
            shape.num_attention_heads, shape.num_key_value_heads, shape.head_dim)
        self.q_proj = linear(shape.hidden_size, self.heads * self.head_dim)
        self.k_proj = linear(shape.hidden_size, self.kv_heads * self.head_dim)
        self.v_proj = linear(shape.hidden_size, self.kv_heads * self.head_dim)
        self.o_proj = linear(self.heads * self.head_dim, shape.hidden_size)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, past: Past | None, layer: int) -> Tensor:
        batch, length, _ = x.shape
        q = self.q_proj(x).view(batch, length, self.heads, self.head_dim).transpose(1, 2)
        k = self.k_proj(x).view(batch, length, self.kv_heads, self.head_dim).transpose(1, 2)
        v = self.v_proj(x).view(batch, length, self.kv_heads, self.head_dim).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if past is not None:
            if layer < len(past):
                k, v = (torch.cat(parts, dim=2) for parts in zip(past[layer], (k, v)))
                past[layer] = (k, v)
            else:
                past.append((k, v))
        if self.kv_heads == 1:
            k, v = (t.expand(-1, self.heads, -1, -1) for t in (k, v))
        elif self.kv_heads < self.heads:
            k, v = (t.repeat_interleave(self.heads // self.kv_heads, dim=1) for t in (k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=past is None)
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, length, -1))


class FeedForward(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = linear(shape.hidden_size, shape.intermediate_size)
        self.up_proj = linear(shape.hidden_size, shape.intermediate_size)
        self.down_proj = linear(shape.intermediate_size, shape.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.self_attn = Attention(shape)
        self.mlp = FeedForward(shape)
        self.input_layernorm = nn.RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(shape.hidden_size, shape.rms_norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, past: Past | None, layer: int) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, past, layer)
        return x + self.mlp(self.post_attention_layernorm(x))


class Body(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Block(shape) for _ in range(shape.num_hidden_layers))
        self.norm = nn.RMSNorm(shape.hidden_size, shape.rms_norm_eps)


class Llama(nn.Module):
    """Token ids [batch, length] to logits [batch, length, vocabulary]."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.model = Body(shape)
        self.lm_head = None if shape.tie_word_embeddings else linear(shape.hidden_size, shape.vocab_size)
        cos, sin = rope_table(shape)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        for weight in self.parameters():
            if weight.dim() == 2:
                nn.init.normal_(weight, std=0.02)

    def hidden(self, ids: Tensor, past: Past | None = None) -> Tensor:
        """The states that the head reads, [batch, length, hidden]. With `past`, ids is the one next
        token of each row, and past grows."""
        start = past[0][0].shape[2] if past else 0
        cos = self.cos[start:start + ids.shape[1]]
        sin = self.sin[start:start + ids.shape[1]]
        x = self.model.embed_tokens(ids)
        for number, layer in enumerate(self.model.layers):
            x = layer(x, cos, sin, past, number)
        return self.model.norm(x)

    def head(self, hidden: Tensor) -> Tensor:
        if self.lm_head is None:
            return F.linear(hidden, self.model.embed_tokens.weight)
        return self.lm_head(hidden)

    def forward(self, ids: Tensor, past: Past | None = None) -> Tensor:
        return self.head(self.hidden(ids, past))


def write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def write_model(model: Llama, folder: Path) -> None:
    """Write everything of the folder but tokenizer.model, weights in float16."""
    tensors = {name: weight.detach().to(torch.float16).contiguous()
               for name, weight in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    write_json(folder / "config.json", model.shape.config())
    write_json(folder / "generation_config.json", {
        "bos_token_id": BOS, "eos_token_id": EOS, "do_sample": True,
        "temperature": 0.8, "top_k": 0, "top_p": 1.0,
        "max_length": model.shape.max_position_embeddings})
    write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "LlamaTokenizer", "unk_token": "<unk>",
        "bos_token": "<s>", "eos_token": "</s>", "pad_token": None,
        "add_bos_token": True, "add_eos_token": False, "legacy": True,
        "clean_up_tokenization_spaces": False,
        "model_max_length": model.shape.max_position_embeddings})


def read_model(folder: Path) -> Llama:
    """The model of a folder, in float32, not for training."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        model = Llama(Shape.of_config(config, folder / "config.json"))
        weights = load_file(folder / "model.safetensors")
    except OSError as error:
        raise Refusal(f"{folder} is no model's folder: cannot read {error.filename}") from None
    except (ValueError, SafetensorError) as error:
        raise Refusal(f"{folder} is no model's folder: {error}") from None
    weights = {name: weight.float() for name, weight in weights.items()}
    if model.shape.tie_word_embeddings:
        weights.pop("lm_head.weight", None)
    expected = {name: weight.shape for name, weight in model.state_dict().items()}
    if expected != {name: weight.shape for name, weight in weights.items()}:
        raise Refusal(f"{folder / 'model.safetensors'} does not hold the tensors that its config.json describes")
    model.load_state_dict(weights)
    return model.eval()

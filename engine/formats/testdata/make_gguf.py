#!/usr/bin/env python3
"""Writes tiny.gguf with the Python package gguf, as an independent oracle for engine/formats/gguf_test.cc.

Usage: make_gguf.py OUT.gguf       (pip install gguf numpy)
"""
import sys

import gguf
import numpy as np

HIDDEN, FFN, LAYERS, HEADS, KV_HEADS, HEAD_DIM, VOCAB = 12, 20, 1, 2, 1, 4, 9

writer = gguf.GGUFWriter(sys.argv[1], "llama")
writer.add_custom_alignment(64)
writer.add_name("tiny")
writer.add_tags(["one", "two"])
writer.add_block_count(LAYERS)
writer.add_context_length(32)
writer.add_embedding_length(HIDDEN)
writer.add_feed_forward_length(FFN)
writer.add_head_count(HEADS)
writer.add_head_count_kv(KV_HEADS)
writer.add_key_length(HEAD_DIM)
writer.add_value_length(HEAD_DIM)
writer.add_rope_dimension_count(HEAD_DIM)
writer.add_rope_freq_base(500.0)
writer.add_layer_norm_rms_eps(1e-6)
writer.add_vocab_size(VOCAB)
writer.add_tokenizer_model("llama")
writer.add_token_list(["<unk>", "<s>", "</s>", "\u2581", "a", "b", "ab", "\u2581ab", "\u00e9"])
writer.add_token_scores([0.0, 0.0, 0.0, -1.0, -2.0, -3.0, -0.5, -0.25, -4.0])
writer.add_token_types([2, 3, 3, 1, 1, 1, 1, 1, 1])
writer.add_bos_token_id(1)
writer.add_eos_token_id(2)
writer.add_add_bos_token(True)
writer.add_add_space_prefix(False)

count = 0


def add(name, *shape):
    """A tensor that goes on counting where the one before it stopped."""
    global count
    size = int(np.prod(shape))
    writer.add_tensor(name, (np.arange(count, count + size, dtype=np.float32)).reshape(shape))
    count += size


add("token_embd.weight", VOCAB, HIDDEN)
add("blk.0.attn_norm.weight", HIDDEN)
add("blk.0.ffn_down.weight", HIDDEN, FFN)
add("blk.0.ffn_gate.weight", FFN, HIDDEN)
add("blk.0.ffn_up.weight", FFN, HIDDEN)
add("blk.0.ffn_norm.weight", HIDDEN)
add("blk.0.attn_k.weight", KV_HEADS * HEAD_DIM, HIDDEN)
add("blk.0.attn_output.weight", HIDDEN, HEADS * HEAD_DIM)
add("blk.0.attn_q.weight", HEADS * HEAD_DIM, HIDDEN)
add("blk.0.attn_v.weight", KV_HEADS * HEAD_DIM, HIDDEN)
add("output_norm.weight", HIDDEN)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

"""Edge counts of published models from what their configuration files say; no weights are needed.

Numbers in brackets are those of `tests/PROOFS.md`.
"""

from __future__ import annotations

import pytest
from support.hugging_face import config_json

from harness.circuits.edges.graph import Graph
from harness.models.config import GPT2_SMALL

LLAMA_2_13B = {
    "hidden_size": 5120,
    "intermediate_size": 13824,
    "num_hidden_layers": 40,
    "num_attention_heads": 40,
    "num_key_value_heads": 40,
    "vocab_size": 32016,
    "max_position_embeddings": 16384,
}
LLAMA_3_8B = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
}
PYTHIA_160M = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "vocab_size": 50304,
}


@pytest.mark.parametrize(
    ("model_type", "fields", "inputs", "edges"),
    [
        ("llama", LLAMA_2_13B, "none", 3_872_820),
        ("llama", LLAMA_2_13B, "token", 3_877_661),
        ("llama", LLAMA_3_8B, "none", 804_112),
        ("llama", LLAMA_3_8B, "token", 805_681),
        ("gpt_neox", PYTHIA_160M, "token", 32_347),
    ],
)
def test_edge_counts_of_known_models(model_type, fields, inputs, edges, tmp_path):
    """[3, 19] Llama 3's heads read one key and one value for each group of four."""
    assert Graph.of(config_json(tmp_path, model_type, **fields), inputs).n_edges == edges


def test_edge_count_of_gpt2_small(tmp_path):
    """[3] And its configuration is the one that this project has by name."""
    sizes = {"n_embd": 768, "n_head": 12, "n_layer": 12, "vocab_size": 50257, "n_positions": 1024}
    config = config_json(tmp_path, "gpt2", **sizes)
    assert config == GPT2_SMALL
    assert Graph.of(config).n_edges == 32_491

"""Every family of checkpoints against `transformers`, on small random models.

Numbers in brackets are those of `tests/PROOFS.md`.
"""

from __future__ import annotations

import json
import math

import pytest
import torch
from support.hugging_face import MODELS, config_json, random_theirs, saved

from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patched.forward import PatchedModel
from harness.circuits.patchable import plain_logits
from harness.errors import HarnessError
from harness.models.checkpoint import load_model, save_model
from harness.models.config import GPT2_SMALL, Rotary, TransformerConfig
from harness.models.rotary import frequencies

pytestmark = pytest.mark.matrix
transformers = pytest.importorskip("transformers")

TOKENS = torch.randint(41, (3, 40), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_transformers(name, tmp_path):
    theirs = saved(name, tmp_path)
    ours = load_model(tmp_path)
    with torch.no_grad():
        wanted, found = theirs(TOKENS).logits, ours(TOKENS)
    assert (found - wanted).abs().max() <= 1e-4
    assert torch.equal(found.argmax(-1), wanted.argmax(-1))


@pytest.mark.parametrize("name", ["llama-yarn", "gemma3-linear", "gpt2-by-layer"])
def test_a_loaded_model_survives_our_own_form(name, tmp_path):
    saved(name, tmp_path)
    ours = load_model(tmp_path)
    again = tmp_path / "ours"
    again.mkdir()
    save_model(ours, again)
    found = load_model(again)
    assert found.config == ours.config
    for key, weight in found.named_parameters():
        assert torch.equal(weight, dict(ours.named_parameters())[key])


@pytest.mark.parametrize("name", ["gpt2", "pythia", "llama-tied", "gemma2", "gemma3"])
@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16])
def test_weights_in_16_bits_lose_nothing_on_the_way(name, stored, tmp_path):
    """Computed in single precision, also the norms of Gemma, whose 1 + w has no 16-bit form."""
    random_theirs(name).to(stored).save_pretrained(tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32, attn_implementation="eager"
    )
    assert load_model(tmp_path).embedding.dtype == stored
    ours = load_model(tmp_path, dtype=torch.float32)
    with torch.no_grad():
        wanted, found = theirs(TOKENS).logits, ours(TOKENS)
    assert (found - wanted).abs().max() <= 1e-4


# ---------------------------------------------------------------- configurations
def old_form(folder, fields, drop=("rope_parameters",)):
    """Rewrite the configuration as earlier versions of `transformers` wrote it."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for name in drop:
        config.pop(name, None)
    path.write_text(json.dumps({**config, **fields}))


LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("pythia", {"rotary_pct": 0.25, "rotary_emb_base": 10000}),
        ("neox-all-turns", {"rotary_pct": 1.0, "rotary_emb_base": 500}),
        ("codellama", {"rope_theta": 1e6, "rope_scaling": None}),
        ("llama-linear", {"rope_scaling": {"type": "linear", "factor": 4.0}}),
        (
            "llama3",
            {
                "rope_theta": 500000.0,
                "rope_scaling": {
                    "rope_type": "llama3",
                    "original_max_position_embeddings": 24,
                    **LLAMA3,
                },
            },
        ),
        (
            "gemma3-linear",
            {
                "rope_theta": 1e6,
                "rope_local_base_freq": 1e4,
                "rope_scaling": {"rope_type": "linear", "factor": 4.0},
            },
        ),
    ],
)
def test_the_old_form_of_rotary_fields_means_the_same(name, fields, tmp_path):
    saved(name, tmp_path)
    new = load_model(tmp_path).config
    old_form(tmp_path, fields)
    old = load_model(tmp_path).config
    assert (old.rotary, old.window_rotary) == (new.rotary, new.window_rotary)


SCALINGS = {
    "llama3": (
        Rotary(5e5, None, "llama3", 8.0, 8192, 1.0, 4.0),
        {"rope_type": "llama3", "original_max_position_embeddings": 8192, **LLAMA3},
    ),
    "yarn": (
        Rotary(1e6, None, "yarn", 4.0, 32768, 1.0, 32.0),
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
    ),
    "yarn-between": (
        Rotary(1e4, None, "yarn", 16.0, 4096, 0.5, 8.0, whole=False),
        {
            "rope_type": "yarn",
            "factor": 16.0,
            "original_max_position_embeddings": 4096,
            "beta_slow": 0.5,
            "beta_fast": 8.0,
            "truncate": False,
        },
    ),
    "linear": (Rotary(1e4, None, "linear", 8.0), {"rope_type": "linear", "factor": 8.0}),
}


@pytest.mark.parametrize("kind", SCALINGS)
def test_frequencies_of_heads_of_real_width(kind):
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rotary, scaling = SCALINGS[kind]
    config = transformers.LlamaConfig(
        head_dim=128,
        max_position_embeddings=131072,
        rope_parameters={"rope_theta": rotary.base, **scaling},
    )
    wanted, _ = ROPE_INIT_FUNCTIONS[scaling["rope_type"]](config)
    found = frequencies(rotary, 128)
    torch.testing.assert_close(found.float(), wanted, rtol=1e-6, atol=0)
    plain = frequencies(Rotary(rotary.base), 128)
    slower = (found / plain).tolist()  # the scaling is neither nothing nor the same everywhere
    assert min(slower) == pytest.approx(1 / rotary.factor)
    assert kind == "linear" or max(slower) == pytest.approx(1.0)


def test_yarn_scales_cosines_and_sines(tmp_path):
    saved("llama-yarn", tmp_path)
    assert load_model(tmp_path).config.rotary.amplitude == pytest.approx(0.1 * math.log(4) + 1)


# ---------------------------------------------------------------- circuits of loaded models
ONE_PER_FAMILY = sorted({family: name for name, (family, _) in MODELS.items()}.values())
WITH_GRAPH = [
    *ONE_PER_FAMILY,
    *("pythia", "mistral-window", "llama3", "qwen2-window", "gemma2-tight-caps", "gemma3"),
]


@pytest.mark.parametrize("name", WITH_GRAPH)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_all_edges_give_the_plain_model(name, dtype, tolerance, tmp_path, random_batch):
    """[1, 19] Of every family that is loaded, also with heads in groups."""
    saved(name, tmp_path)
    model, batch = load_model(tmp_path, dtype=dtype), random_batch(length=20, vocabulary=41)
    graph = Graph.of(model.config)
    counterfactual = EdgeCounterfactuals(model, graph, "interchange").of(batch)
    found = PatchedModel(model, graph).logits(batch, graph.allowed[None], counterfactual)[0]
    plain = plain_logits(model, batch)
    assert (found - plain).abs().max() <= tolerance * plain.abs().max()


def test_gemma_3_files_leave_out_what_is_default(tmp_path):
    """As in the published 4B model, which holds a vision model too."""
    text = {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34}
    text |= {"rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024}
    config = config_json(tmp_path, "gemma3", text_config=text)
    wanted = transformers.Gemma3TextConfig(**text)
    assert (config.n_heads, config.n_groups, config.d_head) == (8, 4, 256)
    assert config.rotary == Rotary(1e6, None, "linear", 8.0)
    assert config.window_rotary == Rotary(1e4)
    sliding = [i for i, kind in enumerate(wanted.layer_types) if kind == "sliding_attention"]
    assert config.window_layers == tuple(sliding)
    assert config.n_ctx == wanted.max_position_embeddings


# ---------------------------------------------------------------- our configuration
def test_nested_values_of_a_configuration_are_checked():
    rotary = {"base": 10.0, "scaling": "linear", "factor": 2.0}
    good = {**GPT2_SMALL.to_dict(), "positions": "rotary", "rotary": rotary}
    assert TransformerConfig.from_dict(good).rotary == Rotary(10.0, None, "linear", 2.0)
    for changes, message in (
        ({"rotary": {**rotary, "factor": "2"}}, "factor is '2', not a number"),
        ({"rotary": {**rotary, "turns": 2}}, "rotary.turns is unknown"),
        ({"rotary": 3}, "rotary is 3, not a mapping"),
        ({"rotary": None}, "`rotary` must be given"),
        ({"rotary": {**rotary, "n_rotated": 5}}, "5 of d_head = 64 is no even number"),
        ({"rotary": {"scaling": "yarn"}}, "'yarn' needs original_ctx"),
        ({"window_layers": [-1]}, "not a list of layers"),
        ({"window_layers": [1]}, "need a `window`"),
        ({"n_key_value_heads": 5}, "n_heads = 12 is not divisible by n_key_value_heads = 5"),
        ({"gated": None}, "gated is None, not true or false"),
    ):
        with pytest.raises(HarnessError, match=message):
            TransformerConfig.from_dict({**good, **changes})


def test_an_older_configuration_means_what_it_meant():
    names = "n_layers n_heads d_model d_head d_mlp d_vocab n_ctx norm norm_eps positions activation"
    older = {name: GPT2_SMALL.to_dict()[name] for name in f"{names} bias tied causal".split()}
    assert TransformerConfig.from_dict(older) == GPT2_SMALL

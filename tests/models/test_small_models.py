"""Models that people study: attention alone, classes as outputs; read from their own form."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from support.lens_in_numpy import folded, logits, random_lens_model

from harness.bench.floors import floors
from harness.bench.rows import HELD_STEPS
from harness.circuits.circuit import Circuit
from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.mib import to_mib
from harness.circuits.edges.patched.forward import patched_logits
from harness.circuits.edges.patched.live import LiveNodes
from harness.circuits.edges.space import EdgeSpace
from harness.circuits.files import load_circuit, save_circuit
from harness.circuits.patchable import plain_logits
from harness.datasets.batch import Batch
from harness.errors import HarnessError
from harness.models.checkpoint import load_model, save_model
from harness.models.config import TransformerConfig
from harness.models.sites import sites
from harness.models.transformer import random_model

TOKENS = np.random.default_rng(5).integers(6, size=(5, 7))
KINDS = {
    "attention alone": {},
    "classifier": {"d_vocab_out": 2, "attn_only": False, "causal": False},
    "attention alone, classifier": {"d_vocab_out": 3, "n_layers": 1, "n_heads": 3},
    "more classes than tokens": {"d_vocab_out": 9},
    "attention alone, looking both ways": {"causal": False},
}


def load(folder, w, config):
    save_file(
        {name: np.ascontiguousarray(value) for name, value in w.items()},
        folder / "model.safetensors",
    )
    (folder / "config.json").write_text(json.dumps(config))
    return load_model(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_an_independent_implementation(kind, tmp_path):
    """In float64, from the folder alone; and once more after the harness's own form."""
    w, config = random_lens_model(**KINDS[kind])
    model = load(tmp_path, w, config)
    assert model.config.has_mlp != config["attn_only"]
    wanted = logits(w, config, TOKENS)
    assert wanted.shape[-1] == model.config.n_outputs == config["d_vocab_out"]
    found = model(torch.from_numpy(TOKENS)).numpy()
    assert np.abs(found - wanted).max() < 1e-12 < np.abs(wanted).max()
    own = tmp_path / "own"
    own.mkdir()
    save_model(model, own)
    again = load_model(own)
    assert again.config == model.config
    assert torch.equal(again(torch.from_numpy(TOKENS)), model(torch.from_numpy(TOKENS)))


def batch_of(tokens):
    good = torch.zeros(len(tokens), 1, 1, dtype=torch.long)
    read = torch.full((len(tokens), 1), tokens.shape[1] - 1)
    clean, corrupted = torch.from_numpy(tokens), torch.from_numpy(tokens[::-1].copy())
    return Batch(clean, corrupted, read, good, good + 1, torch.arange(len(tokens)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("head_bias", ["unattached", "folded"])
def test_a_head_without_edges_under_zero_ablation(kind, head_bias, tmp_path):
    """Raw, a dropped head takes its value bias with it; `folded`, the bias stays behind.

    The reference drops the head from the raw weights, and from weights that were folded.
    """
    w, config = random_lens_model(**KINDS[kind])
    model, batch = load(tmp_path, w, config), batch_of(TOKENS)
    graph = Graph.of(model.config)
    zero = EdgeCounterfactuals(model, graph, "zero", head_bias=head_bias).of(batch)
    kept = graph.allowed.clone()
    kept[graph.writers.index("a0.h1")] = False
    found = patched_logits(model, graph, batch, kept[None], zero)[0, :, 0].numpy()
    theirs = folded(w, config) if head_bias == "folded" else w
    wanted = logits(theirs, config, TOKENS, frozenset({"a0.h1"}))[:, -1]
    assert np.abs(found - wanted).max() < 1e-11
    other = logits(
        w if head_bias == "folded" else folded(w, config), config, TOKENS, frozenset({"a0.h1"})
    )
    assert np.abs(found - other[:, -1]).max() > 1e-3
    whole = patched_logits(model, graph, batch, graph.allowed[None], zero)[0]
    torch.testing.assert_close(whole, plain_logits(model, batch), rtol=1e-11, atol=1e-11)


def test_no_edges_leave_the_folded_biases_under_zero_ablation(tmp_path):
    """What is left is positions, output biases and b_V·W_O; a mask's gradient sees the same."""
    w, config = random_lens_model()
    model, batch = load(tmp_path, w, config), batch_of(TOKENS)
    graph = Graph.of(model.config)
    zero = EdgeCounterfactuals(model, graph, "zero", head_bias="folded").of(batch)
    found = patched_logits(model, graph, batch, torch.zeros_like(graph.allowed)[None], zero)
    blank = {**folded(w, config), "embed.W_E": np.zeros_like(w["embed.W_E"])}
    heads = frozenset(name for name in graph.writers if name.startswith("a"))
    wanted = logits(blank, config, TOKENS, heads)[:, -1]
    assert np.abs(found[0, :, 0].numpy() - wanted).max() < 1e-11


def test_fields_of_an_mlp_that_is_not_there(tmp_path):
    """Whatever a configuration says of it; a tensor of it is unknown."""
    w, config = random_lens_model()
    odd = {**config, "d_mlp": 40, "act_fn": "solu", "gated_mlp": True, "parallel_attn_mlp": True}
    model = load(tmp_path, w, odd)
    assert np.abs(model(torch.from_numpy(TOKENS)).numpy() - logits(w, config, TOKENS)).max() < 1e-12
    with pytest.raises(HarnessError, match=r"unknown blocks\.0\.mlp\.W_in"):
        load(tmp_path, {**w, "blocks.0.mlp.W_in": np.zeros((10, 40))}, config)
    with pytest.raises(HarnessError, match=r"missing blocks\.0\.mlp\.W_in"):
        load(tmp_path, w, {**config, "attn_only": False, "act_fn": "relu", "d_mlp": 40})


def test_outputs_that_are_not_said(tmp_path):
    """d_vocab_out may be absent or -1, their default; a wrong one does not fit the weights."""
    w, config = random_lens_model()
    for said in (None, -1, 6):
        assert load(tmp_path, w, {**config, "d_vocab_out": said}).config.d_vocab_out is None
    with pytest.raises(HarnessError, match=r"unembed\.W_U has shape \(10, 6\).*\(2, 10\)"):
        load(tmp_path, w, {**config, "d_vocab_out": 2})
    for wrong in (0, -2, 2.5, True):
        with pytest.raises(HarnessError, match=r"d_vocab_out is .*, not a positive whole number"):
            load(tmp_path, w, {**config, "d_vocab_out": wrong})


SHAPE = {"n_layers": 1, "n_heads": 2, "d_model": 8, "d_head": 4, "d_vocab": 5, "n_ctx": 4}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"d_mlp": 0, "gated": True}, "`gated` is about MLPs"),
        ({"d_mlp": 0, "parallel": True}, "`parallel` is about MLPs"),
        ({"d_mlp": 0, "post_norms": True}, "`post_norms` is about MLPs"),
        ({"d_mlp": 8, "tied": True, "d_vocab_out": 3}, "`tied` embeddings give 5 outputs"),
        ({"d_mlp": -1}, "d_mlp is -1, not 0 or a positive integer"),
        ({"d_mlp": 8, "d_vocab_out": 0}, "d_vocab_out is 0, not a positive integer"),
    ],
)
def test_configurations_that_contradict_themselves(fields, message):
    with pytest.raises(HarnessError, match=message):
        TransformerConfig.from_dict({**SHAPE, **fields})


def test_a_model_of_attention_alone_has_no_weights_and_sites_of_mlps():
    model = random_model(TransformerConfig(**SHAPE, d_mlp=0), 0)
    assert not [name for name, _ in model.named_parameters() if "mlp" in name]
    assert [site.name for site in sites(model.config)][-3:] == ["a0.out", "a0.stream", "final"]


def test_circuits_of_attention_alone_in_files(tmp_path):
    """They come back from the harness's own forms; MIB's has an MLP in every layer."""
    space = EdgeSpace(Graph(2, 2, mlps=False))
    assert space.header() == {**EdgeSpace(Graph(2, 2)).header(), "mlps": False}
    kept = torch.rand(len(space), generator=torch.Generator().manual_seed(0)) < 0.5
    circuit = Circuit(space, kept, kept.double(), 8, {})
    for name in ("c.json", "c.safetensors"):
        save_circuit(circuit, tmp_path / name)
        found = load_circuit(tmp_path / name)
        assert found.space == space
        assert torch.equal(found.kept, kept)
    with pytest.raises(HarnessError, match="this circuit's model is attention alone"):
        to_mib(circuit)


def test_floors_of_attention_alone_count_no_mlps():
    """By hand for one layer of two heads: six maps and two outputs of D·K, mixing of E·D."""
    config = TransformerConfig(**{**SHAPE, "n_heads": 1, "d_head": 8}, d_mlp=0)
    graph = Graph.of(config)
    assert graph.n_edges == 3 + 2
    found = floors(config, 4, LiveNodes.all(graph))
    blocks, unembed = 4 * 8 * 8, 8 * 5
    plain = 3 * (blocks + unembed)
    assert found["eap"] == pytest.approx((blocks + 2 * (blocks + unembed / 4) + 5 * 8) / plain)
    groups = 2  # the input and the heads: the stream is read out above each, blocks above one
    held = (blocks + unembed / 4 * groups) * 2 * HELD_STEPS
    assert found[f"eap_ig_activations({HELD_STEPS})"] == pytest.approx(
        (3 * blocks + 5 * 8 + held) / plain
    )
    replaced = blocks + 2 * unembed / 4
    assert found["node_patching"] == pytest.approx((2 * blocks + unembed / 4 + replaced) / plain)
    reached = 1 + 2  # the input before attention; both writers before the logits
    assert found["information_flow_routes"] == pytest.approx((blocks + reached * 8) / plain)

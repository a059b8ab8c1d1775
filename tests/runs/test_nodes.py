"""What a cell stores of the nodes of its circuit, against references written from definitions."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.channels import ZERO, thinned
from support.fake_cells import a_task
from support.feature_sets import CONFIG, dictionaries
from support.feature_sets import choices as feature_choices
from support.slow_reference import small_model
from support.toy_task import CHOICES, FirstToken

from harness.circuits.circuit import Circuit
from harness.circuits.edges.space import EdgeSpace
from harness.circuits.gates.model import GatedModel
from harness.circuits.ground_truth import GroundTruth
from harness.circuits.patchable import make_patchable
from harness.datasets.batch import Batches
from harness.datasets.concepts import ConceptFamily
from harness.dictionaries.sites import activations
from harness.evaluation.setup import Setup
from harness.models.sites import tapped_run
from harness.models.transformer import random_model
from harness.runs.nodes.file import nodes_of

DATA = FirstToken()
PAIRS = DATA.pairs("test", 12, 0)


def set_up(choices=CHOICES, share=1.0, seed=0):
    """The toy task on a small model, and a circuit of some of its elements."""
    model = thinned(small_model("gpt2-like"), share).float()
    patchable = make_patchable(model, choices, [PAIRS])
    batches = Batches(PAIRS, 12, "cpu", 0)
    setup = Setup(patchable, batches, patchable.counterfactuals(choices, batches, 0), choices)
    space = patchable.space
    draw = torch.Generator().manual_seed(seed)
    kept = torch.rand(len(space), generator=draw) < 0.6
    return setup, Circuit(space, kept, torch.randn(len(space), generator=draw).double())


def told(setup, circuit, truth=None):
    content = nodes_of(setup, a_task(), DATA, circuit, truth)
    json.dumps(content, allow_nan=False)
    return content, {one["name"]: one for one in content["nodes"]}


def logit_difference(logits, batch):
    """Of logits [B, P, V] with one answer each."""
    good, bad = (torch.take_along_dim(logits, one, -1) for one in (batch.good, batch.bad))
    return float((good - bad).double().mean())


@pytest.mark.parametrize("choices", [CHOICES, ZERO], ids=["edges", "channels"])
def test_what_a_node_is_worth_is_the_metric_without_it(choices):
    setup, circuit = set_up(choices, 0.5)
    content, nodes = told(setup, circuit)
    (batch,) = setup.batches
    counterfactual = setup.counterfactuals.of(batch)

    def metric(kept):
        logits = setup.patchable.logits(batch, kept[None], counterfactual)[0]
        return logit_difference(logits, batch)

    everything = torch.ones_like(circuit.kept)
    assert content["model"] == pytest.approx(metric(everything), abs=1e-5)
    assert content["circuit"] == pytest.approx(metric(circuit.kept), abs=1e-5)
    names = [name for name, one in nodes.items() if one["without"] is not None]
    assert names
    for name in names:
        elements = torch.zeros_like(circuit.kept)
        if isinstance(circuit.space, EdgeSpace):
            for at in range(len(elements)):
                elements[at] = circuit.space.name(at).startswith(f"{name}->")
            assert nodes[name]["model_without"] == pytest.approx(metric(~elements), abs=1e-5)
        else:
            elements[circuit.space.index(name)] = True
            assert nodes[name]["model_without"] is None
        without = metric(circuit.kept & ~elements)
        assert nodes[name]["without"] == pytest.approx(without, abs=1e-5)


def written_in(model, batch):
    """What each site and head adds to the logit difference, with the last norm's scale held.

    [D] by site or head, means over prompts, from the values of a run and the weights alone.
    """
    values = {}
    tapped_run(model, batch.clean, values.setdefault)
    stream = values["embed"] + values["position"]
    stream = stream + sum(value for site, value in values.items() if site.endswith(".out"))
    read = batch.at_positions(stream)[:, 0]
    spread = read - read.mean(-1, keepdim=True)
    scale = ((spread * spread).mean(-1, keepdim=True) + model.config.norm_eps).sqrt()
    matrix = model.embedding if model.config.tied else model.unembedding
    wanted = (matrix[batch.good[:, 0, 0]] - matrix[batch.bad[:, 0, 0]]) * model.final_norm.weight
    wanted = (wanted - wanted.mean(-1, keepdim=True)) / scale
    parts = {site: value for site, value in values.items() if site.endswith(".out")}
    parts["input"] = values["embed"] + values["position"]
    for layer, block in enumerate(model.blocks):
        parts[f"m{layer}"] = values[f"m{layer}.out"] - block.mlp_out.bias
        width = model.config.d_head
        for head in range(model.config.n_heads):
            own = slice(head * width, (head + 1) * width)
            mixed = values[f"a{layer}.z"][..., own]
            parts[f"a{layer}.h{head}"] = mixed @ block.out_map.weight[:, own].T
    return {
        name: (batch.at_positions(value.expand_as(stream))[:, 0] * wanted).mean(0)
        for name, value in parts.items()
    }


def test_what_heads_and_mlps_write_is_their_part_of_the_logit_difference():
    setup, circuit = set_up()
    content, nodes = told(setup, replace(circuit, kept=torch.ones_like(circuit.kept)))
    few = setup.batches[0].take(torch.arange(content["n_writes"]))
    written = written_in(setup.model, few)
    names = [name for name, one in nodes.items() if one["writes"] is not None]
    assert {"input", "a0.h0", "a1.h1", "m0", "m1"} <= set(names)
    for name in names:
        assert nodes[name]["writes"] == pytest.approx(float(written[name].sum()), abs=1e-5)
    whole = logit_difference(few.at_positions(setup.model(few.clean)), few)
    assert content["logit_diff"] == pytest.approx(whole, abs=1e-5)


def test_what_channels_write_is_their_part_of_the_logit_difference():
    setup, circuit = set_up(ZERO, 0.5)
    content, nodes = told(setup, circuit)
    few = setup.batches[0].take(torch.arange(content["n_writes"]))
    written = written_in(setup.model, few)
    names = [name for name, one in nodes.items() if one["writes"] is not None]
    assert names
    for name in names:
        site, channel = name.rsplit(".", 1)
        assert site.endswith(".out")
        reference = float(written[site][int(channel)])
        assert nodes[name]["writes"] == pytest.approx(reference, abs=1e-5)


@pytest.mark.parametrize("choices", [CHOICES, ZERO], ids=["edges", "channels"])
def test_patterns_are_those_of_the_model_on_the_example(choices):
    setup, circuit = set_up(choices)
    content, nodes = told(setup, circuit)
    words = content["example"]
    tokens = DATA.tokenizer.tokens
    assert words["clean"] == [tokens[one] for one in PAIRS.clean[words["row"]]]
    assert words["corrupted"] == [tokens[one] for one in PAIRS.corrupted[words["row"]]]
    assert content["patterns"]
    values = {}
    prompt = torch.from_numpy(PAIRS.clean[words["row"]])[None]
    tapped_run(setup.model, prompt, values.setdefault)
    length, width = prompt.shape[1], setup.model.config.d_head
    for name, stored in content["patterns"].items():
        layer, head = int(name[1]), int(name.rpartition("h")[2])
        own = slice(head * width, (head + 1) * width)
        q, k = (values[f"a{layer}.{one}"][0, :, own] for one in "qk")
        seen = torch.ones(length, length, dtype=torch.bool).tril()
        scores = (q @ k.T / width**0.5).masked_fill(~seen, -torch.inf)
        pattern = scores.softmax(-1)
        back = torch.tensor(list(base64.b64decode(stored))).view(length, length) / 255
        torch.testing.assert_close(back, pattern.detach(), atol=0.003, rtol=0)
        place, share = nodes[name]["looks"][0]
        assert share == pytest.approx(float(pattern[words["read"][0]].max()), abs=1e-5)
        assert pattern[words["read"][0], place] == pytest.approx(share, abs=1e-5)


def test_channels_come_with_what_they_carry_in_both_prompts():
    setup, circuit = set_up(ZERO, 0.5)
    content, _ = told(setup, circuit)
    assert isinstance(setup.patchable, GatedModel)
    row, kept = content["example"]["row"], circuit.kept
    apart = []
    for one in content["carried"]:
        site, channel = one["name"].rsplit(".", 1)
        lines = []
        for side in ("clean", "corrupted"):
            prompt = torch.from_numpy(getattr(PAIRS, side)[row])[None]
            masks = setup.space.split(kept)
            values = {}

            def tap(name, value):
                values[name] = value  # noqa: B023
                return value * masks[name] if name in masks else value  # noqa: B023

            tapped_run(setup.model, prompt, tap)
            lines.append(values[site][0, :, int(channel)].detach().double())
            assert one[side] == pytest.approx(lines[-1].tolist(), abs=1e-5)
        apart.append(float((lines[0] - lines[1]).abs().max()))
    assert len(apart) == min(48, circuit.size)
    assert apart == pytest.approx(sorted(apart, reverse=True), abs=1e-5)


def test_the_true_elements_are_named():
    setup, circuit = set_up()
    kept = ~circuit.kept
    truth = GroundTruth(circuit.space, kept, kept.double(), 0.0, 1.0)
    content, _ = told(setup, circuit, truth)
    assert sorted(content["true"]) == sorted(truth.elements())
    assert told(setup, circuit)[0]["true"] is None


def test_what_cannot_be_told_is_said():
    setup, circuit = set_up()
    half = replace(setup, patchable=make_patchable(setup.model.bfloat16(), CHOICES, [PAIRS]))
    content, nodes = told(half, circuit)
    assert "float32 or float64" in content["problems"]["writes"]
    assert all(one["writes"] is None for one in nodes.values())


# ---------------------------------------------------------------- features
class Moved(FirstToken):
    """A source that knows which token is read, and on a board of 2 by 3 where it lies."""

    concept_families = (
        ConceptFamily("here", tuple("abcdef"), tuple(range(6)), board=True),
        ConceptFamily("twice", ("even", "odd"), (0, 0)),  # two of a cell are not shown
    )
    board_size = 3

    def concepts(self, tokens, lengths):
        here = np.arange(6) == tokens[..., None]
        return np.concatenate([here, here[..., :2]], -1)


def feature_setup():
    asked, batches = feature_choices(), Batches(PAIRS, 12, "cpu", 0)
    model = random_model(CONFIG, 0, dtype=torch.float64).requires_grad_(False)
    patchable = make_patchable(model, asked, [PAIRS], dictionaries=dictionaries())
    return Setup(patchable, batches, patchable.counterfactuals(asked, batches, 0), asked)


def test_features_are_told_by_where_they_are_strongest():
    codes, setup = dictionaries(), feature_setup()
    model, space = setup.model, setup.space
    scores = torch.randn(len(space), generator=torch.Generator().manual_seed(0)).double()
    circuit = Circuit(space, torch.ones(len(space), dtype=torch.bool), scores)
    content = nodes_of(setup, a_task(), Moved(), circuit, None)
    told, traced = content["features"], content["trace"]
    assert [family["name"] for family in told["families"]] == ["here"]
    order = scores.abs().argsort(descending=True).tolist()
    names = [space.name(at) for at in order if not space.name(at).endswith("error")]
    followed = [one["feature"] for one in traced["nodes"] if one["feature"]]
    assert [one["name"] for one in told["features"]] == list(dict.fromkeys(names[:16] + followed))
    assert len(traced["nodes"]) == 20
    row = content["example"]["row"]
    (batch,) = setup.batches
    (one,) = (batch.take(torch.tensor([at])) for at in range(12) if int(batch.rows[at]) == row)
    difference = logit_difference(one.at_positions(model(one.clean)), one)
    assert traced["value"] == pytest.approx(difference, abs=1e-4)
    for source, into, weight in traced["edges"]:
        assert weight
        assert into is None or source < into
    tokens = torch.from_numpy(PAIRS.clean)
    assert told["tokens"] == tokens.numel()
    for one in told["features"]:
        site, feature = one["name"].rsplit(".", 1)
        values = activations(model, tokens, [site])[site]
        strength = codes[site].encode(values)[..., int(feature)].flatten()
        assert one["active"] == pytest.approx(float((strength > 0).double().mean()))
        strongest = sorted(range(len(strength)), key=lambda at: (-float(strength[at]), at))
        strongest = [at for at in strongest if strength[at] > 0][:24]
        if not strongest:
            assert (one["strongest"], one["share"]) == ([], None)
            continue
        place = strongest[0]
        row, at = divmod(place, tokens.shape[1])
        assert one["strongest"][0]["words"] == [
            "abcdef"[token] for token in tokens[row, : at + 1].tolist()
        ]
        assert one["strongest"][0]["strength"] == pytest.approx(float(strength[place]), rel=1e-5)
        counts = np.bincount(tokens.flatten()[strongest], minlength=6)
        assert one["share"] == np.rint(100 * counts / len(strongest)).tolist()
    base = np.bincount(tokens.flatten(), minlength=6) / tokens.numel()
    assert told["base"] == np.rint(100 * base).tolist()


def test_features_without_concepts_are_told_in_words():
    setup = feature_setup()
    circuit = Circuit(setup.space, torch.ones(len(setup.space), dtype=torch.bool))
    told = nodes_of(setup, a_task(), DATA, circuit, None)["features"]
    assert (told["families"], told["base"], told["board_size"]) == ([], None, None)
    assert any(one["strongest"] for one in told["features"])

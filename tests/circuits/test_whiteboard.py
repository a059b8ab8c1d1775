"""Channels drawn whole: ties, weights and biases by hand, and the numbers of what they carry."""

from __future__ import annotations

import pytest
import torch
from support.channels import PAIRS, ZERO, by_hand, gated, kept_of, random_kept, thinned
from support.slow_reference import ARCHITECTURES, small_model

from harness.circuits.gates.whiteboard import Tie, draw_circuit, peaks
from harness.datasets.batch import Batches
from harness.models.sites import tapped_run
from harness.reports.screens.whiteboard import whiteboard_text


def test_a_chain_by_hand():
    model, space = by_hand(
        mlp_in0=[(0, 2), (1, 3)],
        mlp_out0=[(0, 0), (3, 0)],
        qkv_map1=[(8 + 2, 0)],
        out_map1=[(2, 2)],
    )
    with torch.no_grad():
        model.blocks[0].mlp_in.weight[0, 2] = -0.5
        model.blocks[0].mlp_in.bias[0] = 0.25
    names = ("m0.in.2", "m0.hidden.0", "m0.out.0", "a1.in.0", "a1.v.2", "a1.out.2", "final.2")
    drawn = {one.name: one for one in draw_circuit(model, space, kept_of(space, *names))}
    assert list(drawn) == list(names)
    assert drawn["m0.in.2"].reads == []
    assert drawn["m0.in.2"].writes == [Tie("m0.hidden.0", -0.5)]
    assert drawn["m0.hidden.0"].reads == [Tie("m0.in.2", -0.5)]
    assert drawn["m0.hidden.0"].biases == [0.25]
    assert drawn["m0.out.0"].writes == [Tie("a1.in.0", None)]
    assert drawn["a1.in.0"].reads == [Tie("m0.out.0", None)]
    assert drawn["a1.v.2"].reads == [Tie("a1.in.0", 1.0)]
    assert drawn["final.2"].reads == [Tie("a1.out.2", None)]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_as_many_weights_are_drawn_as_are_counted(name):
    model = thinned(small_model(name, d_vocab=6), 0.3)
    space = gated(model).space
    kept = random_kept(space, 0.4)
    drawn = draw_circuit(model, space, kept)
    ties = [tie for one in drawn for tie in one.reads]
    assert sum(tie.weight is not None for tie in ties) == space.counts(kept)["weights"]
    assert len(ties) == sum(len(one.writes) for one in drawn)
    assert [one.name for one in drawn] == [space.name(e) for e in kept.nonzero().flatten()]


def test_in_a_parallel_layer_the_mlp_does_not_hear_the_attention_beside_it():
    model = small_model("parallel", d_vocab=6)
    space = gated(model).space
    drawn = draw_circuit(model, space, kept_of(space, "a0.out.1", "m0.in.1", "a1.in.1"))
    assert drawn[0].writes == [Tie("a1.in.1", None)]


def test_peaks_are_the_values_of_largest_magnitude():
    values = torch.tensor([[[1.0, 0.5], [-3.0, 0.25], [2.0, -0.5]]])
    assert peaks(values).tolist() == [[-3.0, 0.5]]


def test_what_channels_carry_is_what_lies_at_their_sites_in_the_run_of_the_circuit():
    model = small_model("gpt2-like", d_vocab=6)
    patchable, batch = gated(model), Batches(PAIRS, 4)[0]
    counterfactual = patchable.counterfactuals(ZERO, [batch], 0).of(batch)
    kept = random_kept(patchable.space, 0.5)
    found = patchable.activations(batch, kept, counterfactual)
    by_site = patchable.space.split(kept.double())
    values = []

    def tap(site, value):
        if site not in by_site:
            return value
        values.append(value)
        return value * by_site[site]  # ablation zero

    tapped_run(model, batch.clean, tap)
    torch.testing.assert_close(found, torch.cat(values, -1))


def test_the_screen_shows_every_channel_with_its_terms():
    carries = {'"': {"end": 0.5, "peak": -1.25}, "'": {"end": 0.0, "peak": 0.75}}
    channels = [
        {
            "name": "m0.hidden.12",
            "reads": [{"channel": "m0.in.2", "weight": -0.5}],
            "writes": [{"channel": "m0.out.0", "weight": 2.0}] * 2,
            "biases": [0.25],
            "carries": carries,
        },
        {
            "name": "final.3",
            "reads": [{"channel": "m0.out.3", "weight": None}],
            "writes": [],
            "biases": [],
            "carries": {},
        },
    ]
    board = {"counts": {"channels": 2, "weights": 1}, "channels": channels}
    lines = whiteboard_text(board, 90).splitlines()
    assert lines[0] == "drawn whole: 2 channels, 1 weights"
    assert lines[4:] == [
        "layer 0 MLP",
        "  m0.hidden.12  = -0.5·m0.in.2 +0.25",
        "                → m0.out.0",
        "                '\"' +0.5, peak -1.25; \"'\" +0, peak +0.75",
        "",
        "final read",
        "  final.3       = m0.out.3",
    ]

"""Weights between kept channels, counted entry by entry; channels that surely change nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.channels import PAIRS, by_hand, gated, kept_of, random_kept, thinned
from support.slow_reference import ARCHITECTURES, small_model
from support.toy_task import CHOICES

from harness.circuits.gates.space import GatedSpace
from harness.datasets.batch import Batches
from harness.models.config import TransformerConfig
from harness.models.transformer import Transformer, random_model
from harness.spec.types import ActivationSparsity

every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)
ABLATIONS = ("mean", "zero", "interchange", "resample")


# ---------------------------------------------------------------- counts
def slow_count(model: Transformer, names: list[str]) -> int:
    """Nonzero entries with both ends among the names: one loop over pairs of names."""
    config, weights = model.config, dict(model.named_parameters())
    each = config.n_heads // config.n_groups
    queries, shared = config.n_heads * config.d_head, config.n_groups * config.d_head
    first = {"q": 0, "k": queries, "v": queries + shared}
    places = [
        (name[0], int(name[1 : name.index(".")]), *name.split(".")[1:])
        for name in names
        if not name.startswith("final")
    ]
    total = 0
    for part, layer, kind, source in places:
        for part_2, layer_2, kind_2, target in places:
            if (part, layer) != (part_2, layer_2):
                continue
            i, j, block = int(source), int(target), f"blocks.{layer}"
            entries = []
            if part == "a" and kind == "in" and kind_2 in "qkv":
                entries = [weights[f"{block}.qkv_map.weight"][first[kind_2] + j, i]]
            if part == "a" and (kind, kind_2) == ("v", "out"):
                group, within = divmod(i, config.d_head)
                for head in range(group * each, (group + 1) * each):
                    column = head * config.d_head + within
                    entries.append(weights[f"{block}.out_map.weight"][j, column])
            if part == "m" and (kind, kind_2) == ("in", "hidden"):
                entries = [weights[f"{block}.mlp_in.weight"][j, i]]
                if config.gated:
                    entries.append(weights[f"{block}.mlp_in.weight"][config.d_mlp + j, i])
            if part == "m" and (kind, kind_2) == ("hidden", "out"):
                entries = [weights[f"{block}.mlp_out.weight"][j, i]]
            total += sum(1 for entry in entries if float(entry) != 0)
    return total


@pytest.mark.parametrize("share", [0.1, 1.0])
@every_architecture
def test_weights_are_counted_as_a_loop_over_entries_counts_them(name, share):
    model = thinned(small_model(name, d_vocab=6), share)
    space = gated(model).space
    again = GatedSpace.from_header(space.header())
    assert again == space
    assert hash(again) == hash(space)
    for seed in range(2):
        kept = random_kept(space, 0.4, seed)
        names = [space.name(element) for element in kept.nonzero().flatten().tolist()]
        wanted = {"channels": len(names), "weights": slow_count(model, names)}
        assert wanted["weights"] > 5
        assert dict(space.counts(kept)) == dict(again.counts(kept)) == wanted
    nothing = torch.zeros(len(space), dtype=torch.bool)
    assert dict(space.counts(nothing)) == {"channels": 0, "weights": 0}


def test_spaces_of_other_weights_are_others():
    one, other = (gated(thinned(small_model("gpt2-like"), 0.3, seed)).space for seed in (0, 1))
    assert one != other
    assert one == gated(thinned(small_model("gpt2-like"), 0.3, 0)).space


def test_a_neuron_that_reads_and_writes_once_is_3_nodes_and_2_weights():
    """Gao et al. 2025, footnote 3."""
    _, space = by_hand(mlp_in0=[(2, 1), (3, 1)], mlp_out0=[(0, 2), (1, 3)])
    kept = kept_of(space, "m0.in.1", "m0.hidden.2", "m0.out.0")
    assert dict(space.counts(kept)) == {"channels": 3, "weights": 2}


def test_the_published_quote_circuit_is_12_nodes_and_9_weights():
    """Their Figure 4: two neurons of layer 0; in layer 1 a head whose query is its bias alone."""
    _, space = by_hand(
        mlp_in0=[(0, 2), (1, 3), (2, 2)],
        mlp_out0=[(0, 0), (1, 0), (0, 1), (1, 1), (3, 2)],
        qkv_map1=[(4 + 1, 0), (8 + 2, 1), (8 + 3, 3)],  # rows: 4 of q, 4 of k, 4 of v
        out_map1=[(2, 2), (1, 3)],
    )
    circuit = (
        *("m0.in.2", "m0.in.3", "m0.hidden.0", "m0.hidden.1", "m0.out.0", "m0.out.1"),
        *("a1.in.0", "a1.in.1", "a1.q.0", "a1.k.1", "a1.v.2", "a1.out.2"),
    )
    assert dict(space.counts(kept_of(space, *circuit))) == {"channels": 12, "weights": 9}


# ---------------------------------------------------------------- dead ends
def check_harmless(model: Transformer, seed: int, share: float = 0.3) -> tuple[int, int]:
    """That dead ends change no logit under any ablation; sizes with and without."""
    patchable, before, after = gated(model), 0, 0
    batches = Batches(PAIRS, 8)
    for place, ablation in enumerate(ABLATIONS):
        choices = replace(CHOICES, granularity="channel", ablation=ablation)
        counterfactual = patchable.counterfactuals(choices, batches, 0).of(batches[0])
        kept = random_kept(patchable.space, share, 10 * seed + place)
        kept[-model.config.d_model :] = True  # the final read
        pruned = patchable.space.prune(kept, ablation)
        assert not (pruned & ~kept).any()
        assert torch.equal(patchable.space.prune(pruned, ablation), pruned)
        one, other = patchable.logits(batches[0], torch.stack([kept, pruned]), counterfactual)
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
        before, after = before + int(kept.sum()), after + int(pruned.sum())
    return before, after


@pytest.mark.parametrize("seed", range(2))
@every_architecture
def test_dropping_dead_ends_changes_no_logit(name, seed):
    before, after = check_harmless(thinned(small_model(name, d_vocab=6), 0.15, seed), seed)
    assert after < before


@pytest.mark.parametrize("site", ["a.in", "a.q", "a.k", "a.v", "a.out", "m.hidden", "m.out", "all"])
def test_nor_where_channels_compete_for_places(site):
    at = site if site == "all" else (site,)
    config = TransformerConfig(
        n_layers=2,
        n_heads=2,
        d_model=8,
        d_head=3,
        d_mlp=10,
        d_vocab=6,
        n_ctx=4,
        norm="rmsnorm",
        activation_sparsity=ActivationSparsity(keep=0.4, at=at),
        bigram_table=True,
        attention_sink=True,
    )
    for seed in range(3):
        model = thinned(random_model(config, seed, dtype=torch.float64), 0.2, seed)
        before, after = check_harmless(model, seed, 0.5)
        assert after < before


def test_dead_ends_by_hand():
    """A chain through layer 0's MLP that layer 1's head reads, and what hangs off it."""
    model, space = by_hand(
        mlp_in0=[(0, 2), (1, 3), (2, 1)],
        mlp_out0=[(0, 0), (1, 0), (3, 2)],
        qkv_map1=[(4 + 1, 0), (8 + 2, 1)],
        out_map1=[(2, 2)],
        mlp_in1=[(0, 0)],
    )
    alive = [
        *("m0.in.2", "m0.hidden.0", "m0.out.0", "m0.out.1"),
        *("a1.in.0", "a1.k.1", "a1.q.0", "a1.in.1", "a1.v.2", "a1.out.2", "final.0"),
    ]
    dead = [
        "m0.in.3",  # its only neuron is dropped
        "m0.hidden.2",  # writes to a channel that is dropped
        "a0.q.1",  # its head writes nothing
        "a1.v.3",  # no weight out
        "m1.in.0",
        "m1.hidden.0",  # no weight out
    ]
    kept = kept_of(space, *alive, *dead)
    assert torch.equal(space.prune(kept, "mean"), kept_of(space, *alive))
    # Nothing reaches these, so that in a run they are the counterfactual's; a constant is not.
    deaf = ["a1.q.0"]
    reached = [name for name in alive if name not in deaf]
    assert torch.equal(space.prune(kept, "interchange"), kept_of(space, *reached))
    # Without the final read nothing is heard.
    assert not space.prune(kept & ~kept_of(space, "final.0"), "mean").any()
    assert model.config.n_layers == 2

"""Costs are ratios measured in one process; floors are counted, memory is seen."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
from slow_reference import small_model

from harness.circuits.graph import Graph
from harness.circuits.live import LiveNodes
from harness.errors import NotFound
from harness.models.config import GPT2_SMALL
from harness.runs import bench, cost
from harness.runs.bench_subject import Bench


def allocate_and_touch_64_mib():
    block = torch.ones(64 * 2**18)
    for _ in range(20):
        block.add_(1)


def test_peak_memory_sees_what_is_allocated_and_freed():
    with cost.measured() as found:
        allocate_and_touch_64_mib()
    assert 50 <= found.peak_mib <= 200
    assert found.seconds > 0


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc's allocator can be told")
def test_peak_memory_does_not_overlook_what_the_allocator_had_kept():
    # The first block raises the size up to which freed memory stays with the allocator; the
    # small ones lie above the others, so that these cannot be handed back as its top.
    first = torch.ones(31 * 2**18)
    del first
    blocks = [torch.ones(31 * 2**18) for _ in range(4)]
    above = [bytearray(100_000) for _ in range(4)]
    del blocks
    with cost.measured() as found:
        allocate_and_touch_64_mib()
    assert found.peak_mib >= 50
    assert len(above) == 4


def test_a_plain_pass_leaves_the_model_frozen(random_batch):
    model = small_model("gpt2-like")
    cost.plain_forward_backward(model, random_batch().clean)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_seconds_are_scaled_from_the_largest_batch_by_tokens(random_batch, monkeypatch):
    model = small_model("gpt2-like")
    seen = []
    monkeypatch.setattr(cost, "seconds_of", lambda run, device: seen.append(run) or 2.0)
    large, small = random_batch(n=6, length=6), random_batch(n=3, length=4)
    assert cost.plain_seconds(model, [small, large]) == pytest.approx(2 * (36 + 12) / 36)
    assert len(seen) == 1


def test_floors_of_gpt2_small_by_hand():
    blocks, unembed = 12 * (4 * 768**2 + 2 * 768 * 3072), 768 * 50257
    mixing = 32_491 * 768
    assert Graph.of(GPT2_SMALL).n_edges * 768 == mixing
    plain = 3 * (blocks + unembed)
    graph = Graph.of(GPT2_SMALL)
    one_head = LiveNodes(graph, ((3,), *((),) * 11), (False,) * 12)
    found = bench.floors(GPT2_SMALL, 18, one_head)
    assert found["eap"] == pytest.approx((3 * blocks + 2 * unembed / 18 + mixing) / plain)
    assert found["evaluation"] == pytest.approx((blocks + unembed / 18 + mixing) / plain)
    assert 0.7 < found["eap"] < 0.9
    head, edges = 4 * 768 * 64, 3 + 2  # the input to q, k, v; both writers to the logits
    small = head + unembed / 18 + edges * 768
    assert found["evaluation @0.5%"] == pytest.approx(small / plain)


def test_the_bench_has_every_row_with_its_floor(monkeypatch):
    monkeypatch.setattr(bench, "in_fresh_process", lambda *_: 1.0)
    settings = Bench(model="small-random", batch=2, length=6, threads=1, repeats=1)
    found = bench.run_bench(settings)
    assert list(found) == ["model", "batch", "threads", "plain_fb_seconds", "rows"]
    names = [
        "eap",
        "eap_ig(5)",
        "edge_pruning step",
        "edge_pruning step+kept",
        "edge_pruning step+kept @0.5%",
        "acdc per edge",
        "evaluation",
        "evaluation @0.5%",
        "evaluation+counterfactual",
    ]
    assert [row["method"] for row in found["rows"]] == names
    for row in found["rows"]:
        assert set(row) == {"method", "cost_fb", "floor_fb", "seconds", "peak_mib"}
        assert row["cost_fb"] == pytest.approx(row["seconds"] / found["plain_fb_seconds"])
    assert [row["method"] for row in bench.run_bench(settings, ("eap",))["rows"]] == ["eap"]


def test_unknown_models_and_rows_are_named():
    with pytest.raises(NotFound, match="no model 'gpt5' to bench; known: gpt2-small-random"):
        bench.run_bench(Bench(model="gpt5"))
    settings = Bench(model="small-random", threads=1)
    with pytest.raises(NotFound, match="nothing to bench called 'acdc'"):
        bench.run_bench(replace(settings, repeats=1), ("acdc",))

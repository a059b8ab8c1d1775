"""Tracing on a device that is not the CPU: no operation mixes tensors of both."""

from __future__ import annotations

import pytest
import torch
from support.elsewhere import Elsewhere, MixedDevices, devices_apart, moved
from support.traces import LENGTH, dictionaries, model_of, tokens

from harness.tracing.keep import KeepRule
from harness.tracing.query_key import score_pairs
from harness.tracing.run import frozen_run
from harness.tracing.scores import graph_scores
from harness.tracing.target import find_unit, part_target, score_target, single_logit
from harness.tracing.trace import trace
from harness.tracing.validity import validity


def test_the_pretended_device_refuses_what_a_gpu_does() -> None:
    there, here = Elsewhere(torch.arange(4.0)), torch.arange(4)
    with devices_apart():
        assert (there * 2).tolist() == [0, 2, 4, 6]
        assert float(there.sum()) == 6
        assert torch.tensor([1, 2], device=there.device).tolist() == [1, 2]
        assert (there[torch.tensor([1], device=there.device)] + 1).cpu().tolist() == [2]
        for mixing in (lambda: there + here, lambda: there[here]):
            with pytest.raises(MixedDevices):
                mixing()


@pytest.mark.parametrize(
    "name",
    [
        "gpt2-like",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("gemma-like", "sinks-bigrams")),
    ],
)
def test_a_trace_stays_on_its_device(name: str) -> None:
    model = model_of(name)
    codes = dictionaries(model, "a.out", "m.out")
    expected = trace(
        run := frozen_run(model, tokens(), codes), single_logit(run, "logit", 3, LENGTH - 1)
    )
    moved(model)
    for one in codes.values():
        moved(one)
    with devices_apart():
        run = frozen_run(model, Elsewhere(tokens()), codes)
        other = frozen_run(model, Elsewhere(tokens(5)), codes)
        target = single_logit(run, "logit", 3, LENGTH - 1)
        graph = trace(run, target)
        trace(run, target, keep=KeepRule("null", 0.1), others=[other])
        writer = run.writer_of("m1")
        unit = int(run.writers[writer].main.units[5, 0])
        trace(run, part_target(run, find_unit(run, "m1", unit, 5)))
        trace(run, score_target(run, 1, 0, 5, 4))
        score_pairs(run, 1, 0, 5, 4)
        graph_scores(graph)
        rows = validity([graph], 3)
    assert [(node.name, node.kind) for node in graph.nodes] == [
        (node.name, node.kind) for node in expected.nodes
    ]
    assert graph.budget == pytest.approx(expected.budget)
    assert {row.kind for row in rows} >= {"logit", "mlp", "ov", "query", "key", "total"}

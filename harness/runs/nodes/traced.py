"""The example's answer traced back through a dictionary's features, without patching.

A few parts of largest influence on the logit difference and what they contribute to each other, in
the frozen run of the whole model (`harness.tracing`); `harness trace` follows more of them.
"""

from __future__ import annotations

from typing import Any

from harness.circuits.circuit import Circuit
from harness.circuits.gates.features import Features
from harness.circuits.gates.model import GatedModel
from harness.datasets.batch import Batch
from harness.evaluation.setup import Setup
from harness.runs.nodes.written import answers_target
from harness.tracing.keep import KeepRule
from harness.tracing.run import FrozenRun, frozen_run
from harness.tracing.trace import TraceNode, trace

NODES = 20
"""Parts of a trace: those of largest influence."""

KEEP = KeepRule("rel", 0.02)


def traced(setup: Setup, circuit: Circuit, example: Batch) -> dict[str, Any] | None:
    """Nodes and edges of the trace of a prompt; None for circuits of other elements.

    Edges are [source, into, weight], `into` None being the target. Raises `HarnessError` for models
    and dictionaries that are not traced exactly.
    """
    patchable = setup.patchable
    if circuit.space.granularity != "feature" or not isinstance(patchable, GatedModel):
        return None
    codes = {
        site: code.dictionary
        for site, code in patchable.codes.items()
        if isinstance(code, Features)
    }
    run = frozen_run(setup.model, example.clean[0], codes, mlps="modules")
    graph = trace(run, answers_target(run, example), keep=KEEP, nodes=NODES)
    kept = set(circuit.elements())
    return {
        "value": graph.sums.value,
        "kept": graph.sums.kept,
        "nodes": [_node(run, node, kept) for node in graph.nodes],
        "edges": [[one.source, one.into, one.weight] for one in graph.edges],
    }


def _node(run: FrozenRun, node: TraceNode, kept: set[str]) -> dict[str, Any]:
    """A part; `feature`: its name among the circuit's elements, if it is one."""
    writer = run.writers[node.place.writer]
    feature = None
    if node.kind == "feature":
        hidden = "bias" in writer.tail_kinds[2:]  # a code of an MLP's hidden layer
        feature = f"{writer.name}.{'hidden' if hidden else 'out'}.{node.unit}"
    return {
        "name": node.name,
        "writer": writer.name,
        "token": node.place.token,
        "feature": feature,
        "in_circuit": feature in kept,
        "influence": node.influence,
    }

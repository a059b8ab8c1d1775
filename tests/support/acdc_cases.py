"""The slow one-by-one search that ACDC is compared with, and the check that both agree."""

from __future__ import annotations

import pytest
import torch

from harness.datasets.batch import Batch
from harness.discovery.acdc.acdc import Acdc

SEVERAL = [1, 8, 32]


def rows_of(batch: Batch, rows: slice) -> Batch:
    return batch.take(torch.arange(len(batch))[rows])


def full_objective(problem, objective="kl"):
    """Mean loss of a circuit [W, R] by the ordinary patched pass."""
    prepared = [
        (batch, problem.counterfactuals.of(batch), problem.loss(objective, batch))
        for batch in problem.batches
    ]

    def measure(kept):
        total = 0.0
        for batch, counterfactual, loss in prepared:
            logits = problem.edges.patched.logits(batch, kept[None], counterfactual)
            total += float(loss(logits).sum())
        return total / problem.n_pairs

    return measure


def order_by_names(graph):
    """Every reader in ACDC's order with its writers in ACDC's order, from their names alone."""
    each, shared = graph.n_heads // graph.groups, graph.n_groups is not None
    letter = "g" if shared else "h"
    readers = ["logits"]
    for layer in reversed(range(graph.n_layers)):
        readers += [f"m{layer}"] * (f"m{layer}" in graph.readers)
        for head in reversed(range(graph.n_heads)):
            readers.append(f"a{layer}.h{head}<q>")
            if head % each == 0:
                readers += [f"a{layer}.{letter}{head // each}<{part}>" for part in "kv"]
    writers = []
    for layer in reversed(range(graph.n_layers)):
        writers += [f"m{layer}"] * (f"m{layer}" in graph.writers)
        writers += [f"a{layer}.h{head}" for head in range(graph.n_heads)]
    writers += [name for name in ("input", "tok", "pos") if name in graph.writers]
    for reader in readers:
        column = graph.readers.index(reader)
        rows = [graph.writers.index(name) for name in writers]
        yield column, [row for row in rows if graph.allowed[row, column]]


def one_by_one(graph, threshold, objective):
    """ACDC as published: one full run of the model per tested edge."""
    kept, growth = graph.allowed.clone(), {}
    current = objective(kept)
    for column, rows in order_by_names(graph):
        nodes = graph.owners[column].nonzero().flatten().tolist()
        if not any(node == graph.n_writers or bool(kept[node].any()) for node in nodes):
            kept[:, column] = False
            continue
        for row in rows:
            kept[row, column] = False
            new = objective(kept)
            growth[row, column] = new - current
            if new - current < threshold:
                current = new
            else:
                kept[row, column] = True
    return kept, growth, current


def agrees(problem, threshold, speculate, objective="kl"):
    """Circuit, growth of every tested edge and final objective are those of the slow search."""
    kept, growth, current = one_by_one(
        problem.edges.graph, threshold, full_objective(problem, objective)
    )
    for most in speculate:
        found = Acdc(objective=objective, speculate=most).search(problem, threshold)
        assert torch.equal(found.kept, kept)
        assert found.objective == pytest.approx(current, abs=1e-12)
        tested = (~found.growth.isnan()).nonzero().tolist()
        assert {tuple(edge) for edge in tested} == set(growth)
        for (row, column), value in growth.items():
            assert float(found.growth[row, column]) == pytest.approx(value, abs=1e-12)
        assert found.tally.tested == len(growth)
        assert found.tally.tested + found.tally.untested == problem.edges.graph.n_edges
    return kept

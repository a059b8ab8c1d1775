"""Rounds of exclusion: of a model that does its task by two copies of one circuit."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support.channels import ZERO
from torch import Tensor

from harness.circuits.circuit import Circuit
from harness.circuits.patchable import make_patchable
from harness.datasets.batch import Batches
from harness.datasets.pairs import PromptPairs
from harness.errors import HarnessError
from harness.evaluation.setup import Setup
from harness.models.config import TransformerConfig
from harness.models.transformer import Transformer, random_model
from harness.reports.screens.validation import exclusion_rows
from harness.runs.services.exclusion import _core, exclusion
from harness.runs.services.lookup import NamedCircuit
from harness.spec.identity import identity_fields
from harness.spec.types import CircuitTarget, Selection

COPIES, TARGET = 2, 0.3


def sides() -> PromptPairs:
    """The first token, 0 or 1, says which of 2 and 3 comes after two tokens 4."""
    first = np.array([0, 1, 1, 0, 1, 0])
    clean = np.stack([first, np.full(6, 4), np.full(6, 4)], 1)
    corrupted = clean.copy()
    corrupted[:, 0] = 1 - first
    good, bad = (one[:, None, None] for one in (2 + first, 3 - first))
    return PromptPairs(clean, corrupted, np.full(6, 3), np.full((6, 1), 2), good, bad)


PAIRS = sides()


def twofold() -> Transformer:
    """The last token attends to all; copy c reads the first token's side from channel c.

    Each copy is a value channel and a write: `a0.in.c`, `a0.v.c`, `a0.out.{2 + c}` and
    `final.{2 + c}`; one alone is enough.
    """
    config = TransformerConfig(
        n_layers=1, n_heads=1, d_model=4, d_head=4, d_mlp=0, d_vocab=5, n_ctx=3,
        norm="none", positions="none",
    )  # fmt: skip
    model = random_model(config, 0, dtype=torch.float64)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        block = next(iter(model.layers()))
        for copy in range(COPIES):
            model.embedding[:2, copy] = torch.tensor([1.0, -1.0]).double()
            block.qkv_map.weight[2 * 4 + copy, copy] = 1
            block.out_map.weight[2 + copy, copy] = 1
            model.unembedding[2:4, 2 + copy] = torch.tensor([40.0, -40.0]).double()
    return model


@pytest.fixture
def prepared() -> Any:
    patchable = make_patchable(twofold(), ZERO, [PAIRS])
    batches = Batches(PAIRS, 6)
    targets = (CircuitTarget(task_loss=TARGET),)
    choices = replace(ZERO, targets=targets, sizes=(), searched_on="discovery")
    counterfactuals = patchable.counterfactuals(choices, list(batches), 0)
    setup = Setup(patchable, batches, counterfactuals, choices)
    return SimpleNamespace(discovery=setup, test=setup)


def named(prepared: Any, kept: Tensor, **method: Any) -> NamedCircuit:
    own = {"kind": "eap", "params": {}, "selection": identity_fields(Selection(**method))}
    entry: Any = SimpleNamespace(identity={"method": own})
    return NamedCircuit(Circuit(prepared.test.space, kept), "a cell", entry)


def copy_of(prepared: Any, number: int) -> Tensor:
    kept = torch.zeros(len(prepared.test.space), dtype=torch.bool)
    for name in (
        f"a0.in.{number}",
        f"a0.v.{number}",
        f"a0.out.{2 + number}",
        f"final.{2 + number}",
    ):
        kept[prepared.test.space.index(name)] = True
    return kept


def test_both_copies_are_found_and_then_no_more(prepared):
    first = copy_of(prepared, 0)
    report = exclusion(named(prepared, first, clean_up=True), prepared, 0, lambda text: None)
    assert report["stopped"] == "exhausted"
    assert report["circuits"] == COPIES
    assert [one["size"] for one in report["rounds"] if one["reached"]] == [4, 4]
    assert [one["reached"] for one in report["rounds"]] == [True, True, False]
    assert report["excluded"] == 8
    assert report["without_excluded"] == pytest.approx(0.693, abs=0.01)
    assert report["critical"] == 0  # the other copy is always there
    core = report["core"]
    # One element of each copy is enough to break both.
    assert core["size"] == COPIES
    assert core["without"] == pytest.approx(0.693, abs=0.01)
    rows = exclusion_rows({"exclusion": report})
    assert rows[0][:2] == ("circuits without a common part", "2")
    assert "4, 4; the next search got down to" in rows[0][2]
    assert rows[2][1] == "2 elements"


def test_a_budget_that_ends_first_is_said(prepared):
    first = copy_of(prepared, 0)
    report = exclusion(named(prepared, first, clean_up=True), prepared, 0, lambda text: None, 1)
    assert report["stopped"] == "rounds"
    assert [one["size"] for one in report["rounds"]] == [4, 4]
    assert "there may be more" in exclusion_rows({"exclusion": report})[0][2]


def test_a_model_that_needs_none_of_it_has_no_core(prepared):
    one = copy_of(prepared, 0)  # the other copy is there
    said = _core(prepared, CircuitTarget(task_loss=TARGET), [one])
    assert said["core"] is None
    assert said["without_excluded"] < TARGET


def test_what_has_no_search_is_refused(prepared):
    circuit = Circuit(prepared.test.space, copy_of(prepared, 0))
    with pytest.raises(HarnessError, match="is a file, which does not say how"):
        exclusion(NamedCircuit(circuit, "c.json"), prepared, 0, lambda text: None)
    sized = replace(prepared.test, choices=replace(prepared.test.choices, targets=None))
    both = SimpleNamespace(discovery=sized, test=sized)
    with pytest.raises(HarnessError, match="is not the smallest for a loss"):
        exclusion(named(prepared, circuit.kept), both, 0, lambda text: None)

"""The identities of tracing on every model whose weights are shipped, with its own dictionaries."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from support.checkout import ROOT
from support.identities import (
    an_identity_dictionary_has_no_errors,
    an_order_of_features_is_only_an_order,
    removals_change_logits_by_influence,
    scores_explain_the_pattern,
    sums_are_the_number,
    what_comes_later_contributes_nothing,
)
from support.traces import dictionaries
from torch import Tensor

from harness.datasets.open import open_data
from harness.dictionaries.dictionary import Dictionary
from harness.dictionaries.files.store import FILE, load_dictionaries
from harness.models.checkpoint import load_model
from harness.models.loading.folder import WEIGHTS
from harness.models.transformer import Transformer
from harness.spec.load import Library
from harness.tracing.run import frozen_run

SPECS = ROOT / "specs"
MODELS = sorted(file.parent.name for file in (SPECS / "models").glob(f"*/{WEIGHTS}"))
FEW = ("brackets-sparse-2l-64", "othello6-2l-128")
"""Those that fast tests take apart; continuous integration takes apart all."""

every_model = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in MODELS],
)
LENGTH = 10


class Shipped(NamedTuple):
    model: Transformer
    tokens: Tensor
    codes: dict[str, Dictionary]


@cache
def shipped(name: str) -> Shipped:
    """A model, a prompt of the task it was trained on, and dictionaries: its own, else random."""
    loaded = Library().model(str(SPECS / "models" / f"{name}.yaml"))
    model = load_model(SPECS / "models" / name).double().requires_grad_(False)
    tokens = torch.randint(model.config.d_vocab, (LENGTH,), generator=_draw())
    if loaded.trained_on is not None:
        row = open_data(loaded.trained_on).pairs("test", 1, 0)
        prompt = torch.from_numpy(row.clean[0, : row.lengths[0]].astype(np.int64))
        tokens = prompt[:LENGTH]
    codes = dictionaries(model, "a.out", "m.out")
    for folder in own_dictionaries(name):
        read = load_dictionaries(folder)
        codes = {site: one.double().requires_grad_(False) for site, one in read.items()}
        if all(site.endswith(".out") for site in codes):
            break
    return Shipped(model, tokens, codes)


def own_dictionaries(name: str) -> list[Path]:
    """Folders of shipped dictionaries whose spec is of this model."""
    folders = []
    for file in sorted((SPECS / "dictionaries").glob(f"*/{FILE}")):
        loaded = Library().dictionary(str(SPECS / "dictionaries" / f"{file.parent.name}.yaml"))
        assert loaded.task is not None
        model = loaded.task.spec.model if loaded.model is None else loaded.model.spec
        if Path(str(getattr(model, "weights", ""))).name == name:
            folders.append(file.parent)
    return folders


def _draw() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_there_are_shipped_models() -> None:
    assert "brackets-sparse-2l-64" in MODELS


@every_model
def test_sums_are_the_numbers_of_the_model(name: str) -> None:
    model, tokens, codes = shipped(name)
    for mlps in ("neurons", "modules"):
        sums_are_the_number(frozen_run(model, tokens, {}, mlps), 1e-10)
    run = frozen_run(model, tokens, codes)
    sums_are_the_number(run, 1e-10)
    what_comes_later_contributes_nothing(run)
    scores_explain_the_pattern(run)


@every_model
def test_sums_hold_in_single_precision(name: str) -> None:
    model, tokens, codes = shipped(name)
    single = load_model(SPECS / "models" / name).requires_grad_(False)
    assert model.embedding.dtype == torch.float64
    in_single = {site: copied(one) for site, one in codes.items()}
    sums_are_the_number(frozen_run(single, tokens, in_single), 1e-4)


def copied(one: Dictionary) -> Dictionary:
    other = Dictionary(one.width, one.features, one.activation, k=one.k, pre_bias=one.pre_bias)
    other.load_state_dict(one.state_dict())
    return other.requires_grad_(False)


@every_model
def test_removals_are_influences(name: str) -> None:
    model, tokens, codes = shipped(name)
    removals_change_logits_by_influence(frozen_run(model, tokens, codes), codes, every=3)


@every_model
def test_orders_and_identities_of_dictionaries(name: str) -> None:
    model, tokens, codes = shipped(name)
    an_order_of_features_is_only_an_order(model, tokens, codes)
    an_identity_dictionary_has_no_errors(model, tokens)

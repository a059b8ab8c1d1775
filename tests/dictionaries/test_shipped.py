"""The shipped Othello models play legally, and their dictionaries stand in for their modules."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from harness.datasets.open import open_data
from harness.models.training.sequences import held_out_sequences, sequence_quality
from harness.runs.compute.obtain import obtain_model
from harness.runs.plan.dictionaries import PlannedDictionaries, plan_dictionaries
from harness.runs.plan.shipped import shipped_weights
from harness.runs.services.dictionary import measured_dictionaries
from harness.runs.services.shipping.dictionaries import _card
from harness.runs.store.record import model_store
from harness.spec.load import Library
from harness.spec.types import Runtime, TrainDictionary, TrainModel


class Limits(NamedTuple):
    """What shipped dictionaries and their model keep to."""

    largest: int  # bytes of a file
    model_kl: float  # of the model from uniform legal moves
    lost: float  # share of first choices over whole games that are legal no more
    alive: int  # least features of a site


LIMITS = {
    "othello6-k32": Limits(3_000_000, 0.16, 0.008, 200),  # lost .0067 ± .0008
    "othello8-k32": Limits(13_000_000, 0.21, 0.0055, 70),  # .0049 ± .0006, of 4,000 .0046 ± .0003
}


@pytest.fixture(params=list(LIMITS))
def planned(request: pytest.FixtureRequest) -> PlannedDictionaries:
    return plan_dictionaries(Library().dictionary(request.param), Runtime())


@pytest.fixture
def limits(planned: PlannedDictionaries) -> Limits:
    return LIMITS[planned.loaded.path.stem]


def test_the_model_plays_legal_moves(
    planned: PlannedDictionaries, limits: Limits, tmp_path: Path
) -> None:
    data = open_data(planned.cell.task)
    games = held_out_sequences(data, "test", 200, 0)
    assert games is not None
    model = obtain_model(planned.cell, data, model_store(tmp_path), str)
    means = sequence_quality(model, games).means()
    assert means["allowed_top1"]["value"] > 0.985 - 2 * means["allowed_top1"]["se"]
    assert means["allowed_kl"]["value"] < limits.model_kl


def test_nothing_shipped_is_large(planned: PlannedDictionaries, limits: Limits) -> None:
    spec, model = planned.loaded.spec, planned.cell.model
    assert isinstance(spec, TrainDictionary)
    assert isinstance(model, TrainModel)
    for folder in (
        shipped_weights(spec, planned.loaded.folder),
        shipped_weights(model, planned.cell.model_folder),
    ):
        folder.check()
        assert all(path.stat().st_size < limits.largest for path in folder.folder.iterdir())


def test_a_card_says_what_whole_games_lose(tmp_path: Path) -> None:
    small = plan_dictionaries(Library().dictionary("othello6-k32"), Runtime())
    report = measured_dictionaries(small, 2, model_store(tmp_path), str, train=False, sequences=20)
    change = report["sequences"]["change"]["allowed_top1"]
    line = f"| {change['value']:+.4f} ± {change['se']:.4f} |"
    assert "Over 20 whole held-out sequences, all at once" in _card(small, report)
    assert any(
        one.startswith("| allowed_top1 |") and one.endswith(line)
        for one in _card(small, report).splitlines()
    )
    assert "whole held-out" not in _card(small, report | {"sequences": None})


@pytest.mark.slow  # 15 s and a minute: all sites of 1,000 games, and each of 512 prompts
def test_all_dictionaries_at_once_cost_little(
    planned: PlannedDictionaries, limits: Limits, tmp_path: Path
) -> None:
    store = model_store(tmp_path)
    report = measured_dictionaries(planned, 512, store, str, train=False, sequences=1000)
    games = report["sequences"]
    assert games["l0"] < 32
    assert games["spliced"]["kl"]["value"] < 0.05
    assert -games["change"]["allowed_top1"]["value"] < limits.lost
    assert report["spliced"]["kl"] < 0.05
    assert min(one["alive"] for one in report["sites"]) > limits.alive

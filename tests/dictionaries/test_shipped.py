"""The shipped Othello models play legally, and their dictionaries stand in for their modules."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.datasets.open import open_data
from harness.models.training.sequences import held_out_sequences, sequence_quality
from harness.runs.compute.obtain import obtain_model
from harness.runs.plan.dictionaries import PlannedDictionaries, plan_dictionaries
from harness.runs.plan.shipped import shipped_weights
from harness.runs.services.dictionary import measured_dictionaries
from harness.runs.store.record import model_store
from harness.spec.load import Library
from harness.spec.types import Runtime, TrainDictionary, TrainModel

LARGEST = {"othello6-k32": 3_000_000, "othello8-k32": 13_000_000}  # bytes of a shipped file
LEAST_ALIVE = {"othello6-k32": 200, "othello8-k32": 120}
MOST_KL = {"othello6-k32": 0.16, "othello8-k32": 0.21}  # of the models from uniform legal moves


@pytest.fixture(params=list(LARGEST))
def planned(request: pytest.FixtureRequest) -> PlannedDictionaries:
    return plan_dictionaries(Library().dictionary(request.param), Runtime())


def test_the_model_plays_legal_moves(planned: PlannedDictionaries, tmp_path: Path) -> None:
    data = open_data(planned.cell.task)
    games = held_out_sequences(data, "test", 200, 0)
    assert games is not None
    model = obtain_model(planned.cell, data, model_store(tmp_path), str)
    means = sequence_quality(model, games).means()
    assert means["allowed_top1"]["value"] > 0.985 - 2 * means["allowed_top1"]["se"]
    assert means["allowed_kl"]["value"] < MOST_KL[planned.loaded.path.stem]


def test_nothing_shipped_is_large(planned: PlannedDictionaries) -> None:
    spec, model = planned.loaded.spec, planned.cell.model
    assert isinstance(spec, TrainDictionary)
    assert isinstance(model, TrainModel)
    for folder in (
        shipped_weights(spec, planned.loaded.folder),
        shipped_weights(model, planned.cell.model_folder),
    ):
        folder.check()
        assert all(
            path.stat().st_size < LARGEST[planned.loaded.path.stem]
            for path in folder.folder.iterdir()
        )


@pytest.mark.slow  # 15 s and a minute: a run for each site over 512 prompts
def test_all_dictionaries_at_once_cost_little(planned: PlannedDictionaries, tmp_path: Path) -> None:
    report = measured_dictionaries(planned, 512, model_store(tmp_path), str, train=False)
    lost = report["model_behaviour"]["accuracy"] - report["spliced"]["accuracy"]
    assert report["l0"] < 32.5
    assert report["spliced"]["kl"] < 0.05
    assert lost < 0.025  # .0095 and .0125 ± .003 over 2,000 prompts
    assert min(one["alive"] for one in report["sites"]) > LEAST_ALIVE[planned.loaded.path.stem]

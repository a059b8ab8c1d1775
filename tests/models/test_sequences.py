"""How well a model predicts whole games, against a loop over games and moves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.datasets.generators.othello.source import Othello, OthelloParams
from harness.datasets.pairs import NO_TARGET, TrainingBatch
from harness.datasets.splits import Shares
from harness.datasets.stream import StreamData
from harness.models.config import TransformerConfig
from harness.models.training.sequences import LAST, MEASURES, sequence_quality
from harness.models.transformer import Transformer, random_model


def othello(passes: str = "reject") -> StreamData:
    return StreamData(Othello(OthelloParams(passes=passes), False), Shares({}, 0))


def batch_of(data: StreamData, n: int, seed: int = 0) -> TrainingBatch:
    batch = data.sequences("test", n, seed)
    assert batch is not None
    return batch


def model_of(data: StreamData) -> Transformer:
    config = TransformerConfig(1, 2, 16, 8, 64, data.tokenizer.size, data.longest)
    return random_model(config, 0)


@pytest.mark.parametrize("passes", ["reject", "keep"])
def test_means_and_curve(passes: str) -> None:
    data = othello(passes)
    batch, model = batch_of(data, 300), model_of(data)
    quality = sequence_quality(model, batch)
    assert batch.allowed is not None
    live = batch.targets != NO_TARGET
    with torch.no_grad():
        logits = model(torch.from_numpy(batch.tokens)).double()
    top = logits.argmax(-1).numpy()
    legal = np.take_along_axis(batch.allowed, top[..., None], 2)[..., 0]
    means = quality.means()
    assert set(means) == set(MEASURES)
    assert means["allowed_top1"]["value"] == pytest.approx(legal[live].mean())
    log_p = logits.log_softmax(-1).numpy()
    losses = -np.take_along_axis(log_p, batch.targets.clip(0)[..., None], 2)[..., 0]
    floor = np.log(batch.allowed.sum(-1).clip(1))
    assert means["excess_loss"]["value"] == pytest.approx((losses - floor)[live].mean())
    assert abs(means["excess_loss"]["value"] - means["allowed_kl"]["value"]) < 0.1
    curve = quality.curve()
    assert [point["position"] for point in curve] == list(range(31))
    assert [point["n"] for point in curve] == live.sum(0).tolist()
    assert curve[7]["allowed_top1"] == pytest.approx(legal[:, 7][live[:, 7]].mean())
    last = quality.means(quality.parts()["last"])
    here = live[:, -LAST:]
    assert last["allowed_top1"]["value"] == pytest.approx(legal[:, -LAST:][here].mean())


def test_the_error_is_that_of_resampled_games() -> None:
    data = othello("keep")
    batch, model = batch_of(data, 400), model_of(data)
    quality = sequence_quality(model, batch)
    values, rng = quality.values["allowed_mass"], np.random.default_rng(0)
    draws = [np.nanmean(values[rng.integers(400, size=400)]) for _ in range(300)]
    assert quality.means()["allowed_mass"]["se"] == pytest.approx(np.std(draws), rel=0.2)


def test_held_out_games_are_reproducible_and_not_trained_on() -> None:
    data = othello()
    one, same, other = batch_of(data, 50), batch_of(data, 50), batch_of(data, 50, seed=1)
    np.testing.assert_array_equal(one.tokens, same.tokens)
    assert (one.tokens != other.tokens).any()
    opening = data.source.params.min_ply  # type: ignore[attr-defined]
    trained = data.training_batch("answer", 2000, 0, 0).tokens[:, :opening]
    assert not {tuple(row) for row in one.tokens[:, :opening]} & {tuple(row) for row in trained}


def test_a_task_with_one_answer_has_no_such_sequences() -> None:
    from harness.datasets.open import open_data
    from harness.spec.load import Library

    data = open_data(Library().task("bracket_matching"))
    assert isinstance(data, StreamData)
    assert data.sequences("test", 10, 0) is None

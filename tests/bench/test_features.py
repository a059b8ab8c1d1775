"""A study's cost is told from the tokens it sees, which are more than were asked for."""

from collections.abc import Callable
from typing import Any

import pytest

from harness.bench import features
from harness.datasets.open import open_data
from harness.datasets.pairs import TaskData
from harness.dictionaries.dictionary import DictionarySet
from harness.interpretation.study import StudyBudget
from harness.interpretation.tokens import training_chunks
from harness.models.config import TransformerConfig
from harness.models.transformer import random_model
from harness.spec.load import Library

TINY = TransformerConfig(n_layers=1, n_heads=1, d_model=4, d_head=4, d_mlp=4, d_vocab=61, n_ctx=60)


def _seconds(data: TaskData, budget: StudyBudget) -> float:
    """A study that takes 1 ms for each token it sees, and 2 ms more for each that labels see."""
    seen, labels = (
        sum(len(chunk) for chunk in training_chunks(data, wanted))
        for wanted in (budget.tokens, budget.label_tokens)
    )
    return 0.001 * seen + 0.002 * labels


@pytest.mark.parametrize("asked", [features.FEW, StudyBudget(50_000, 20_000)])
def test_seconds_are_of_the_tokens_that_are_seen(
    monkeypatch: pytest.MonkeyPatch, asked: StudyBudget
) -> None:
    data = open_data(Library().task(features.TASK))
    monkeypatch.setattr(features, "FEW", asked)
    monkeypatch.setattr(features, "study", lambda model, data, of, budget: _seconds(data, budget))

    def timed(run: Callable[[], Any], repeats: int) -> Any:
        return run()

    monkeypatch.setattr(features, "_fastest", timed)
    rows = features._of_a_study(random_model(TINY, 0), DictionarySet({}), data, 1)
    told = {row["row"]: row["seconds"] for row in rows}
    assert told["strongest tokens"] == pytest.approx(1200)
    assert told["labels"] == pytest.approx(600)

"""What the empty circuit does to metric and accuracy, and when that leaves nothing to explain."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.evaluation.verdict import Verdict, verdict, verdict_of, with_half_width

N = 200


def metrics(mean: float, spread: float = 1.0, seed: int = 0) -> Any:
    values = np.random.default_rng(seed).normal(size=N)
    return mean + spread * (values - values.mean())


def accuracy(value: float) -> dict[str, float]:
    return {"value": value, "se": float(np.sqrt(value * (1 - value) / N))}


def judge(whole: Any, empty: Any, of_model: float | None = 1.0, of_empty: float = 0.0) -> Verdict:
    both = None if of_model is None else (accuracy(of_model), accuracy(of_empty))
    return verdict_of("logit_diff", "interchange", whole, empty, both)


def test_the_line_says_what_moves_by_how_much() -> None:
    found = judge(metrics(9.0, 2.0), metrics(-3.1, 2.0, seed=1))
    assert str(found).startswith("corruption moves logit_diff by 12.1 ± 0.4; accuracy 1.000 of")
    assert found.faults == ()
    assert found.low < 12.1 < found.high
    other = replace(found, ablation="mean", accuracies=None)
    assert str(other) == "mean ablation moves logit_diff by 12.1 ± 0.4"
    channels = replace(found, accuracies=None, unit="channels")
    assert str(channels) == "interchange ablation of all channels moves logit_diff by 12.1 ± 0.4"


def test_a_corruption_that_changes_nothing_is_a_fault() -> None:
    noise = metrics(0.006, 0.1, seed=2)
    found = judge(metrics(9.71), metrics(9.71) - noise, 1.0, 1.0)
    assert found.moved == pytest.approx(0.006)
    assert found.low < 0 < found.high
    assert "that of the empty circuit" in found.faults[0]
    assert found.faults[0] in str(found)


def test_a_corruption_that_steadily_changes_next_to_nothing_is_a_fault() -> None:
    """The interval leaves zero out, and answers are right either way."""
    found = judge(metrics(9.710), metrics(9.704), 1.0, 1.0)
    assert found.low > 0
    assert found.faults == ("the model's accuracy is not above the empty circuit's",)


@pytest.mark.parametrize(
    ("of_model", "of_empty", "fault"),
    [
        (0.10, 0.10, True),  # at chance
        (0.12, 0.10, True),  # not to be told from it
        (0.40, 0.10, False),
        (0.10, 0.40, True),
        (1.00, 0.48, False),
        (1.00, 1.00, False),  # right either way: the metric moves all the same
        (0.95, 1.00, False),
        (0.60, 1.00, True),
    ],
)
def test_a_model_at_chance_is_a_fault(of_model: float, of_empty: float, fault: bool) -> None:
    found = judge(metrics(0.9, 0.1), metrics(-0.2, 0.1, seed=1), of_model, of_empty)
    assert bool(found.faults) == fault


def test_numbers_have_no_accuracy() -> None:
    found = judge(metrics(0.9, 0.1), metrics(0.0, 0.1, seed=1), None)
    assert found.faults == ()
    assert found.accuracies is None


def test_rounding_is_no_movement() -> None:
    """A distance is 0 of the model and never below it: its interval leaves zero out."""
    tiny = np.abs(metrics(0.0, 1e-9))
    assert judge(np.zeros(N), tiny, None).faults
    assert not judge(np.zeros(N), tiny * 1e6, None).faults


@pytest.mark.parametrize(
    ("value", "half", "text"),
    [
        (12.12, 0.43, "12.1 ± 0.4"),
        (12.12, 1.3, "12 ± 1"),
        (0.0061, 0.0049, "0.006 ± 0.005"),
        (-0.0001, 0.02, "0.00 ± 0.02"),
        (2.0, 0.0, "2.000 ± 0.000"),
    ],
)
def test_digits_follow_the_half_width(value: float, half: float, text: str) -> None:
    assert with_half_width(value, half) == text


def test_tables_can_ask_without_torch() -> None:
    code = "import harness.evaluation.verdict, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def setup(random_batch: Any) -> Any:
    from support.slow_reference import small_model
    from support.toy_task import CHOICES

    from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
    from harness.circuits.edges.graph import Graph
    from harness.circuits.edges.patchable import EdgeModel
    from harness.evaluation.setup import Setup

    model = small_model("gpt2-like")
    graph = Graph.of(model.config)
    counterfactuals = EdgeCounterfactuals(model, graph, "interchange")
    choices = replace(CHOICES, ablation="interchange")
    return Setup(EdgeModel(model, graph), [random_batch(n=6)], counterfactuals, choices)


def test_the_empty_circuit_under_interchange_is_the_corrupted_run(setup: Any) -> None:
    from harness.circuits.patchable import plain_logits
    from harness.metrics.registry import from_logits

    batch, metric = setup.batches[0], from_logits(setup.choices.metric)
    whole = plain_logits(setup.model, batch)
    corrupted = plain_logits(setup.model, replace(batch, clean=batch.corrupted))
    expected = metric(whole[None], whole, batch) - metric(corrupted[None], whole, batch)
    found = verdict(setup)
    assert found.moved == pytest.approx(float(expected.mean()), abs=1e-5)
    assert found.accuracies is not None
    assert verdict(setup, numbers=True).accuracies is None


def test_a_prompt_that_is_its_own_twin_moves_nothing(setup: Any) -> None:
    batch = setup.batches[0]
    same = replace(setup, batches=[replace(batch, corrupted=batch.clean)])
    found = verdict(same)
    assert found.moved == pytest.approx(0, abs=1e-5)
    assert len(found.faults) == 2


def test_a_choice_between_two_answers_is_judged_by_the_choice(setup: Any) -> None:
    """Where a task measures it, and not by whether the answer is the likeliest of all tokens."""
    from harness.circuits.patchable import plain_logits
    from harness.metrics.logits import choice_accuracy

    chosen = replace(setup, choices=replace(setup.choices, measures=("choice_accuracy",)))
    found, plain = verdict(chosen).accuracies, verdict(setup).accuracies
    batch = setup.batches[0]
    expected = float(choice_accuracy(plain_logits(setup.model, batch), batch).mean())
    assert found is not None
    assert plain is not None
    assert found[0] == pytest.approx(expected)
    assert found != plain

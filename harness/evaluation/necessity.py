"""Whether the model needs a circuit: what is left without it, and what its elements carry.

    necessity      the whole model with the circuit alone ablated (Gao et al. 2025, inverse pruning)
    interchange    the whole model, the circuit alone with the corrupted prompt's values: the share
                   of what the corruption does to the metric that happens already

Both are compared with random sets of as many elements (`controls.random_sets`). A circuit can be
sufficient by chance: a small one that the model does not need and that carries little of what tells
the prompts apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from harness.circuits.patchable import plain_logits
from harness.datasets.batch import Batch
from harness.evaluation.calibration import ODDS, Sides, calibrated
from harness.evaluation.controls.random_sets import of_sets
from harness.evaluation.curve import Floats, evaluate_circuits
from harness.evaluation.setup import Setup
from harness.metrics.registry import from_logits
from harness.metrics.statistics import estimate, shared_resamples
from harness.spec.granularity import granularity

TASK_LOSS = "task_loss"


# ---------------------------------------------------------------- ablating the circuit alone
def necessity(
    test: Setup, search: Setup, kept: Tensor, sets: Sequence[Tensor]
) -> dict[str, Any] | None:
    """Task loss of the model without the circuit, raw and calibrated, beside `sets` [R][E].

    Calibrated on the pairs of `search`: what is left may tell the answers apart and prefer one.
    None where prompts have no bad answers; calibrated null where they are read at several
    positions.
    """
    if not all(has_both(batch) for batch in (*test.batches, *search.batches)):
        return None
    rests = [~kept, *(~one for one in sets)]
    choices = replace(test.choices, measures=(TASK_LOSS, ODDS))
    examples = evaluate_circuits(replace(test, choices=choices, classes=()), rests)
    raw, odds = examples.values[TASK_LOSS], examples.values[ODDS]
    one_position = all(bool((batch.read.sum(-1) == 1).all()) for batch in test.batches)
    losses, shifted = None, False
    if one_position:
        shifted = Sides.of(test.batches).same_choice(Sides.of(search.batches))
        losses, _ = calibrated(test, search, rests, odds, examples.plain[ODDS])
    return {
        "task_loss": _beside(raw),
        "calibrated": None if losses is None else _beside(losses),
        "calibrated_with_shift": shifted,
        "whole": _mean(examples.plain[TASK_LOSS]),
        "sets": len(sets),
    }


def has_both(batch: Batch) -> bool:
    """Whether a batch has good and bad answers wherever it is read."""
    both = (batch.good >= 0).any(-1) & (batch.bad >= 0).any(-1)
    return bool(both[batch.read].all())


def _beside(values: Floats) -> dict[str, Any]:
    """Of values [1 + R, n]: the circuit's estimate, and what random sets show."""
    return {"without_circuit": _mean(values[0]), **of_sets(values[1:].mean(1))}


def _mean(values: Floats) -> dict[str, Any]:
    weights = shared_resamples(len(values))
    return estimate(float(values.mean()), weights @ values, len(values), "mean")


# ---------------------------------------------------------------- the partner's values in it
@dataclass(frozen=True)
class _Moved:
    """The metric of each prompt [n]: of the model on clean and on corrupted prompts."""

    clean: Floats
    corrupted: Floats

    def share(self, patched: Floats) -> dict[str, Any]:
        """How much of the way from clean to corrupted the patched runs [n] go, as an estimate."""
        moved, span = self.clean - patched, self.clean - self.corrupted
        weights = shared_resamples(len(span))
        with np.errstate(divide="ignore", invalid="ignore"):
            value, samples = moved.mean() / span.mean(), (weights @ moved) / (weights @ span)
        return estimate(float(value), samples, len(span), "ratio_of_means")


def interchange(
    test: Setup, kept: Tensor, sets: Sequence[Tensor], seed: int
) -> dict[str, Any] | None:
    """Share of the metric's change that the circuit's elements bring about, beside `sets` [R][E].

        (m(clean) - m(clean, circuit from the corrupted run)) / (m(clean) - m(corrupted))

    m is the task's metric with the clean prompt's answers; 1 if the circuit carries all that tells
    the two prompts apart. `rest`: the same for everything but the circuit. Null where the
    granularity has no ablation `interchange`, or the metric is a distance to the clean run.
    """
    setup = on_interchange(test, seed)
    if setup is None:
        return None
    rows = [~kept, kept, *(~one for one in sets)]
    examples = evaluate_circuits(setup, rows)
    values = examples.values["metric"]
    both = _Moved(examples.plain["metric"], corrupted_metric(setup))
    shares = [both.share(row)["value"] for row in values[2:]]
    defined = np.array([share for share in shares if share is not None])
    return {
        "share": both.share(values[0]),
        "rest": both.share(values[1]),
        **of_sets(defined),
        "sets": len(sets),
    }


def on_interchange(test: Setup, seed: int) -> Setup | None:
    """The set-up with the corrupted run's values for dropped elements; None where undefined."""
    choices = replace(test.choices, ablation="interchange", measures=())
    if "interchange" not in granularity(choices.granularity).ablations:
        return None
    if choices.metric == "squared_error":
        return None
    counterfactuals = test.patchable.counterfactuals(choices, test.batches, seed)
    return replace(test, counterfactuals=counterfactuals, choices=choices, classes=())


def corrupted_metric(setup: Setup) -> Floats:
    """The whole model's metric on the corrupted prompts, with the clean prompts' answers [n]."""
    metric = from_logits(setup.choices.metric)
    values = np.full(setup.n, np.nan)
    for batch in setup.batches:
        logits = plain_logits(setup.model, batch, corrupted=True)
        values[batch.rows.cpu().numpy()] = metric(logits, logits, batch).double().cpu().numpy()
    return values

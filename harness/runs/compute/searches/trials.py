"""A method at other params, trial by trial, for the smallest circuits that reach the targets.

Each trial trains with start noise of its own; its active sets join those of all trials, so that a
cell's circuits are cut from the best of them, and all that was tried is part of the cost. Params
are drawn by optuna, seeded: the same cell searches the same trials, also after a stop.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from harness.discovery.problem import ActiveSet, Discovery, Problem
from harness.discovery.registry import info_of, make_method
from harness.discovery.sizing import checked
from harness.errors import HarnessError
from harness.evaluation.curve import evaluate_circuits
from harness.evaluation.references import References
from harness.evaluation.targets import TargetSearch, stricter, with_losses
from harness.progress import stage
from harness.runs.compute.prepare import Prepared
from harness.runs.compute.reaching import Finder
from harness.spec.types import CircuitTarget, Method, ParamSearch

if TYPE_CHECKING:
    import optuna


def discover_by_trials(
    method: Method, search: ParamSearch, problem: Problem, prepared: Prepared, seed: int
) -> Discovery:
    """What all trials found together; scores are those of the trial with the smallest circuit.

    Raises `HarnessError` without optuna, and for methods that have no active sets.
    """
    judge, study = _Judge.of(method, prepared), _study(search, seed)
    defaults = dict(info.defaults) if (info := info_of(method.kind)) else {}
    sets: list[ActiveSet] = []
    notes: dict[str, float] = {}
    best, scores = math.inf, None
    earlier, processor = 0.0, 0.0
    with stage("search", search.trials, "trial") as shown:
        for number in range(search.trials):
            trial = study.ask()
            drawn = {
                name: _drawn(trial, name, bounds, defaults.get(name))
                for name, bounds in search.ranges.items()
            }
            one = _trial(method, drawn, problem, seed, number)
            value = judge.value(one)
            study.tell(trial, value)
            if value < best:
                best, scores = value, one.scores
            sets += one.active
            notes |= {f"trial {number}/{name}": _number(x) for name, x in drawn.items()}
            notes[f"trial {number}/log size"] = value
            earlier += one.earlier_seconds
            processor += one.earlier_processor_seconds or 0.0
            shown.advance(1, f"log size {value:.3g}, smallest {best:.3g}")
    assert scores is not None  # values are finite
    return Discovery(
        scores,
        active=tuple(sets),
        notes=notes,
        earlier_seconds=earlier,
        earlier_processor_seconds=processor if earlier else None,
    )


def _trial(
    method: Method, drawn: Mapping[str, Any], problem: Problem, seed: int, number: int
) -> Discovery:
    entropy = np.random.SeedSequence([seed, number]).generate_state(1)[0]
    scratch = None if problem.scratch is None else problem.scratch / f"trial_{number}"
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
    own = replace(problem, generator=torch.Generator().manual_seed(int(entropy)), scratch=scratch)
    result = make_method(method.kind, {**method.params, **drawn}).discover(own)
    discovery = checked(result, problem.space, method.name)
    if not discovery.active:
        raise HarnessError(
            f"selection.search: method {method.name!r} has no active sets, so that its trials "
            "cannot be put together"
        )
    return discovery


# ---------------------------------------------------------------- what is drawn
def _study(search: ParamSearch, seed: int) -> optuna.Study:
    try:
        import optuna
    except ImportError as error:
        raise HarnessError(
            "selection.search needs optuna: pip install 'circuit-harness[search]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    samplers = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
    return optuna.create_study(sampler=samplers[search.sampler](seed=seed))


def _drawn(trial: optuna.Trial, name: str, bounds: Sequence[float], default: Any) -> Any:
    """A value between two bounds, of the type of the param's default."""
    low, high = bounds
    if isinstance(default, int) and not isinstance(default, bool):
        return trial.suggest_int(name, round(low), round(high), log=low >= 1)
    value = trial.suggest_float(name, low, high, log=low > 0)
    return [value] if isinstance(default, tuple) else value


def _number(drawn: Any) -> float:
    return float(drawn[0] if isinstance(drawn, list) else drawn)


# ---------------------------------------------------------------- what it is worth
class _Judge:
    """Measures a trial by the circuits that are cut from it on the pairs of the targets."""

    def __init__(
        self, method: Method, prepared: Prepared, targets: Sequence[CircuitTarget]
    ) -> None:
        choices = prepared.test.choices
        on = prepared.discovery if choices.searched_on == "discovery" else prepared.test
        self.targets = [stricter(target, choices.margin) for target in targets]
        self.setup, self.selection = with_losses(on, self.targets), method.selection
        self.references = References(self.setup)

    @classmethod
    def of(cls, method: Method, prepared: Prepared) -> _Judge:
        """Raises `HarnessError` where no targets are asked for."""
        targets = prepared.test.choices.targets
        if not targets:
            raise HarnessError("selection.search is for circuits of `evaluation.targets`")
        return cls(method, prepared, targets)

    def value(self, discovery: Discovery) -> float:
        """Mean over targets of the log size in the finest unit; above all where one is missed."""
        space = self.setup.space
        nothing = torch.zeros(len(space), dtype=torch.bool)
        search = TargetSearch.start(self.setup, self.references, lambda n: nothing)
        finder = Finder(discovery, search, lambda n: nothing, self.selection)
        values = []
        for target, one in zip(self.targets, finder.find(self.targets), strict=True):
            if one.reached:
                values.append(math.log1p(_finest(space.counts(one.kept))))
                continue
            missed = evaluate_circuits(self.setup, [one.kept], self.references).values
            means = {name: float(x.mean()) for name, x in missed.items()}
            by = 1.0 if target.measure == "faithfulness" else means[target.measure] - target.value
            values.append(math.log1p(_finest(space.counts(~nothing))) + max(by, 0.0))
        return sum(values) / len(values)


def _finest(counts: Mapping[str, int]) -> int:
    return list(counts.values())[-1]

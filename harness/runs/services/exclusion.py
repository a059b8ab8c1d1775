"""How many circuits a model has for a task: find one, forbid its elements, search again.

Stability over seeds compares elements, which says little where the model does a thing several
times over: seeds then find different copies. Exclusion is a functional read-out (Hao and Goldstein
2026): the rounds until no search reaches the target any more, and the *core*, the smallest part
that was found of all that is forbidden by then without which the whole model misses the target.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from harness.circuits.excluding import Excluding
from harness.circuits.select import requested_counts
from harness.discovery.problem import Discovery, Problem
from harness.discovery.registry import make_method
from harness.discovery.sizing import checked, circuit_of
from harness.errors import HarnessError
from harness.evaluation.calibration import ODDS, calibrated
from harness.evaluation.curve import Floats, evaluate_circuits
from harness.evaluation.necessity import has_both
from harness.evaluation.references import References
from harness.evaluation.setup import Setup
from harness.evaluation.targets import TargetSearch, reached, stricter, with_losses
from harness.progress import through
from harness.runs.compute.prepare import Prepared
from harness.runs.compute.reaching import Finder, Smallest
from harness.runs.services.lookup import NamedCircuit
from harness.spec.build import build
from harness.spec.types import CircuitTarget, Selection

ROUNDS = 10
"""Searches after the first circuit, unless told otherwise."""

Log = Callable[[str], None]


def exclusion(
    named: NamedCircuit, prepared: Prepared, seed: int, log: Log, rounds: int = ROUNDS
) -> dict[str, Any]:
    """Rounds of exclusion that begin with a cell's circuit, as plain JSON data.

    At most `rounds` searches, each with the cell's method and budget and a seed of its own;
    `stopped` says whether that ended them, or a search that missed the target. Raises
    `HarnessError` for circuits of files, and cells whose circuits are not the smallest for a loss.
    """
    method, target = _search_of(named, prepared)
    circuits = [named.circuit.kept]
    allowed, searches = ~circuits[0], [_described(prepared, target, circuits[0], reached_it=True)]
    stopped = "rounds"
    for number in range(1, rounds + 1):
        one = method.search(prepared, target, allowed, seed + 1000 * number)
        searches.append(_described(prepared, target, one.kept & allowed, reached_it=one.reached))
        last = searches[-1]
        log(f"exclusion round {number}: {last['size']}, {target.measure} {_short(last)}")
        if not one.reached:
            stopped = "exhausted"
            break
        circuits.append(one.kept & allowed)
        allowed = allowed & ~circuits[-1]
    return {
        "target": {"measure": target.measure, "value": target.value},
        "rounds": searches,
        "circuits": len(circuits),
        "stopped": stopped,
        "excluded": int((~allowed).sum()),
        **_core(prepared, target, circuits),
    }


@dataclass(frozen=True)
class _Search:
    """The method of a cell, and how circuits are cut from what it finds."""

    kind: str
    params: dict[str, Any]
    selection: Selection

    def search(
        self, prepared: Prepared, target: CircuitTarget, allowed: Tensor, seed: int
    ) -> Smallest:
        """The smallest circuit inside `allowed` [E] that reaches the target, or the nearest."""
        patchable = Excluding(prepared.discovery.patchable, allowed)
        setup, test = (
            replace(one, patchable=patchable) for one in (prepared.discovery, prepared.test)
        )
        choices, space = setup.choices, setup.space
        problem = Problem(
            patchable,
            setup.batches,
            setup.counterfactuals,
            choices.metric,
            torch.Generator().manual_seed(seed),
            tuple(requested_counts(choices, len(space))),
        )
        result = make_method(self.kind, self.params).discover(problem)
        discovery = _within(checked(result, space, self.kind), allowed)

        def circuit(n: int) -> Tensor:
            kept = circuit_of(discovery, space, n, self.selection, choices.ablation)
            return space.prune(kept & allowed, choices.ablation)

        on = with_losses(setup if choices.searched_on == "discovery" else test, [target])
        search = TargetSearch.start(on, References(on), circuit)
        wanted = [stricter(target, choices.margin)]
        (one,) = Finder(discovery, search, circuit, self.selection).find(wanted)
        return one


def _search_of(named: NamedCircuit, prepared: Prepared) -> tuple[_Search, CircuitTarget]:
    entry, choices = named.entry, prepared.test.choices
    if entry is None:
        raise HarnessError(
            f"exclusion: {named.name} is a file, which does not say how its circuit was found; "
            "name a cell"
        )
    losses = [one for one in choices.targets or () if one.measure != "faithfulness"]
    if not losses:
        raise HarnessError(
            f"exclusion: the circuit of {named.name} is not the smallest for a loss; run its task "
            "with `evaluation.targets`, such as [{task_loss: 0.15}]"
        )
    batches = (*prepared.test.batches, *prepared.discovery.batches)
    if not all(has_both(one) and bool((one.read.sum(-1) == 1).all()) for one in batches):
        raise HarnessError(
            "exclusion: the core is told by calibrated task loss, which needs prompts with good "
            "and bad answers, read at one position"
        )
    method = entry.identity["method"]
    selection = build(Selection, dict(method["selection"]))
    return _Search(method["kind"], dict(method["params"]), selection), losses[0]


def _within(discovery: Discovery, allowed: Tensor) -> Discovery:
    """What was found without what is excluded."""
    return replace(
        discovery,
        scores=discovery.scores * allowed,
        rankings={size: scores * allowed for size, scores in discovery.rankings.items()},
        circuits=tuple(kept & allowed for kept in discovery.circuits),
        active=tuple(
            one._replace(scores=one.scores * allowed, size=int((one.scores * allowed > 0.5).sum()))
            for one in discovery.active
        ),
    )


# ---------------------------------------------------------------- what is said of it
def _described(
    prepared: Prepared, target: CircuitTarget, kept: Tensor, *, reached_it: bool
) -> dict[str, Any]:
    """A circuit's sizes, and its loss on the discovery and on the test pairs."""
    searched, fresh = (_loss(one, target, kept) for one in (prepared.discovery, prepared.test))
    return {
        "size": int(kept.sum()),
        "counts": dict(prepared.test.space.counts(kept)),
        "loss": searched,
        "fresh": fresh,
        "reached": reached_it,
        "held": reached_it and reached(target, {target.measure: fresh}),
    }


def _loss(setup: Setup, target: CircuitTarget, kept: Tensor) -> float:
    values = evaluate_circuits(with_losses(setup, [target]), [kept]).values
    return float(values[target.measure].mean())


def _short(described: dict[str, Any]) -> str:
    return f"{described['loss']:.3g} ({described['fresh']:.3g} on test pairs)"


def _core(prepared: Prepared, target: CircuitTarget, circuits: Sequence[Tensor]) -> dict[str, Any]:
    """The core, and how many elements the model cannot spare one by one.

    Elements come back one at a time, those of the last circuit first, while the model still misses
    the target without the others. `core` is null where it reaches the target without all of them:
    the searches failed, the model does not. By calibrated task loss, fitted on the discovery pairs.
    """
    order = [
        element for kept in reversed(circuits) for element in kept.nonzero().flatten().tolist()
    ]
    core = torch.stack(list(circuits)).any(0)
    on = prepared.discovery
    together = _calibrated(on, on, [core])[0]
    alone = torch.eye(len(core), dtype=torch.bool)[order]
    critical = int((_calibrated(on, on, list(alone)) > target.value).sum()) if order else 0
    said = {"without_excluded": _calibrated(prepared.test, on, [core])[0], "critical": critical}
    if together <= target.value:
        return {**said, "core": None}
    for element in through(order, "core", "element"):
        smaller = core.clone()
        smaller[element] = False
        if _calibrated(on, on, [smaller])[0] > target.value:
            core = smaller
    without = _calibrated(prepared.test, on, [core])[0]
    return {**said, "core": {"size": int(core.sum()), "without": without}}


def _calibrated(test: Setup, search: Setup, ablated: Sequence[Tensor]) -> Floats:
    """Calibrated task loss of the model without each of some sets [E]: [C]."""
    rests = [~one for one in ablated]
    setup = replace(test, choices=replace(test.choices, measures=(ODDS,)), classes=())
    examples = evaluate_circuits(setup, rests)
    losses, _ = calibrated(test, search, rests, examples.values[ODDS], examples.plain[ODDS])
    means: Floats = losses.mean(1)
    return means

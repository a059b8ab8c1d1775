"""How small circuits are that reach a loss: models against models, and methods against methods.

An arm is a group of models that differ in nothing but the seed of their training, and the target
at which it stops: that is how the models of two arms are matched, seed by seed. Of each cell it
counts the smallest measured circuit whose mean loss on the test pairs is low enough; one whose
search missed its own target does not count, whatever it measures there. Sizes are in the finest
unit of the space (weights, edges). Ratios are geometric means over pairs of cells with
the same task, training seed and seed, with Student's t on the logarithms.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from harness.errors import HarnessError
from harness.metrics.statistics import Ratio, geometric_mean
from harness.reports.results import Result, all_reached
from harness.runs.store.models import ModelStore
from harness.runs.store.record import StoredCell
from harness.spec.identity import digest

MEASURE = "task_loss"
TRAINING = "training.json"

Pair = tuple[str, str, int, int]
"""Task, what the suite changed in its evaluation, training seed, seed."""


@dataclass(frozen=True)
class SmallestCircuit:
    """The smallest circuit of a cell that reaches the loss.

    `counts`: its sizes, the finest last; None where no measured circuit reaches it. `loss`,
    `whole`: mean losses of the circuit and of the whole model on the test pairs. `fresh`: whether
    it was chosen on other pairs.
    """

    pair: Pair
    arm: str
    method: str
    counts: Mapping[str, int] | None
    loss: float | None
    whole: float
    fresh: bool

    @property
    def size(self) -> int | None:
        """In the finest unit."""
        return None if self.counts is None else list(self.counts.values())[-1]


@dataclass(frozen=True)
class Arm:
    """Models that differ in their training's seed; of each what its log says at the end.

    `excess`: nats above the entropy of the held-out data, by training seed; `nonzeros`: weights
    under a budget that are not zero; both only where the log has them.
    """

    name: str
    models: tuple[str, ...]
    excess: Mapping[int, float]
    nonzeros: tuple[int, ...]


@dataclass(frozen=True)
class Frontier:
    """All smallest circuits at a loss, and the arms in the order of the plan."""

    at: float
    unit: str
    arms: tuple[Arm, ...]
    methods: tuple[str, ...]
    circuits: tuple[SmallestCircuit, ...]

    @property
    def tasks(self) -> list[tuple[str, str]]:
        """Tasks with what the suite changed in their evaluation, in order."""
        return list(dict.fromkeys(one.pair[:2] for one in self.circuits))

    def of(
        self, method: str, arm: str, task: tuple[str, str] | None = None
    ) -> dict[Pair, SmallestCircuit]:
        """The circuits of a method in an arm's models, on one task or all."""
        return {
            one.pair: one
            for one in self.circuits
            if one.method == method and one.arm == arm and task in (None, one.pair[:2])
        }

    def between_arms(self, method: str, above: str, below: str) -> Ratio | None:
        """Sizes in one arm over those in another, at the same task and seeds."""
        return _ratio(self.of(method, above), self.of(method, below))

    def between_methods(self, arm: str, above: str, below: str) -> Ratio | None:
        """Sizes of one method over those of another, in the same model."""
        return _ratio(self.of(above, arm), self.of(below, arm))


def frontier(
    cells: Iterable[StoredCell], models: ModelStore, at: float, joined: Collection[str] = ()
) -> Frontier:
    """The smallest circuits with a task loss of at most `at`.

    `joined`: methods that count as one search, of which the smallest circuit is taken. Raises
    `HarnessError` without a finished cell, for a joined method that no cell has, and for cells
    whose circuits have no task loss or whose spaces count different things.
    """
    done = [cell for cell in cells if cell.status == "ok" and cell.result is not None]
    if not done:
        raise HarnessError("no finished cell; smoke cells and failed ones are not counted")
    arms = _arms(done)
    circuits = _together([_smallest(cell, arms[_recipe(cell)], at) for cell in done], joined)
    units = {_unit(cell) for cell in done}
    if len(units) > 1:
        raise HarnessError(
            f"the cells count {' and '.join(sorted(units))}; give runs of one granularity"
        )
    by_arm: dict[str, dict[str, StoredCell]] = {}  # a cell of each model
    for cell in done:
        by_arm.setdefault(arms[_recipe(cell)], {}).setdefault(cell.entry.model, cell)
    return Frontier(
        at,
        units.pop(),
        tuple(_logged(name, of_arm, models) for name, of_arm in by_arm.items()),
        tuple(dict.fromkeys(one.method for one in circuits)),
        tuple(circuits),
    )


# ---------------------------------------------------------------- arms
def _recipe(cell: StoredCell) -> str:
    """Equal for models that differ in seed and target of their training alone."""
    spec: dict[str, Any] = dict(cell.entry.identity["model"])
    if "training" in spec:
        spec["training"] = {**spec["training"], "seed": None, "target": None}
    # Shipped weights differ where their seeds do.
    return digest({name: value for name, value in spec.items() if name != "weights"})


def _seed(cell: StoredCell) -> int:
    training = cell.entry.identity["model"].get("training") or {}
    return int(training.get("seed", 0))


def _arms(cells: Sequence[StoredCell]) -> dict[str, str]:
    """The name of each recipe: what the names of its models begin with alike."""
    names: dict[str, list[str]] = {}
    for cell in cells:
        own = names.setdefault(_recipe(cell), [])
        if cell.entry.model not in own:
            own.append(cell.entry.model)
    shared = {
        recipe: own[0] if len(own) == 1 else _beginning(own) or own[0]
        for recipe, own in names.items()
    }
    taken = list(shared.values())
    return {
        recipe: name if taken.count(name) == 1 else names[recipe][0]
        for recipe, name in shared.items()
    }


def _beginning(names: Sequence[str]) -> str:
    """What all names begin with, without a hyphen at its end."""
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    return "".join(letters[0] for letters in alike).rstrip("-_")


def _logged(name: str, of_arm: Mapping[str, StoredCell], models: ModelStore) -> Arm:
    last = {
        _seed(cell): models.read(cell.entry.model_id).json(TRAINING)["history"][-1]
        for cell in of_arm.values()
        if models.exists(cell.entry.model_id)
    }
    return Arm(
        name,
        tuple(of_arm),
        {seed: one["excess"] for seed, one in last.items() if "excess" in one},
        tuple(one["nonzeros"] for one in last.values() if "nonzeros" in one),
    )


# ---------------------------------------------------------------- circuits
def _unit(cell: StoredCell) -> str:
    assert cell.result is not None
    names: list[str] = list(cell.result["curve"][0]["counts"])
    return names[-1]


def _smallest(cell: StoredCell, arm: str, at: float) -> SmallestCircuit:
    assert cell.result is not None
    entry, points = cell.entry, cell.result["curve"]
    if MEASURE not in cell.result["whole"]:
        raise HarnessError(
            f"task {entry.task} does not measure {MEASURE}; name it in `evaluation.measures`, or "
            "search for targets of it, and run again"
        )
    reaching = [p for p in points if all_reached([p]) and p[MEASURE]["value"] <= at]
    best = min(reaching, key=_sizes, default=None)
    return SmallestCircuit(
        (entry.task, entry.variant, _seed(cell), entry.seed),
        arm,
        entry.method,
        None if best is None else best["counts"],
        None if best is None else best[MEASURE]["value"],
        cell.result["whole"][MEASURE]["value"],
        all(_chosen_elsewhere(point) for point in points),
    )


def _together(
    circuits: Sequence[SmallestCircuit], joined: Collection[str]
) -> list[SmallestCircuit]:
    """The smallest circuit of some methods in place of one of each, under all their names."""
    methods = dict.fromkeys(one.method for one in circuits)
    if absent := [name for name in joined if name not in methods]:
        raise HarnessError(f"no method {absent[0]!r} to join; there are {', '.join(methods)}")
    name = " + ".join(one for one in methods if one in joined)
    best: dict[tuple[Pair, str, str], SmallestCircuit] = {}
    for one in circuits:
        method = name if one.method in joined else one.method
        key = (one.pair, one.arm, method)
        if key not in best or _smaller(one, best[key]):
            best[key] = replace(one, method=method)
    return list(best.values())


def _smaller(one: SmallestCircuit, other: SmallestCircuit) -> bool:
    if one.counts is None or other.counts is None:
        return other.counts is None and one.counts is not None
    return _order(one.counts) < _order(other.counts)


def _sizes(point: Result) -> tuple[int, ...]:
    return _order(point["counts"])


def _order(counts: Mapping[str, int]) -> tuple[int, ...]:
    """The sizes of a circuit, the finest first: what circuits are compared by."""
    return tuple(reversed(list(counts.values())))


def _chosen_elsewhere(point: Result) -> bool:
    """Whether what was chosen does not depend on the test pairs."""
    target = point["target"]
    return target is None or target.get("searched_on") == "discovery"


def _ratio(
    above: Mapping[Pair, SmallestCircuit], below: Mapping[Pair, SmallestCircuit]
) -> Ratio | None:
    """None without a pair in which both reach the loss, with something left."""
    ratios = [
        one.size / other.size
        for pair, one in above.items()
        if (other := below.get(pair)) is not None and one.size and other.size
    ]
    return geometric_mean(ratios) if ratios else None

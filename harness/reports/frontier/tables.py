"""The tables of a frontier: models, sizes by task and arm, ratios, capability against size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.errors import HarnessError
from harness.metrics.statistics import Ratio, geometric_mean
from harness.reports.frontier.smallest import Frontier, SmallestCircuit
from harness.reports.text import grid, number


def text_of(frontier: Frontier, reference: str | None = None) -> str:
    """All tables; arms are compared with `reference`, by default that of the smallest circuits.

    Raises `HarnessError` for an unknown arm.
    """
    names = [arm.name for arm in frontier.arms]
    if reference is not None and reference not in names:
        raise HarnessError(f"no arm {reference!r}; there are {', '.join(names)}")
    parts = [_models(frontier)]
    parts += [_sizes(frontier, method, reference) for method in frontier.methods]
    if len(frontier.methods) > 1:
        parts.append(_methods(frontier))
    if len(frontier.arms) > 1 and all(arm.excess for arm in frontier.arms):
        parts.append(_capability(frontier))
    parts += _remarks(frontier)
    return "\n\n".join(parts)


def _models(frontier: Frontier) -> str:
    arms = frontier.arms
    lines = [
        ["models", *(str(len(arm.models)) for arm in arms)],
        [
            "nonzero weights",
            *(_one_or_range([f"{n:,}" for n in sorted(set(arm.nonzeros))]) for arm in arms),
        ],
        [
            "excess",
            *(_one_or_range([number(x, 4) for x in sorted(arm.excess.values())]) for arm in arms),
        ],
    ]
    for task in frontier.tasks:
        lines.append([f"loss, {_task(task)}", *(_whole(frontier, arm.name, task) for arm in arms)])
    table = _grid(["", *(arm.name for arm in arms)], lines)
    return f"Models, with the task loss of the whole model:\n\n{table}"


def _whole(frontier: Frontier, arm: str, task: tuple[str, str]) -> str:
    losses = {
        one.pair[2]: one.whole
        for one in frontier.circuits
        if one.arm == arm and one.pair[:2] == task
    }
    return _one_or_range([number(loss, 3) for loss in sorted(losses.values())])


def _one_or_range(texts: Sequence[str]) -> str:
    """`0.160`, or `0.160–0.163` of sorted texts; empty without any."""
    if not texts:
        return ""
    return texts[0] if texts[0] == texts[-1] else f"{texts[0]}–{texts[-1]}"


def _sizes(frontier: Frontier, method: str, reference: str | None) -> str:
    arms = [arm.name for arm in frontier.arms if frontier.of(method, arm.name)]
    means = {name: _mean(_on_shared_tasks(frontier, method, name, arms)) for name in arms}
    lines = [
        [
            _task(task),
            *(_cell(list(frontier.of(method, name, task).values()), frontier.at) for name in arms),
        ]
        for task in frontier.tasks
    ]
    lines.append(["geometric mean", *(_whole_number(means[name]) for name in arms)])
    sized = {name: mean.value for name, mean in means.items() if mean is not None}
    against = reference if reference in arms else min(sized, key=sized.__getitem__, default=None)
    if against is not None and len(arms) > 1:
        ratios = (frontier.between_arms(method, name, against) for name in arms)
        line = [
            "1" if name == against else _ratio(ratio)
            for name, ratio in zip(arms, ratios, strict=True)
        ]
        lines.append([f"ratio to {against}", *line])
    title = f"{method}: {frontier.unit} of the smallest circuit with a loss of {frontier.at:g}"
    return f"{title} or less:\n\n{_grid(['task', *arms], lines)}"


def _on_shared_tasks(
    frontier: Frontier, method: str, arm: str, arms: Sequence[str]
) -> list[SmallestCircuit]:
    """The circuits on tasks in which every arm has one that reaches the loss."""
    return [
        one
        for task in frontier.tasks
        if all(any(x.size for x in frontier.of(method, name, task).values()) for name in arms)
        for one in frontier.of(method, arm, task).values()
    ]


def _cell(circuits: Sequence[SmallestCircuit], at: float) -> str:
    """Geometric mean over seeds, and how many reach the loss where not all do.

    Unsolved: not even the whole models do; empty: there is no cell.
    """
    reached = [one for one in circuits if one.size]
    if not reached and all(one.whole > at for one in circuits):
        return "unsolved" if circuits else ""
    text = _whole_number(_mean(circuits)) or "–"
    return text if len(reached) == len(circuits) else f"{text} ({len(reached)}/{len(circuits)})"


def _mean(circuits: Sequence[SmallestCircuit]) -> Ratio | None:
    sizes = [float(one.size) for one in circuits if one.size]
    return geometric_mean(sizes) if sizes else None


def _whole_number(mean: Ratio | None) -> str:
    return "" if mean is None else f"{mean.value:,.0f}"


def _ratio(ratio: Ratio | None) -> str:
    """`18.2 (9.1–36.4), n = 12`."""
    if ratio is None:
        return "–"
    ends = "" if ratio.low is None else f" ({_figures(ratio.low)}–{_figures(ratio.high)})"
    return f"{_figures(ratio.value)}{ends}, n = {ratio.n}"


def _figures(value: float | None) -> str:
    assert value is not None
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _methods(frontier: Frontier) -> str:
    first, *others = frontier.methods
    arms = [arm.name for arm in frontier.arms]
    lines = [
        [other, *(_ratio(frontier.between_methods(name, other, first)) for name in arms)]
        for other in others
    ]
    title = f"{frontier.unit.capitalize()} of others' circuits over those of {first}"
    return f"{title}, in the same model:\n\n{_grid(['method', *arms], lines)}"


def _capability(frontier: Frontier) -> str:
    """A row for each arm: how well it is trained, and how large its circuits are (Figure 3)."""
    arms, methods = frontier.arms, frontier.methods
    names = [arm.name for arm in arms]
    excess = {arm.name: sum(arm.excess.values()) / len(arm.excess) for arm in arms}
    sizes: dict[str, dict[str, float]] = {}
    for method in methods:
        means = {name: _mean(_on_shared_tasks(frontier, method, name, names)) for name in names}
        sizes[method] = {name: mean.value for name, mean in means.items() if mean is not None}
    lines = [
        [
            arm.name,
            _one_or_range([f"{n:,}" for n in sorted(set(arm.nonzeros))]),
            number(excess[arm.name], 4),
            *(_beside_others(arm.name, excess, sizes[method]) for method in methods),
        ]
        for arm in sorted(arms, key=lambda arm: excess[arm.name])
    ]
    table = _grid(["arm", "nonzero weights", "excess", *methods], lines)
    return (
        f"Capability against size: mean excess, and geometric mean of {frontier.unit} on the tasks "
        "that all arms\nsolve; † where no other arm has both less:\n\n" + table
    )


def _beside_others(arm: str, excess: Mapping[str, float], sizes: Mapping[str, float]) -> str:
    """The size of an arm's circuits, with a dagger where no other arm beats it in both respects."""
    if arm not in sizes:
        return "–"
    own = (excess[arm], sizes[arm])
    others = [(excess[name], size) for name, size in sizes.items() if name != arm]
    beaten = any(a <= own[0] and b <= own[1] and (a, b) != own for a, b in others)
    return f"{sizes[arm]:,.0f}" + ("" if beaten else " †")


def _remarks(frontier: Frontier) -> list[str]:
    remarks = [
        "Ratios are geometric means over task, training seed and seed where both circuits reach "
        "the loss (n), with 95 % intervals (Student's t on logarithms)."
    ]
    if not all(one.fresh for one in frontier.circuits):
        remarks.append(
            "Some circuits were searched for on the test pairs, so their losses are not fresh."
        )
    seeds = {seed for arm in frontier.arms for seed in arm.excess}
    groups = [[arm.excess[seed] for arm in frontier.arms if seed in arm.excess] for seed in seeds]
    apart = max((max(one) - min(one) for one in groups), default=0.0)
    if apart > 0:
        text = _task_losses_apart(frontier)
        remarks.append(
            f"Models of equal training seed are at most {number(apart, 4)} nats of excess apart"
            f"{text}."
        )
    return remarks


def _task_losses_apart(frontier: Frontier) -> str:
    """`, and 0.024 of task loss (quotes)`: the largest difference of whole models of equal seed."""
    losses: dict[tuple[tuple[str, str], int], dict[str, float]] = {}
    for one in frontier.circuits:
        losses.setdefault((one.pair[:2], one.pair[2]), {})[one.arm] = one.whole
    apart = {
        key: max(of_arms.values()) - min(of_arms.values())
        for key, of_arms in losses.items()
        if len(of_arms) > 1
    }
    if not apart:
        return ""
    worst = max(apart, key=apart.__getitem__)
    return f", and {number(apart[worst], 3)} of task loss ({_task(worst[0])})"


def _task(task: tuple[str, str]) -> str:
    return task[0]


def _grid(headers: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return grid(headers, lines, "github", left=[0], tight=True)

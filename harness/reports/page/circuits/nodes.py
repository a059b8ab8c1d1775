"""What nodes of a circuit do, as a page shows it: a table, patterns, and activations by token."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.circuits.circuit import Circuit
from harness.circuits.drawing.channels import MOST_DRAWN
from harness.circuits.gates.space import GatedSpace
from harness.reports.page.circuits.features import FeatureShown, features_shown
from harness.reports.page.examples import Word
from harness.spec.printable import printable

COLOURED = 2
"""Elements whose activations are shown without a choice: those that differ most."""

LEVELS = 99
"""Activations in the page are whole numbers, this of the largest of their element."""

SIDES = ("clean", "corrupted")


@dataclass(frozen=True)
class NodeRow:
    """A line of the table; `head` has the pattern, `values` are activations by prompt.

    Numbers are signed texts, empty where not told; `sorts` the numbers behind them.
    """

    name: str
    fields: tuple[tuple[str, str], ...]
    head: str = ""
    values: Mapping[str, str] | None = None
    largest: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing as a line of the table; its activations are shown elsewhere."""
        return not any(text for text, _ in self.fields)


@dataclass(frozen=True)
class Strip:
    """What an element carries at each token of a prompt, or of the difference of both."""

    name: str
    tokens: tuple[Word, ...]
    values: tuple[float, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True)
class NodesShown:
    """`headings` of the table, its rows, and the example pair.

    `patterns`: JSON of stored patterns by head. `strips`: by element, of both prompts and their
    difference. `said`: what the numbers are of; `problems`: what could not be told, and why.
    """

    said: tuple[str, ...]
    problems: tuple[str, ...]
    headings: tuple[str, ...]
    rows: tuple[NodeRow, ...]
    example: tuple[tuple[str, tuple[Word, ...]], ...]
    patterns: str
    strips: tuple[tuple[str, tuple[Strip, ...]], ...]
    features: tuple[FeatureShown, ...]


def nodes_shown(circuit: Circuit, stored: Mapping[str, Any]) -> NodesShown:
    """What `nodes.json` holds (`harness.runs.nodes.file`), for a page."""
    example = _example(stored["example"])
    carried = {one["name"]: one for one in stored["carried"] or ()}
    told = {one["name"]: _changes(one, stored) for one in stored["nodes"]}
    columns = _columns(stored, told)
    heads = _heads(circuit)
    readers = _readers(circuit, heads, stored["patterns"])
    names = _in_order(circuit, dict.fromkeys([*told, *carried, *readers]))
    rows = tuple(
        _row(name, told.get(name, {}), columns, carried.get(name), heads, example) for name in names
    )
    return NodesShown(
        tuple(_said(stored, told)),
        tuple(f"{_PROBLEMS[what]} {why}" for what, why in stored["problems"].items()),
        tuple(heading for heading, _ in columns),
        rows,
        example,
        json.dumps(stored["patterns"], sort_keys=True) if stored["patterns"] else "",
        tuple((name, _strips(carried[name], example)) for name in list(carried)[:COLOURED]),
        features_shown(stored),
    )


def _changes(node: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """A stored node, with how the metric changes in place of what it is without the node."""
    values = dict(node)
    for key, whole in (("without", "circuit"), ("model_without", "model")):
        if values[key] is not None:
            values[key] -= stored[whole]
    return values


def _in_order(circuit: Circuit, names: Iterable[str]) -> list[str]:
    """Elements in order of computation, components in that of the model, the input first."""
    space = circuit.space
    order = {name: at for at, name in enumerate(space.components)}
    if isinstance(space, GatedSpace):
        order |= {name: at for at, name in enumerate(space.names)}
    return sorted(names, key=lambda name: order.get(name, -1))


_PROBLEMS = {
    "worth": "Not told what nodes are worth:",
    "writes": "Not told what nodes write to the answers:",
    "trace": "Not traced:",
}


def _said(stored: Mapping[str, Any], told: Mapping[str, Any]) -> list[str]:
    """What the numbers of the table are of."""
    said = []
    metric = stored["metric"]
    if stored["n"]:
        said.append(
            f"{metric} is {stored['circuit']:.4g} of the circuit and {stored['model']:.4g} of the "
            f"model, means over {stored['n']} pairs; without it: how that changes when the node is "
            "ablated."
        )
    if any(one["writes"] is not None for one in told.values()):
        said.append(
            f"Writes: what the node itself adds to the logit difference of right and wrong answers,"
            f" {stored['logit_diff']:.4g} over {stored['n_writes']} prompts, in the model's run "
            "with the scale of the last norm held."
        )
    if stored["patterns"]:
        said.append("Looks at: where the answer is read, in the model's run on the example.")
    return said


Columns = Sequence[tuple[str, str]]
"""Headings and the stored keys below them."""


def _columns(stored: Mapping[str, Any], told: Mapping[str, Any]) -> Columns:
    """Those that hold anything."""
    wanted = [
        ("circuit without it", "without"),
        ("model without it", "model_without"),
        ("writes", "writes"),
        ("looks at", "looks"),
    ]
    return [
        (heading, key)
        for heading, key in wanted
        if any(one[key] not in (None, []) for one in told.values())
        or (key == "looks" and stored["patterns"])
    ]


def _row(
    name: str,
    node: Mapping[str, Any],
    columns: Columns,
    carried: Mapping[str, Any] | None,
    heads: Mapping[str, str],
    example: Sequence[tuple[str, Sequence[Word]]],
) -> NodeRow:
    head, values, largest = heads.get(name, name if ".h" in name else ""), None, ""
    if carried is not None:
        most = max((abs(x) for side in SIDES for x in carried[side]), default=0.0)
        largest = f"{most:.4g}"
        values = {side: _levels(carried[side], most) for side in SIDES}
    fields = tuple(_field(key, node, example) for _, key in columns)
    return NodeRow(name, fields, head, values, largest)


def _field(
    key: str, node: Mapping[str, Any], example: Sequence[tuple[str, Sequence[Word]]]
) -> tuple[str, str]:
    """Text, and what it is sorted by."""
    value = node.get(key)
    if value is None:
        return "", ""
    if key == "looks":
        tokens = example[0][1]
        named = [
            f"{tokens[int(at)].text if 0 <= at < len(tokens) else '…'} {share:.0%}"
            for at, share in value
        ]
        return ", ".join(named), f"{value[0][1]:.6g}" if value else ""
    return f"{value:+.3f}" if abs(value) >= 5e-4 else "0", f"{value:.6g}"


def _levels(values: Sequence[float], most: float) -> str:
    return " ".join(str(round(LEVELS * x / most)) if most else "0" for x in values)


def _heads(circuit: Circuit) -> dict[str, str]:
    """The head that a channel of queries, keys or values belongs to, by its name."""
    space = circuit.space
    if not isinstance(space, GatedSpace):
        return {}
    return {
        name: owner
        for gates in space.gates
        if gates.heads is not None and not gates.shared
        for name, owner in zip(gates.names(), gates.owners(), strict=True)
    }


def _readers(circuit: Circuit, heads: Mapping[str, str], patterns: Mapping[str, Any]) -> list[str]:
    """Channels of a drawn circuit whose head's pattern is stored."""
    if circuit.size > MOST_DRAWN:
        return []
    return [name for name in circuit.elements() if heads.get(name) in patterns]


# ---------------------------------------------------------------- the example
def _example(stored: Mapping[str, Any]) -> tuple[tuple[str, tuple[Word, ...]], ...]:
    read = set(stored["read"])
    both = zip(stored["clean"], stored["corrupted"], strict=True)
    differ = [one != other for one, other in both]
    return tuple(
        (
            side,
            tuple(
                Word(printable(text), differ[at], at in read)
                for at, text in enumerate(stored[side])
            ),
        )
        for side in SIDES
    )


def _strips(
    carried: Mapping[str, Any],
    example: Sequence[tuple[str, tuple[Word, ...]]],
) -> tuple[Strip, ...]:
    """Both prompts and their difference, in units of the largest activation of either."""
    most = max((abs(x) for side in SIDES for x in carried[side]), default=0.0)
    lines = [(side, tokens, tuple(carried[side])) for side, tokens in example]
    apart = [a - b for a, b in zip(carried[SIDES[0]], carried[SIDES[1]], strict=True)]
    lines.append(("difference", example[0][1], tuple(apart)))
    return tuple(
        Strip(
            name,
            tokens,
            values,
            tuple(max(-1.0, min(1.0, x / most)) if most else 0.0 for x in values),
        )
        for name, tokens, values in lines
    )

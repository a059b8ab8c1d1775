"""The granularities of circuits: one line per granularity, readable without torch.

A granularity is a package: a torch-free `GranularityInfo`, a `Space` of named elements, and a
`PatchableModel` that keeps or replaces them. The built-in ones stand in `BUILT_IN`; an installed
package adds one with an entry point `name = "package.module:INFO"` in the group
`harness.granularities`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from operator import attrgetter
from typing import Any, cast

from harness.errors import HarnessError, NotFound

GROUP = "harness.granularities"

BUILT_IN = {
    "edge": "harness.circuits.edges.info:INFO",
    "channel": "harness.circuits.gates.info:INFO",
    "feature": "harness.circuits.gates.features_info:INFO",
}
DEFAULT = "edge"
DICTIONARIES = "dictionaries"
"""The capability of granularities that are made of the features of dictionaries."""
BY_GRANULARITY = ("component", "ablation", "positions")
"""Fields of a task's evaluation whose legal values depend on its granularity."""


@dataclass(frozen=True)
class GranularityInfo:
    """The choices that specs have under a granularity, and where its code is.

    `unit`: what its elements are counted in (plural). `components`, `ablations`, `positions`:
    legal values of these fields of a task's evaluation, the first being the default.
    `space` and `patchable`: `module:function` of what makes its `Space` from a file's header, and
    its `PatchableModel` from a model and its evaluation (`harness.circuits.patchable`); imported
    only when needed, and torch with them. `capabilities`: what some methods need of a patchable
    model beyond that protocol (`MethodInfo.needs`); `edges` promises an `EdgeModel`;
    with `dictionaries`, an evaluation names a `dictionary`.
    """

    name: str
    unit: str
    components: tuple[str, ...]
    ablations: tuple[str, ...]
    positions: tuple[str, ...]
    space: str
    patchable: str
    capabilities: frozenset[str] = frozenset()

    def legal(self, field: str) -> tuple[str, ...]:
        """The legal values of one of the fields `BY_GRANULARITY`."""
        return {
            "component": self.components,
            "ablation": self.ablations,
            "positions": self.positions,
        }[field]


def granularities() -> tuple[str, ...]:
    """Every granularity that a spec can name, the built-in ones first."""
    return (*BUILT_IN, *(name for name in sorted(_plug_ins()) if name not in BUILT_IN))


def granularity(name: str) -> GranularityInfo:
    """The granularity of a name.

    Raises `NotFound` for an unknown one, `HarnessError` if a package's cannot be loaded.
    """
    if name in BUILT_IN:
        return cast(GranularityInfo, named(BUILT_IN[name]))
    point = _plug_ins().get(name)
    if point is None:
        raise NotFound(f"unknown granularity {name!r}; known: {', '.join(granularities())}")
    try:
        info = point.load()
    except Exception as error:
        raise HarnessError(f"granularity {name!r} cannot be loaded: {error}") from error
    if not isinstance(info, GranularityInfo) or info.name != name:
        raise HarnessError(f"entry point {point.value} is not the granularity {name!r}")
    return info


def working(names: Iterable[str]) -> Iterator[GranularityInfo]:
    """The granularities that can be loaded."""
    for name in names:
        with suppress(HarnessError):
            yield granularity(name)


def legal_values_of(field: str, names: Iterable[str] = BUILT_IN) -> list[str]:
    """What a field of an evaluation can be at any of the granularities, each value once."""
    values = (value for info in working(names) for value in info.legal(field))
    return list(dict.fromkeys(values))


def legal_values(info: GranularityInfo) -> dict[str, Any]:
    """The JSON Schema of an evaluation's fields where it is of this granularity."""
    condition: dict[str, Any] = {"properties": {"granularity": {"const": info.name}}}
    if info.name != DEFAULT:
        condition["required"] = ["granularity"]
    keys: dict[str, Any] = {name: {"enum": list(info.legal(name))} for name in BY_GRANULARITY}
    keys["component"]["default"] = info.components[0]
    return {"if": condition, "then": {"properties": keys}}


def refused(granularity_name: str, values: Mapping[str, Any]) -> str | None:
    """Why a granularity does not take these fields of an evaluation; None if it does."""
    info = granularity(granularity_name)
    for name in BY_GRANULARITY:
        if name in values and values[name] not in info.legal(name):
            legal = ", ".join(info.legal(name))
            return f"{name} {values[name]!r} is not one of granularity {info.name!r}: {legal}"
    return None


def dictionary_problem(granularity_name: str, dictionary: object) -> str | None:
    """Why an evaluation cannot have, or be without, a `dictionary`; None if it can."""
    wants = DICTIONARIES in granularity(granularity_name).capabilities
    if wants and dictionary is None:
        return (
            f"granularity {granularity_name!r} needs `dictionary`: the name or path of "
            "dictionaries of the model; `harness list dictionaries` lists them"
        )
    if not wants and dictionary is not None:
        return f"granularity {granularity_name!r} has no features: leave `dictionary` out"
    return None


def plug_in(name: str) -> str | None:
    """Package and version that a granularity's code comes from, or None for a built-in one."""
    point = None if name in BUILT_IN else _plug_ins().get(name)
    return f"{point.dist.name} {point.dist.version}" if point and point.dist else None


def _plug_ins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def named(where: str) -> Any:
    """What `module:name` (or `module:Class.method`) names; imports the module."""
    module, _, name = where.partition(":")
    return attrgetter(name)(import_module(module))

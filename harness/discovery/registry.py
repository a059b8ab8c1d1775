"""Methods by name: the built-in ones, and those of installed packages (`harness.methods`).

A built-in method is a module in a room of this package that has an `INFO = MethodInfo(…)`; there
is no list of them. A package adds a method with an entry point `kind = "package.module:Class"` in
the group `harness.methods`; the class follows `harness.discovery.problem.DiscoveryMethod`, and may
have a `MethodInfo` (`harness.discovery.info`). Modules without an `INFO` are not imported, and a
package is imported only when a spec names its method.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, cast

import harness.discovery as rooms
from harness.discovery.info import MethodInfo
from harness.errors import HarnessError, NotFound

if TYPE_CHECKING:
    from harness.discovery.problem import DiscoveryMethod

GROUP = "harness.methods"

_HAS_INFO = re.compile(r"^INFO = MethodInfo\(", re.MULTILINE)


@cache
def built_in() -> Mapping[str, MethodInfo]:
    """The built-in methods by kind, in alphabetical order."""
    modules: dict[str, str] = {}
    infos: dict[str, MethodInfo] = {}
    for name in _method_modules():
        info = import_module(name).INFO
        if info.kind in infos:
            raise HarnessError(f"{modules[info.kind]} and {name} are both method {info.kind!r}")
        infos[info.kind], modules[info.kind] = info, name
    return dict(sorted(infos.items()))


def _method_modules() -> Iterator[str]:
    """Names of the modules that have an `INFO`."""
    for room in iter_modules(rooms.__path__, f"{rooms.__name__}."):
        if room.ispkg:
            for module in iter_modules(import_module(room.name).__path__, f"{room.name}."):
                if _HAS_INFO.search(_source(module.name)):
                    yield module.name


def _source(module: str) -> str:
    """The text of a module, which is not imported."""
    spec = find_spec(module)
    loader: Any = spec.loader if spec else None
    return cast(str, loader.get_source(module)) or ""


def kinds() -> tuple[str, ...]:
    """Every kind of method that can be named in a spec, the built-in ones first."""
    return (*built_in(), *(name for name in sorted(_plug_ins()) if name not in built_in()))


def info_of(kind: str) -> MethodInfo | None:
    """What a method says of itself; None for an unknown one and for a package that says nothing.

    Raises `HarnessError` if a package's method cannot be loaded or describes another kind.
    """
    if kind in built_in():
        return built_in()[kind]
    point = _plug_ins().get(kind)
    if point is None:
        return None
    info = _info_beside(_loaded(kind, point))
    if info is not None and info.kind != kind:
        raise HarnessError(
            f"entry point {point.value} describes method {info.kind!r}, not {kind!r}"
        )
    return info


def plug_in(kind: str) -> str | None:
    """Package and version that a method's code comes from, or None for a built-in one."""
    point = None if kind in built_in() else _plug_ins().get(kind)
    return f"{point.dist.name} {point.dist.version}" if point and point.dist else None


def make_method(kind: str, params: Mapping[str, Any]) -> DiscoveryMethod:
    """Build a method with its parameters.

    Raises `NotFound` for an unknown kind, `HarnessError` if a plug-in cannot be imported or
    does not take the parameters.
    """
    make: Any
    if kind in built_in():
        make = built_in()[kind].method
    elif point := _plug_ins().get(kind):
        loaded = _loaded(kind, point)
        make = loaded.method if isinstance(loaded, MethodInfo) else loaded
    else:
        raise NotFound(f"unknown method kind {kind!r}; known: {', '.join(kinds())}")
    try:
        method = make(**params)
    except (TypeError, ValueError) as error:
        raise HarnessError(f"method {kind!r} does not take these params: {error}") from error
    if not callable(getattr(method, "discover", None)) and dataclasses.is_dataclass(method):
        raise HarnessError(
            f"method {kind!r} cannot be used: {type(method).__name__} has no method `discover`"
        )
    return cast("DiscoveryMethod", method)


def params_of_plug_in(kind: str) -> type | None:
    """The dataclass of a package's method, whose fields are its params; None for all others."""
    point = None if kind in built_in() else _plug_ins().get(kind)
    if point is None:
        return None
    loaded = _loaded(kind, point)
    cls = loaded.method if isinstance(loaded, MethodInfo) else loaded
    return cls if isinstance(cls, type) and dataclasses.is_dataclass(cls) else None


# ---------------------------------------------------------------- installed packages
def _plug_ins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _loaded(kind: str, point: EntryPoint) -> Any:
    try:
        return point.load()
    except Exception as error:
        owner = point.dist.name if point.dist else "an unknown package"
        raise HarnessError(
            f"method {kind!r} of package {owner} cannot be loaded: {error}"
        ) from error


def _info_beside(loaded: Any) -> MethodInfo | None:
    """The info that an entry point names, or that is an attribute of its class or module."""
    module = sys.modules.get(getattr(loaded, "__module__", ""))
    beside = getattr(module, "INFO", None)
    for one in (loaded, getattr(loaded, "info", None)):
        if isinstance(one, MethodInfo):
            return one
    return beside if isinstance(beside, MethodInfo) and beside.method is loaded else None

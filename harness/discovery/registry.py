"""Methods by name: the built-in ones, and those of installed packages (`harness.methods`).

A package adds a method with an entry point `kind = "package.module:Class"` in the group
`harness.methods`; the class follows `harness.discovery.problem.DiscoveryMethod`. Nothing is
imported until it is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, cast

from harness.errors import HarnessError, NotFound

if TYPE_CHECKING:
    from harness.discovery.problem import DiscoveryMethod

GROUP = "harness.methods"

BUILT_IN = {
    "random": "harness.discovery.controls.random:Random",
    "random_paths": "harness.discovery.controls.random_paths:RandomPaths",
    "activation_patching": "harness.discovery.patching.activation_patching:ActivationPatching",
    "eap": "harness.discovery.attribution.eap:Eap",
    "eap_ig": "harness.discovery.attribution.eap_ig:EapIg",
    "mask_gradient_ig": "harness.discovery.attribution.mask_gradient_ig:MaskGradientIg",
    "information_flow_routes": (
        "harness.discovery.attribution.information_flow_routes:InformationFlowRoutes"
    ),
    "node_patching": "harness.discovery.patching.node_patching:NodePatching",
    "node_attribution": "harness.discovery.attribution.node_attribution:NodeAttribution",
    "acdc": "harness.discovery.acdc.acdc:Acdc",
    "edge_pruning": "harness.discovery.masks.edge_pruning:EdgePruning",
    "subnetwork_probing": "harness.discovery.masks.subnetwork_probing:SubnetworkProbing",
    "uniform_gradient_sampling": (
        "harness.discovery.masks.uniform_gradient_sampling:UniformGradientSampling"
    ),
}

PER_TOKEN = (
    "random",
    "random_paths",
    "activation_patching",
    "eap",
    "eap_ig",
    "mask_gradient_ig",
    "edge_pruning",
    "subnetwork_probing",
    "uniform_gradient_sampling",
)
"""Built-in kinds that score edges of each position on its own (`positions: per_token`)."""


def _plug_ins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def kinds() -> tuple[str, ...]:
    """Every kind of method that can be named in a spec."""
    return (*BUILT_IN, *(name for name in sorted(_plug_ins()) if name not in BUILT_IN))


def per_token_problem(wanted: Iterable[str]) -> str | None:
    """Why kinds of methods cannot be used with `positions: per_token`; None if all can.

    A plug-in is let through: the shape of what it finds is checked once it has run.
    """
    asked = set(wanted)
    unable = [kind for kind in BUILT_IN if kind in asked and kind not in PER_TOKEN]
    if not unable:
        return None
    return (
        f"{', '.join(unable)} cannot score the edges of each position on its own (`positions: "
        f"per_token`); these kinds of methods can: {', '.join(PER_TOKEN)}"
    )


def plug_in(kind: str) -> str | None:
    """Package and version that a method's code comes from, or None for a built-in one."""
    point = None if kind in BUILT_IN else _plug_ins().get(kind)
    return f"{point.dist.name} {point.dist.version}" if point and point.dist else None


def make_method(kind: str, params: Mapping[str, Any]) -> DiscoveryMethod:
    """Build a method with its parameters.

    Raises `NotFound` for an unknown kind, `HarnessError` if a plug-in cannot be imported or
    does not take the parameters.
    """
    if kind in BUILT_IN:
        module, _, name = BUILT_IN[kind].partition(":")
        made = getattr(import_module(module), name)
    elif point := _plug_ins().get(kind):
        try:
            made = point.load()
        except Exception as error:
            owner = point.dist.name if point.dist else "an unknown package"
            raise HarnessError(
                f"method {kind!r} of package {owner} cannot be loaded: {error}"
            ) from error
    else:
        raise NotFound(f"unknown method kind {kind!r}; known: {', '.join(kinds())}")
    try:
        return cast("DiscoveryMethod", made(**params))
    except TypeError as error:
        raise HarnessError(f"method {kind!r} does not take these params: {error}") from error

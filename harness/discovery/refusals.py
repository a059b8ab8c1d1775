"""Why methods cannot be used for what is asked, as far as their `MethodInfo` tells.

Specs and plans are refused with these texts before any model is there, so nothing here imports
torch; methods refuse too, for problems that come from elsewhere. A method without an info, of an
installed package, is let through.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from harness.circuits.edges.info import INFO as EDGES
from harness.circuits.edges.info import NO_SPARSITY
from harness.discovery.info import MethodInfo
from harness.discovery.registry import built_in, info_of
from harness.metrics import DISTANCES
from harness.spec.granularity import granularity
from harness.spec.types import (
    Ablation,
    DictionarySpec,
    Evaluation,
    LoadDictionary,
    Metric,
    Model,
    Objective,
    TrainModel,
)

if TYPE_CHECKING:
    from harness.spec.load import Loaded

_TRACED = re.compile(r"attention|mlp|[am]\d+(\.out)?|m\d+\.hidden")
"""Sites of dictionaries that a trace can use (`harness.tracing.run` refuses the others)."""


def method_problem(
    kind: str, params: Mapping[str, Any], choices: Evaluation, post_norms: bool
) -> str | None:
    """Why a method cannot find what a task asks for; None if it can.

    `post_norms`: whether the model normalises what the heads of a layer add.
    """
    return (
        granularity_problem([kind], choices.granularity)
        or (per_token_problem([kind]) if choices.positions == "per_token" else None)
        or (post_norms_problem([kind]) if post_norms else None)
        or objective_problem(kind, params, choices.metric, choices.ablation)
    )


def per_token_problem(kinds: Iterable[str]) -> str | None:
    """Why kinds of methods cannot be used with `positions: per_token`; None if all can."""
    return _problem(
        kinds,
        lambda info: info.per_token,
        "cannot score the edges of each position on its own (`positions: per_token`)",
    )


def granularity_problem(kinds: Iterable[str], name: str) -> str | None:
    """Why kinds of methods cannot find circuits of a granularity; None if all can."""
    capabilities = granularity(name).capabilities

    def can(info: MethodInfo) -> bool:
        return info.needs is None or info.needs in capabilities

    unable = [info for kind in kinds if (info := info_of(kind)) and not can(info)]
    only = " or ".join(sorted({info.elements for info in unable}))
    text = f"cannot find circuits of granularity {name!r}, only of {only}"
    return _problem([info.kind for info in unable], can, text)


def tracing_problem(kinds: Iterable[str], dictionaries: Loaded[DictionarySpec]) -> str | None:
    """Why kinds of methods cannot trace with dictionaries; None if all can, or do not trace.

    None also for dictionaries that are loaded, whose spec does not list their sites.
    """
    spec = dictionaries.spec
    traced = [kind for kind in kinds if (info := info_of(kind)) and info.traces]
    if not traced or isinstance(spec, LoadDictionary):
        return None
    for index, site in enumerate(spec.sites):
        if problem := _untraced(site, spec.sites):
            place = dictionaries.source.issue(("sites", index), "")
            text = (
                f"cannot use the dictionary {dictionaries.path.stem!r}, which has the site "
                f"{site!r} ({place.file}:{place.line}:{place.column}): {problem}"
            )
            return _problem(traced, lambda info: not info.traces and info.needs != "edges", text)
    return None


def _untraced(site: str, sites: Sequence[str]) -> str | None:
    """Why a trace cannot use a dictionary of a site, as specs name it; None if it can."""
    if not _TRACED.fullmatch(site):
        return (
            "traces are made of what attention and MLPs write; name sites such as attention, mlp, "
            "a0, m0 or m0.hidden there"
        )
    name, _, kind = site.partition(".")
    written = {"mlp", name, f"{name}.out"} & set(sites)
    if kind == "hidden" and written:
        return f"that MLP's output has one too ({', '.join(sorted(written))}); keep one of them"
    return None


def post_norms_problem(kinds: Iterable[str]) -> str | None:
    """Why kinds of methods do not run on models that normalise what heads add; None if all do."""
    return _problem(
        kinds,
        lambda info: info.post_norms,
        "cannot be used with models that normalise what the heads of a layer add (Gemma 2 and 3)",
    )


def processes_problem(kinds: Iterable[str]) -> str | None:
    """Why processes cannot share the prompts of kinds of methods; None if they can.

    Of a method that says nothing of itself it is not known, so it cannot.
    """
    kinds = list(kinds)
    silent = sorted({kind for kind in kinds if info_of(kind) is None})
    if silent:
        return (
            f"{', '.join(silent)} does not say that several processes can share its prompts "
            "(`processes` of its MethodInfo): run it in one process"
        )
    return _problem(
        kinds,
        lambda info: info.processes,
        "cannot share prompts between processes (`runtime.processes`): run without torchrun",
    )


def shards_problem(kinds: Iterable[str]) -> str | None:
    """Why kinds of methods do not run on weights in shards; None if they do."""
    return _problem(
        kinds,
        lambda info: info.shards,
        "takes weights out of layers, so it does not run where these lie in shards "
        "(`runtime.shards`): leave `shards` at 1",
    )


def sparsity_problem(choices: Evaluation, model: Model) -> str | None:
    """Why circuits of a model that is yet to be trained cannot be of these elements."""
    sparse = isinstance(model, TrainModel) and model.architecture.activation_sparsity is not None
    return NO_SPARSITY if sparse and choices.granularity == EDGES.name else None


def _problem(kinds: Iterable[str], can: Callable[[MethodInfo], bool], text: str) -> str | None:
    unable = [kind for kind in dict.fromkeys(kinds) if (info := info_of(kind)) and not can(info)]
    if not unable:
        return None
    able = [kind for kind, info in built_in().items() if can(info)]
    return f"{', '.join(sorted(unable))} {text}; these kinds of methods can: {', '.join(able)}"


def objective_problem(
    kind: str,
    params: Mapping[str, Any],
    metric: Metric | None = None,
    ablation: Ablation | None = None,
) -> str | None:
    """Why a method's scores would all be 0; None if they need not be.

    `metric` and `ablation` are those of a task; without them the problem is one of the method's
    spec, for every task. `params` are all of the kind's own.
    """
    info = info_of(kind)
    if info is None or not info.at_model(params, ablation):
        return None
    objective = params.get("objective", "metric")
    return distance_problem(kind, metric if objective == "metric" else objective)


def distance_problem(method: str, loss: str | None) -> str | None:
    """Why a loss cannot be attributed by its gradient at the whole model; None if it can."""
    if loss not in DISTANCES:
        return None
    others = [
        kind
        for kind, info in built_in().items()
        if info.objective == "attributed" and not info.at_model(info.defaults, None)
    ]
    losses = [name for name in get_args(Objective) if name not in (*DISTANCES, "metric")]
    return (
        f"method {method!r} takes the gradient at the whole model, where {loss!r}, a "
        "distance to that model, is at its minimum: every score would be 0. Choose "
        f"objective {' or '.join(losses)}, or a method that looks elsewhere ({', '.join(others)})"
    )

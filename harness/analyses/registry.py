"""The analyses by name. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from harness.errors import NotFound
from harness.spec.issues import unknown

if TYPE_CHECKING:
    from harness.analyses.report import Analysis
    from harness.analyses.studied import Studied


@dataclass(frozen=True)
class AnalysisInfo:
    """What an analysis says, and the module of this package whose `analyse` computes it.

    `several`: it compares dictionaries, of which the first is the one that is studied.
    """

    title: str
    module: str
    several: bool = False


ANALYSES: Mapping[str, AnalysisInfo] = {
    "logit": AnalysisInfo("what a logit of a prompt is made of, directly", "local.logit"),
    "mlp": AnalysisInfo("what a feature of an MLP is made of, at its token", "local.mlp"),
    "ov": AnalysisInfo("what a feature of attention is made of, across tokens", "local.ov"),
    "qk": AnalysisInfo("what an attention score is made of, pair by pair", "local.qk"),
    "circuit": AnalysisInfo("a prompt's circuit, from a logit to embeddings", "local.circuit"),
    "flow": AnalysisInfo("which families of features pass on to which, by layer", "flow"),
    "attention": AnalysisInfo(
        "where heads look, and how much parity decides it", "distance.attention"
    ),
    "parity": AnalysisInfo("what makes heads tell even distances from odd ones", "distance.parity"),
    "signs": AnalysisInfo("signs of what is carried over even and odd distances", "distance.signs"),
    "positions": AnalysisInfo(
        "parity in position embeddings, and what reads it", "distance.positions"
    ),
    "sufficiency": AnalysisInfo("whether lower features suffice for higher ones", "sufficiency"),
    "concentration": AnalysisInfo("by how few parts targets are driven", "concentration"),
    "rules": AnalysisInfo("whether what makes an output is about what it depends on", "rules"),
    "probes": AnalysisInfo("how much of probes' directions features explain", "probes"),
    "splits": AnalysisInfo("which features split in larger dictionaries", "splits", several=True),
    "stability": AnalysisInfo(
        "whether other dictionaries give the same features and circuits", "stability", several=True
    ),
}


def info_of_analysis(name: str) -> AnalysisInfo:
    """Raises `NotFound`, with a similar name, if there is no such analysis."""
    if name not in ANALYSES:
        raise NotFound(unknown("analysis", name, ANALYSES))
    return ANALYSES[name]


def analysis_of(name: str) -> Callable[[Studied], Analysis]:
    """The function behind a name, imported now."""
    module = import_module(f"harness.analyses.{info_of_analysis(name).module}")
    analyse: Callable[[Studied], Analysis] = module.analyse
    return analyse

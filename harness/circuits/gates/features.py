"""Granularity `feature`: the features of dictionaries, and what these miss.

features                  features; errors always stay, so that the full circuit is the model
features_and_errors       also the error of each site, as one element `{site}.error`
features_without_errors   features; errors are always replaced as dropped features are, so that the
                          full circuit is the model only as well as the dictionaries code it

A feature is one element, shared by all positions; active or not, a full circuit keeps it, so that
means in place of inactive features cannot move the full circuit. `error` is x − decode(encode(x)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from harness.circuits.background import Background
from harness.circuits.baseline import Baseline
from harness.circuits.gates.codes import Code, Coded
from harness.circuits.gates.features_info import INFO
from harness.circuits.gates.model import GatedModel
from harness.circuits.gates.space import GatedSpace, Gates, Rest
from harness.datasets.pairs import PromptPairs
from harness.dictionaries.dictionary import Dictionary, DictionarySet
from harness.errors import HarnessError
from harness.models.transformer import Transformer
from harness.spec.types import Evaluation

RESTS: dict[str, Rest] = {
    "features": "kept",
    "features_and_errors": "element",
    "features_without_errors": "dropped",
}


@dataclass(frozen=True)
class Features:
    """Every feature is an element, and the error is the rest."""

    dictionary: Dictionary

    def encode(self, x: Tensor) -> Coded:
        """Code [..., F] and error [..., width]."""
        code = self.dictionary.encode(x)
        return Coded(code, x - self.dictionary.decode(code))

    def decode(self, elements: Tensor) -> Tensor:
        """The sum of directions, with the decoder's bias, which no circuit can drop."""
        return self.dictionary.decode(elements)


def patchable(
    model: Transformer,
    choices: Evaluation,
    pairs: Sequence[PromptPairs],
    background: Background | Baseline | None = None,
    *,
    dictionaries: DictionarySet | None = None,
) -> GatedModel:
    """The features of a model's dictionaries; all positions share a feature's mask.

    Raises `HarnessError` without dictionaries.
    """
    if not dictionaries:
        raise HarnessError(
            "circuits of features need dictionaries of the model: name a spec under "
            "`evaluation.dictionary`"
        )
    rest = RESTS[choices.component]
    gates = [
        Gates(site, one.features, rest=rest, width=one.width) for site, one in dictionaries.items()
    ]
    space = GatedSpace.of(INFO.name, INFO.unit, gates)
    codes: dict[str, Code] = {site: Features(one) for site, one in dictionaries.items()}
    return GatedModel(model, space, codes, background)

"""What is interpreted: directions of a site, each with a strength that is never negative."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from harness.dictionaries.dictionary import DictionarySet, random_dictionary
from harness.models.config import TransformerConfig
from harness.models.sites import sites


@dataclass(frozen=True)
class StudySubject:
    """`size` features of a site: `code` turns what it holds [N, width] into strengths [N, size].

    `kind`: features, neurons or random.
    """

    kind: str
    site: str
    size: int
    code: Callable[[Tensor], Tensor]

    @property
    def name(self) -> str:
        """What tables call it."""
        return self.site if self.kind == "features" else f"{self.site} ({self.kind})"


def dictionary_subjects(dictionaries: DictionarySet) -> list[StudySubject]:
    """The features of dictionaries."""
    return [
        StudySubject("features", site, one.features, one.encode)
        for site, one in dictionaries.items()
    ]


def neuron_subjects(config: TransformerConfig) -> list[StudySubject]:
    """The neurons of every MLP, as far as they are positive: the baseline without a dictionary."""
    return [
        StudySubject("neurons", site.name, site.width, lambda hidden: hidden.clamp(min=0))
        for site in sites(config)
        if site.kind == "m.hidden"
    ]


def random_subjects(dictionaries: DictionarySet, active: Mapping[str, float]) -> list[StudySubject]:
    """As many random directions as each dictionary has features, and as many of them active.

    `active`: of each site's dictionary, features that are active at a token on average.
    """
    subjects = []
    for site, one in dictionaries.items():
        k = min(one.features, max(1, round(active[site])))
        drawn = random_dictionary(one.width, one.features, "topk", k=k, seed=0)
        drawn.to(one.decoder.device, one.decoder.dtype)
        # Around the mean that the dictionary has learned, as its own features are.
        drawn.decoder_bias.data.copy_(one.decoder_bias.data)
        subjects.append(
            StudySubject("random", site, one.features, drawn.requires_grad_(False).encode)
        )
    return subjects

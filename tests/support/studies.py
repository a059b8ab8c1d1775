"""A small random model with random dictionaries and made-up names, on games of Othello."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from harness.analyses.studied import AnalysisChoices, Studied
from harness.datasets.concepts import columns_of, concept_names, concept_source
from harness.datasets.open import open_data
from harness.datasets.pairs import TaskData
from harness.dictionaries.dictionary import DictionarySet
from harness.interpretation.names import FeatureName, FeatureNames
from harness.spec.load import Library
from support.slow_reference import small_model
from support.traces import dictionaries

FEATURES = 30


@cache
def othello() -> TaskData:
    return open_data(Library().task("othello_moves"))


def names_of(codes: DictionarySet, seed: int = 0) -> FeatureNames:
    """Names drawn at random for two features of three, half of them confirmed."""
    families = concept_source(othello()).concept_families
    every, draw = torch.arange(len(concept_names(families))), torch.Generator().manual_seed(seed)
    columns = columns_of(families)
    # Many of few concepts of `mine` and `theirs`, so that there are signs to count.
    boards = torch.cat([every[columns[name]][:6] for name in ("mine", "theirs")])
    by_site = {}
    for site, one in codes.items():
        by_site[site] = {}
        for unit in range(one.features):
            if unit % 3:
                among = boards if unit % 2 else every
                at = int(torch.randint(len(among), (1,), generator=draw))
                by_site[site][unit] = FeatureName(int(among[at]), 0.6, unit % 2 == 0)
    return FeatureNames(families, by_site)


def studied(name: str = "gpt2-like", features: int = FEATURES, **choices: Any) -> Studied:
    model = small_model(name, d_vocab=32, n_ctx=32)
    codes = DictionarySet(dictionaries(model, "a.out", "m.out", features=features))
    larger = DictionarySet(dictionaries(model, "a.out", "m.out", features=2 * features))
    data = othello()
    asked = {"sequences": 2, "rows": 10_000, "label_tokens": 2000, **choices}
    return Studied(
        model,
        "small",
        codes,
        names_of(codes),
        data,
        data.pairs("test", 4, 0, at_most=True),
        data.tokenizer.tokens,
        AnalysisChoices(**asked),
        {"large": (larger, names_of(larger, 1))},
    )

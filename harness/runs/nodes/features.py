"""What the strongest features of a circuit stand for, as far as the cell's own prompts tell.

A look at the tokens of a few test prompts where each is strongest. Labels that are chosen on many
games and confirmed on held-out ones are the business of `harness features`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.circuits.circuit import Circuit
from harness.circuits.gates.model import GatedModel
from harness.datasets.batch import Batch
from harness.datasets.concepts import ConceptFamily, ConceptSource, columns_of, concept_source
from harness.datasets.pairs import TaskData
from harness.errors import HarnessError
from harness.evaluation.setup import Setup
from harness.runs.prompts.words import token_text

FEATURES = 16
"""Features that are told of: those of largest |score|."""

PROMPTS, STRONGEST = 96, 24
"""Clean prompts that are looked at, and the strongest tokens of each feature among theirs."""

SHOWN, CONTEXT = 3, 6
"""Of the strongest, those that are given in words, each but once, and tokens up to each."""


def features_told(
    setup: Setup, data: TaskData, circuit: Circuit, also: Sequence[str] = ()
) -> dict[str, Any] | None:
    """By feature: how often it is active, and what holds where it is strongest.

    `also`: others than the strongest that are told of.
    `share` and `base` are percentages by concept, of the strongest tokens and of all. None for
    circuits of other elements.
    """
    patchable = setup.patchable
    if circuit.space.granularity != "feature" or not isinstance(patchable, GatedModel):
        return None
    chosen = list(dict.fromkeys([*_chosen(circuit), *map(circuit.space.index, also)]))
    source = _source(data)
    strengths, prompts = [], []
    concepts: list[NDArray[np.bool_]] = []
    for batch in _few(setup.batches):
        values = _activations(setup, patchable, batch)[..., chosen]
        strengths.append(values.flatten(0, 1))
        tokens = batch.clean.cpu().numpy()
        prompts += [(row, at) for row in tokens for at in range(tokens.shape[1])]
        if source is not None:
            lengths = np.full(len(tokens), tokens.shape[1], dtype=np.int64)
            told = source.concepts(tokens, lengths)[..., _columns(source)]
            concepts.append(told.reshape(-1, told.shape[-1]))
    strength = torch.cat(strengths)
    held = np.concatenate(concepts) if concepts else None
    return {
        "tokens": len(strength),
        "families": _families(source),
        "board_size": None if source is None else source.board_size,
        "base": None if held is None else _percent(held.mean(0)),
        "features": [
            _feature(circuit.space.name(element), strength[:, at], prompts, held, data)
            for at, element in enumerate(chosen)
        ],
    }


def _chosen(circuit: Circuit) -> list[int]:
    names = ((element, circuit.space.name(element)) for element in circuit.ranked().tolist())
    return [element for element, name in names if not name.endswith(".error")][:FEATURES]


def _source(data: TaskData) -> ConceptSource | None:
    try:
        source = concept_source(data)
    except HarnessError:
        return None
    return source


def _plain(source: ConceptSource) -> list[ConceptFamily]:
    """Families that say one thing of a cell, or nothing of cells."""
    return [
        family
        for family in source.concept_families
        if family.cells is None or len(set(family.cells)) == len(family.cells)
    ]


def _columns(source: ConceptSource) -> list[int]:
    """Their columns among those of all concepts."""
    parts = columns_of(source.concept_families)
    return [at for one in _plain(source) for at in range(*parts[one.name].indices(1 << 30))]


def _few(batches: Sequence[Batch]) -> list[Batch]:
    """The first prompts of each batch, together `PROMPTS` at most."""
    each, few = max(1, PROMPTS // len(batches)), []
    for batch in batches[: PROMPTS // each]:
        few.append(batch.take(torch.arange(min(each, len(batch)))))
    return few


def _activations(setup: Setup, patchable: GatedModel, batch: Batch) -> Tensor:
    """[B, T, E] in the run of the whole model."""
    everything = torch.ones(len(setup.space), dtype=torch.bool, device=batch.clean.device)
    values = patchable.activations(batch, everything, setup.counterfactuals.of(batch))
    return values.float().cpu()


def _families(source: ConceptSource | None) -> list[dict[str, Any]]:
    if source is None:
        return []
    return [
        {
            "name": one.name,
            "concepts": list(one.concepts),
            "cells": None if one.cells is None else list(one.cells),
            "board": one.board,
        }
        for one in _plain(source)
    ]


def _feature(
    name: str,
    strength: Tensor,
    prompts: Sequence[tuple[Any, int]],
    held: NDArray[np.bool_] | None,
    data: TaskData,
) -> dict[str, Any]:
    active = int((strength > 0).sum())
    places = strength.argsort(descending=True, stable=True)[: min(STRONGEST, active)].tolist()
    shown = {tuple(_words(prompts[place], data)): float(strength[place]) for place in places[::-1]}
    return {
        "name": name,
        "active": active / len(strength),
        "strongest": [
            {"words": list(words), "strength": value}
            for words, value in sorted(shown.items(), key=lambda one: -one[1])[:SHOWN]
        ],
        "share": None if held is None or not places else _percent(held[places].mean(0)),
    }


def _words(place: tuple[Any, int], data: TaskData) -> list[str]:
    tokens, at = place
    part = tokens[max(0, at + 1 - CONTEXT) : at + 1]
    return [token_text(data.tokenizer, int(token)) for token in part]


def _percent(shares: NDArray[np.float64]) -> list[int]:
    whole: list[int] = np.rint(100 * shares).astype(int).tolist()
    return whole

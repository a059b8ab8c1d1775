"""Measures that a task with ordered answers can choose, read from logits.

The answers of a prompt are its bad ones and then its good ones, each in the order of their list: of
a list of years, all up to the prompt's own one, then all after it. So the place of the prompt's own
answer y is that of its last bad one. All prompts must have one list. Only the answers' tokens
count (`answer_probabilities`), as in Bhaskar et al. 2024.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.datasets.batch import Batch
from harness.errors import HarnessError
from harness.evaluation.answer_measures import (
    Floats,
    answer_probabilities,
    kendall_tau,
    prob_diff_10,
)
from harness.models.behaviour import over_positions

Defined = Callable[[Floats, Floats, Floats], Floats]

ORDERED: dict[str, Defined] = {
    "prob_diff_10": lambda circuit, _, place: prob_diff_10(circuit, place),
    "kendall_tau": lambda circuit, whole, _: kendall_tau(circuit, whole),
}
"""By name: probabilities of the answers under the circuit [S, n, A] and the model [n, A], and the
place of each prompt's own answer [n], to one number each [S, n]."""


@dataclass(frozen=True)
class OrderedAnswers:
    """The list of answers as token ids [A], and the measures over it that are wanted."""

    tokens: Tensor
    names: tuple[str, ...]

    @classmethod
    def of(cls, batches: Sequence[Batch], names: Iterable[str]) -> OrderedAnswers | None:
        """The list that all prompts have; None if no measure over it is among `names`.

        Raises `HarnessError` if they have different ones, or a prompt has no bad answer.
        """
        wanted = tuple(name for name in names if name in ORDERED)
        if not wanted:
            return None
        lists = torch.cat([_lists(batch) for batch in batches]).unique(dim=0)
        no_place = any(bool((_places(batch)[batch.read] < 0).any()) for batch in batches)
        if len(lists) != 1 or no_place:
            raise HarnessError(
                f"evaluation.measures: {' and '.join(wanted)} need one ordered list of answers for "
                "all prompts, with the bad ones before the good ones, such as good "
                "{list: years, after: YY} and bad {list: years, up_to: YY}; these prompts have "
                + ("a prompt without bad answers" if no_place else f"{len(lists)} lists")
            )
        return cls(lists[0][lists[0] >= 0], wanted)

    def read(self, logits: Tensor, whole: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Each measure: logits [S, B, P, V], the model's own [B, P, V] to float64 [S, B]."""
        ids = self.tokens.to(logits.device)
        circuit, model = (answer_probabilities(x[..., ids].double().cpu()) for x in (logits, whole))
        place = _places(batch).clamp(min=0).cpu().numpy()
        return {
            name: over_positions(
                torch.from_numpy(ORDERED[name](circuit, model, place)).to(logits.device), batch
            )
            for name in self.names
        }


def _places(batch: Batch) -> Tensor:
    """Place of the last bad answer, which is the prompt's own: [B, P]."""
    return (batch.bad >= 0).sum(-1) - 1


def _lists(batch: Batch) -> Tensor:
    """Bad answers, then good ones, at every position in use: [n, A], padded with -1 at the end."""
    ids = torch.cat([batch.bad, batch.good], -1)[batch.read].cpu()
    at_end = (ids < 0).long().argsort(dim=-1, stable=True)
    return ids.gather(-1, at_end)

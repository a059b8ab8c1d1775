"""What is measured of every circuit on every prompt pair: recorded measures, and those chosen.

Measures over ordered answers need one list of answers for all prompts. The answers of a prompt are
its bad ones and then its good ones, each in the order of their list: of a list of years, all up to
the prompt's own one, then all after it. So the place of the prompt's own answer y is that of its
last bad one. Only the answers' tokens count (`answer_probabilities`), as in Bhaskar et al. 2024.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.metrics.logits import over_positions
from harness.metrics.measure import Answers, Inputs
from harness.metrics.ordered_answers import answer_probabilities
from harness.metrics.registry import MEASURES, from_logits, names

if TYPE_CHECKING:
    from torch import Tensor

ORDERED: Inputs = "probabilities of ordered answers"


@dataclass(frozen=True)
class PerExample:
    """The measures of each prompt pair: `metric` (the task's own), and others by name."""

    metric: str
    of_logits: tuple[str, ...]
    ordered: OrderedAnswers | None

    @classmethod
    def of(cls, batches: Sequence[Answers], metric: str, chosen: Iterable[str]) -> PerExample:
        """Recorded measures and the chosen ones.

        Raises `HarnessError` where a chosen measure needs ordered answers and the prompts have
        none (`OrderedAnswers`).
        """
        chosen = tuple(chosen)
        others = (name for name in chosen if MEASURES[name].computed_from != ORDERED)
        of_logits = tuple(dict.fromkeys((*names("recorded"), *others)))
        return cls(metric, of_logits, OrderedAnswers.of(batches, chosen))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of what `read` returns, in its order."""
        ordered = () if self.ordered is None else self.ordered.names
        return ("metric", *self.of_logits, *ordered)

    def read(self, logits: Tensor, whole: Tensor, batch: Answers) -> dict[str, Tensor]:
        """Each measure: logits [S, B, P, V], the model's own [B, P, V] to [S, B]."""
        values = {name: from_logits(name)(logits, whole, batch) for name in self.of_logits}
        metric = values.get(self.metric)
        if metric is None:
            metric = from_logits(self.metric)(logits, whole, batch)
        ordered = {} if self.ordered is None else self.ordered.read(logits, whole, batch)
        return {"metric": metric, **values, **ordered}


@dataclass(frozen=True)
class OrderedAnswers:
    """The list of answers as token ids [A], and the measures over it that are wanted."""

    tokens: Tensor
    names: tuple[str, ...]

    @classmethod
    def of(cls, batches: Sequence[Answers], names: Iterable[str]) -> OrderedAnswers | None:
        """The list that all prompts have; None if no measure over it is among `names`.

        Raises `HarnessError` if they have different ones, or a prompt has no bad answer.
        """
        import torch

        wanted = tuple(name for name in names if MEASURES[name].computed_from == ORDERED)
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

    def read(self, logits: Tensor, whole: Tensor, batch: Answers) -> dict[str, Tensor]:
        """Each measure: logits [S, B, P, V], the model's own [B, P, V] to float64 [S, B]."""
        import torch

        ids = self.tokens.to(logits.device)
        circuit, model = (answer_probabilities(x[..., ids].double().cpu()) for x in (logits, whole))
        place = _places(batch).clamp(min=0).cpu().numpy()
        return {
            name: over_positions(
                torch.from_numpy(MEASURES[name].compute(circuit, model, place)).to(logits.device),
                batch,
            )
            for name in self.names
        }


def _places(batch: Answers) -> Tensor:
    """Place of the last bad answer, which is the prompt's own: [B, P]."""
    return (batch.bad >= 0).sum(-1) - 1


def _lists(batch: Answers) -> Tensor:
    """Bad answers, then good ones, at every position in use: [n, A], padded with -1 at the end."""
    import torch

    ids = torch.cat([batch.bad, batch.good], -1)[batch.read].cpu()
    at_end = (ids < 0).long().argsort(dim=-1, stable=True)
    return ids.gather(-1, at_end)

"""What is measured of every circuit on every prompt pair: recorded measures, and those chosen.

Measures over ordered answers need one list of answers for all prompts. The answers of a prompt are
its bad ones and then its good ones, each in the order of their list: of a list of years, all up to
the prompt's own one, then all after it. So the place of the prompt's own answer y is that of its
last bad one. Only the answers' tokens count (`answer_probabilities`), as in Bhaskar et al. 2024.

Accuracy by class needs all prompts at once: `read` notes which answers are right, and `finished`
makes the measures of these once every batch has been read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import HarnessError
from harness.metrics.class_accuracy import Floats, Ids, accuracies, class_accuracy
from harness.metrics.logits import over_positions
from harness.metrics.measure import Answers, Inputs
from harness.metrics.ordered_answers import answer_probabilities
from harness.metrics.registry import MEASURES, from_logits, names

if TYPE_CHECKING:
    from torch import Tensor

ORDERED: Inputs = "probabilities of ordered answers"
BY_CLASS: Inputs = "correct answers by class"
CALIBRATED: Inputs = "log odds of two answers"
WITHOUT: Inputs = "runs without the circuit"
CLASS_ACCURACY = "class_accuracy"


def with_classes(measures: Iterable[str], answers: Iterable[str] | None) -> tuple[str, ...]:
    """The measures that a task adds: those chosen, and class accuracy where it names `answers`."""
    return tuple(dict.fromkeys((*measures, *([CLASS_ACCURACY] if answers else []))))


def accuracy_of(name: str) -> str:
    """What the accuracy of one class is called in results and rows."""
    return f"accuracy[{name}]"


def is_of_class(measure: str) -> bool:
    """Whether this is the accuracy of one class."""
    return measure.startswith("accuracy[")


@dataclass(frozen=True)
class PerExample:
    """The measures of each prompt pair: `metric` (the task's own), and others by name."""

    metric: str
    of_logits: tuple[str, ...]
    ordered: OrderedAnswers | None
    by_class: AnswerClasses | None = None

    @classmethod
    def of(
        cls,
        batches: Sequence[Answers],
        metric: str,
        chosen: Iterable[str],
        classes: Sequence[str] = (),
    ) -> PerExample:
        """Recorded measures and the chosen ones; with named `classes`, the accuracy of each.

        Raises `HarnessError` where a chosen measure needs ordered answers and the prompts have
        none (`OrderedAnswers`), or classes and a position has several good answers.
        """
        chosen = with_classes(chosen, classes)
        apart = (ORDERED, BY_CLASS, CALIBRATED, WITHOUT)  # the last two need other runs
        others = (name for name in chosen if MEASURES[name].computed_from not in apart)
        of_logits = tuple(dict.fromkeys((*names("recorded"), *others)))
        by_class = AnswerClasses.of(batches, tuple(classes)) if CLASS_ACCURACY in chosen else None
        return cls(metric, of_logits, OrderedAnswers.of(batches, chosen), by_class)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of what `read` returns, in its order."""
        ordered = () if self.ordered is None else self.ordered.names
        correct = () if self.by_class is None else self.by_class.notes
        return ("metric", *self.of_logits, *ordered, *correct)

    def finished(self, table: dict[str, Floats]) -> dict[str, Floats]:
        """What `read` returned of all prompts [R, n] by name, with the measures of all of them."""
        return table if self.by_class is None else self.by_class.finished(table)

    def read(self, logits: Tensor, whole: Tensor, batch: Answers) -> dict[str, Tensor]:
        """Each measure: logits [S, B, P, V], the model's own [B, P, V] to [S, B]."""
        values = {name: from_logits(name)(logits, whole, batch) for name in self.of_logits}
        metric = values.get(self.metric)
        if metric is None:
            metric = from_logits(self.metric)(logits, whole, batch)
        ordered = {} if self.ordered is None else self.ordered.read(logits, whole, batch)
        correct = {} if self.by_class is None else self.by_class.read(logits, batch)
        return {"metric": metric, **values, **ordered, **correct}


@dataclass(frozen=True)
class AnswerClasses:
    """The class of every read position: ids [n, P], -1 where nothing is read; names of classes."""

    ids: Ids
    titles: tuple[str, ...]

    @classmethod
    def of(cls, batches: Sequence[Any], titles: tuple[str, ...]) -> AnswerClasses:
        """Of all prompts. Raises `HarnessError` where a position has several good answers."""
        places = max((batch.good.shape[1] for batch in batches), default=1)
        ids = np.full((sum(len(batch.good) for batch in batches), places), -1, dtype=np.int64)
        for batch in batches:
            several = (batch.good >= 0).sum(-1) != 1
            if bool((several & batch.read).any()):
                raise HarnessError(
                    "class_accuracy needs one good answer at each read position, and a prompt has "
                    "several: they are no classes"
                )
            good = batch.good.amax(-1).where(batch.read, -1).cpu().numpy()
            ids[batch.rows.cpu().numpy(), : good.shape[1]] = good
        return cls(ids, titles)

    @property
    def notes(self) -> tuple[str, ...]:
        """Names under which it is noted whether the answer at each of P positions is right."""
        return tuple(f"correct at {place}" for place in range(self.ids.shape[1]))

    def read(self, logits: Tensor, batch: Answers) -> dict[str, Tensor]:
        """1 where the largest logit [S, B, P, V] is the good answer, else 0: by place [S, B]."""
        correct = (logits.argmax(-1, keepdim=True) == batch.good).any(-1) & batch.read
        nothing = correct[..., :1].new_zeros(correct.shape[:-1])
        at = [correct[..., p] if p < correct.shape[-1] else nothing for p in range(len(self.notes))]
        return dict(zip(self.notes, (one.double() for one in at), strict=True))

    def finished(self, table: dict[str, Floats]) -> dict[str, Floats]:
        """The notes [R, n] replaced by class accuracy, and by that of each class with a name."""
        correct = np.stack([table[name] for name in self.notes], axis=-1)
        rest = {name: values for name, values in table.items() if name not in self.notes}
        each = accuracies(correct, self.ids)
        named = {accuracy_of(self.titles[one]): x for one, x in each.items() if self.titles}
        return rest | {CLASS_ACCURACY: class_accuracy(correct, self.ids)} | named


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

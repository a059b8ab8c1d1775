"""A template task with all names resolved.

The plan holds frames (a template under one alias map) as sequences of literal texts and slots,
the corrupted form of each, free slots with their lists, rules, answers. `template.read` makes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.datasets.classes import Classes
from harness.datasets.template.constraints import Rule, TokenRules

FIRST, LAST = "first", "last"
"""Where an answer can be read beside slots: at the first token (BOS, if any), at the last."""


@dataclass(frozen=True)
class FramePart:
    """A piece of a frame: literal text, or a slot (`slot` names it after aliases)."""

    text: str = ""
    slot: str | None = None


@dataclass(frozen=True)
class Answer:
    """An answer rule with aliases resolved."""

    slot: str | None
    word: str | None
    list: str | None
    after: str | None
    up_to: str | None


@dataclass(frozen=True)
class AnsweredAt:
    """Where an answer is read (`first`, `last` or a slot, after aliases), and the answers there."""

    where: str
    good: Answer
    bad: Answer


@dataclass(frozen=True)
class Frame:
    """One template under one alias map."""

    clean: tuple[FramePart, ...]
    corrupted: tuple[FramePart, ...]
    good: Answer
    bad: Answer
    split: str | None
    template: int  # index in the spec, for messages
    glued: bool  # whether the answer follows without a space
    whole: frozenset[str] = frozenset()  # slots (after aliases) that must be made of whole tokens
    where: str = LAST  # where `good` and `bad` are read
    further: tuple[AnsweredAt, ...] = ()  # other places that are read

    @property
    def answered(self) -> tuple[AnsweredAt, ...]:
        """Every place that is read, with its answers."""
        return (AnsweredAt(self.where, self.good, self.bad), *self.further)

    def shown(self, slot: str) -> list[int]:
        """The parts of the clean prompt that are this slot."""
        return [index for index, part in enumerate(self.clean) if part.slot == slot]


@dataclass
class TemplatePlan:
    """A template task with every name resolved."""

    frames: list[Frame] = field(default_factory=list)
    lists: dict[str, tuple[str, ...]] = field(default_factory=dict)
    table_of: dict[str, str] = field(default_factory=dict)  # list that is a column -> its table
    free: dict[str, str] = field(default_factory=dict)  # slot that is drawn -> its list
    follows: dict[str, str] = field(default_factory=dict)  # free slot -> that whose row it has
    origin: dict[str, str] = field(default_factory=dict)  # every slot -> the free slot it copies
    rules: list[Rule] = field(default_factory=list)
    token_rules: TokenRules = field(default_factory=TokenRules)
    literals: list[str] = field(default_factory=list)  # every text that is no slot
    classes: Classes | None = None  # what answers are, where they are not tokens

    @property
    def places(self) -> int:
        """How many answers of a prompt are read."""
        return len(self.frames[0].answered) if self.frames else 0

    @property
    def vocabulary(self) -> list[str]:
        """Words of lists that are in the vocabulary: not those of lists of classes alone."""
        names = self.lists if self.classes is None else self.free.values()
        return list(dict.fromkeys(word for name in names for word in self.lists[name]))

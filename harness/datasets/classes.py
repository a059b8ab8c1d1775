"""Answers of a classifier: the names of its classes, in the order of the model's outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from harness.errors import HarnessError
from harness.spec.issues import unknown


@dataclass(frozen=True)
class Classes:
    """The vocabulary `answers` of a task whose model does not answer in tokens.

    A class's id is its place. `kind` tells it from a tokenizer, in whose place it is asked.
    """

    names: tuple[str, ...]
    kind: ClassVar[Literal["classes"]] = "classes"

    @property
    def size(self) -> int:
        """Number of classes: the logits of the model."""
        return len(self.names)

    def single(self, text: str) -> int:
        """The id of a class; a space before its name, as before a word's token, is left out.

        Raises `HarnessError` for a name that is not among the answers.
        """
        text = text if text in self.names else text.removeprefix(" ")
        if text not in self.names:
            text = unknown("answer", text, self.names)
            raise HarnessError(f"{text} (the task answers in the classes of `answers`)")
        return self.names.index(text)


def classes_of(data: Any) -> Classes | None:
    """The classes in which an opened task (`TaskData`) answers; None where it does in tokens."""
    classes = getattr(data, "classes", None)
    return classes if isinstance(classes, Classes) else None


def no_next_token() -> HarnessError:
    """The error of a training that asks a classifier for the next token."""
    return HarnessError(
        "a model that answers in classes (`answers`) has no output for the next token: train it "
        "with `objective: answer`"
    )

"""Whether answers are how prompts go on: tokens(prompt + answer) = tokens(prompt) + [answer].

A model is read where a prompt ends, so what is measured there is the token that comes next in a
text. An answer that is spelled otherwise (without the space before it, or as a piece of a token
that the two make together) is a token the model has no reason to expect.

A vocabulary built from a task's words has a token for every answer, and spaces mean nothing to
it: there the law always holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, NamedTuple

from harness.datasets.tokenizers.file import FileTokenizer
from harness.datasets.tokenizers.tokenizer import Tokenizer
from harness.errors import HarnessError

_AT_ONCE = 1 << 12  # pairs whose tokens are in memory at once
_SHOWN = 30  # last characters of a prompt in a message

Fix = Literal["space", "move", "join", "cut", "none"]
"""What makes an answer one that goes on: a space put before it, a space moved from the end of the
prompt to it, no space between the two, a cut elsewhere in the text that they make, or nothing."""


class Asked(NamedTuple):
    """An answer that is asked for after a prompt.

    `place`: where it stands, for messages. `joined`: the task says that no space comes between.
    """

    prompt: str
    answer: str
    place: str = ""
    joined: bool = False


@dataclass(frozen=True)
class Break:
    """An answer that is not how its prompt goes on: why, and the spelling that would be."""

    asked: Asked
    reason: str
    fix: Fix
    better: tuple[str, str] | None  # prompt and answer

    @property
    def advice(self) -> str:
        """What to write instead."""
        if self.better is None:
            return "no other spelling of it is one token there, so take another answer"
        prompt, answer = self.better
        if self.fix == "space":
            return f"{answer!r} is one token: put a space before"
        return f"write {tail(prompt)!r} and {answer!r}"

    def __str__(self) -> str:
        where = f"{self.asked.place}: " if self.asked.place else ""
        return f"{where}{self.reason}; {self.advice}"


def tail(text: str) -> str:
    """Return the end of a prompt, for messages."""
    return text if len(text) <= _SHOWN else f"… {text[-_SHOWN:].lstrip(' ')}"


def breaks(tokenizer: Tokenizer, asked: Iterable[Asked]) -> Iterator[Break]:
    """Yield the answers that are not how their prompts go on, in the order in which they come.

    Under `continues: false` these are only the answers that are not one token.
    """
    if not isinstance(tokenizer, FileTokenizer):
        return
    law, rest = _Law(tokenizer), iter(asked)
    while part := list(islice(rest, _AT_ONCE)):
        yield from law.breaks(part)


class _Law:
    def __init__(self, tokenizer: FileTokenizer) -> None:
        self._tokenizer = tokenizer
        self._single: dict[str, int | str] = {}  # by answer: its token, or why it has none

    def breaks(self, asked: Sequence[Asked]) -> Iterator[Break]:
        pairs = dict.fromkeys((one.prompt, one.answer, one.joined) for one in asked)
        reasons = dict(zip(pairs, self._reasons(list(pairs)), strict=True))
        for one in asked:
            reason = reasons[one.prompt, one.answer, one.joined]
            if reason is not None:
                fix, better = self._better(one)
                yield Break(one, reason, fix, better)

    def _reasons(self, pairs: Sequence[tuple[str, str, bool]]) -> list[str | None]:
        """What is wrong with each (prompt, answer, joined); None where nothing is."""
        if not self._tokenizer.continues:
            return [one if isinstance(one := self._token(a), str) else None for _, a, _ in pairs]
        prompts = list(dict.fromkeys(prompt for prompt, _, _ in pairs))
        texts = [*prompts, *(prompt + answer for prompt, answer, _ in pairs)]
        ids = self._tokenizer.encode_all(texts)
        alone = dict(zip(prompts, ids, strict=False))
        return [
            self._reason(prompt, answer, joined, alone[prompt], together)
            for (prompt, answer, joined), together in zip(pairs, ids[len(prompts) :], strict=True)
        ]

    def _reason(
        self, prompt: str, answer: str, joined: bool, alone: list[int], together: list[int]
    ) -> str | None:
        token = self._token(answer)
        if isinstance(token, str):
            return token
        if together != [*alone, token]:
            same = next(
                (at for at, (a, b) in enumerate(zip(alone, together, strict=False)) if a != b),
                min(len(alone), len(together)),
            )
            apart = self._shown([*alone[same:], token])
            return (
                f"the answer {answer!r} is not how {tail(prompt)!r} goes on: the tokens of both "
                f"end in {self._shown(together[same:])}, not in {apart}"
            )
        if prompt.endswith(" ") and answer.startswith(" ") and self._counts(prompt, alone):
            return (
                f"the answer {answer!r} is not how {tail(prompt)!r} goes on: that would be two "
                "spaces"
            )
        if not joined and _runs_on(prompt, answer) and self._holds(prompt, f" {answer}"):
            return (
                f"the answer {answer!r} is not how {tail(prompt)!r} goes on: the two make one word"
            )
        return None

    def _counts(self, prompt: str, ids: list[int]) -> bool:
        """Whether the space at the end of a prompt is part of its tokens."""
        return self._tokenizer.encode(prompt[:-1]) != ids

    def _token(self, answer: str) -> int | str:
        if answer not in self._single:
            try:
                self._single[answer] = self._tokenizer.single(answer)
            except HarnessError as error:
                self._single[answer] = str(error)
        return self._single[answer]

    def _shown(self, ids: Sequence[int]) -> str:
        return " ".join(repr(self._tokenizer.tokens[one]) for one in ids) or "nothing"

    def _holds(self, prompt: str, answer: str) -> bool:
        """Whether another spelling would do."""
        if not prompt.strip() or not answer.strip():
            return False
        return self._reasons([(prompt, answer, True)])[0] is None

    def _better(self, one: Asked) -> tuple[Fix, tuple[str, str] | None]:
        """The nearest spelling that works."""
        for fix, prompt, answer in self._spellings(one.prompt, one.answer):
            if (prompt, answer) != (one.prompt, one.answer) and self._holds(prompt, answer):
                return fix, (prompt, answer)
        return "none", None

    def _spellings(self, prompt: str, answer: str) -> Iterator[tuple[Fix, str, str]]:
        """The same text cut elsewhere comes first if its last token holds ends of both."""
        text, end = prompt + answer, len(prompt)
        ((_, spans),) = self._tokenizer.spans([text])
        across = any(first < end < last for first, last in spans)
        last = spans[-1][0] if spans else len(text)
        cut: tuple[Fix, str, str] = ("cut", text[:last], text[last:])
        if across and last < end and not (prompt.endswith(" ") or answer.startswith(" ")):
            yield cut
        word, before = answer.strip(" "), prompt.rstrip(" ")
        yield "move" if prompt.endswith(" ") else "space", before, f" {word}"
        yield "join", prompt, word
        yield "join", before, word
        if across:
            yield cut
        yield "join", f"{before} ", word


def _runs_on(prompt: str, answer: str) -> bool:
    """Whether letters of a script that puts spaces between words meet.

    Scripts without spaces have no upper case either.
    """
    return _cased(prompt[-1:]) and _cased(answer[:1])


def _cased(letter: str) -> bool:
    return letter.lower() != letter.upper()

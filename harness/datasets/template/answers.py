"""Answer tokens of template prompts: by slot, by word, or by place in an ordered list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.datasets.classes import Classes
from harness.datasets.pairs import Ints
from harness.datasets.template.plan import Answer, TemplatePlan
from harness.datasets.template.tables import keep_rows
from harness.datasets.tokenizers import Tokenizer
from harness.errors import HarnessError

Side = Literal["good", "bad"]
SIDES: tuple[Side, ...] = ("good", "bad")


def answer_text(word: str, glued: bool, tokenizer: Tokenizer | Classes) -> str:
    """Return a word as the continuation of a prompt.

    With a `tokenizer.json` a space comes before it, unless the template ends in `{}` right after
    other text. With built vocabularies a word is a token, and spaces mean nothing. The name of a
    class continues nothing.
    """
    return f" {word}" if tokenizer.kind == "file" and not glued else word


def leave_out_words(plan: TemplatePlan, tokenizer: Tokenizer) -> list[str]:
    """Drop the words that the rules `one_token` forbid from the lists; return what is wrong."""
    problems: list[str] = []
    for name in sorted(plan.token_rules.one):
        keep_rows(plan, name, [_is_one(word, tokenizer) for word in plan.lists[name]])
        if not plan.lists[name]:
            problems.append(f"no word of list {name!r} is one token")
    return problems


def _is_one(word: str, tokenizer: Tokenizer) -> bool:
    try:
        tokenizer.single(answer_text(word, False, tokenizer))
    except HarnessError:
        return False
    return True


def answer_vocabulary(plan: TemplatePlan, tokenizer: Tokenizer) -> Tokenizer | Classes:
    """Return what answers are ids of."""
    return tokenizer if plan.classes is None else plan.classes


def answering_words(
    plan: TemplatePlan, side: Side, number: int = 0
) -> tuple[tuple[str, bool], ...]:
    """Return every word that can be an answer on this side, and whether it is glued.

    `number`: of the answer among those of a prompt.
    """
    answering: dict[tuple[str, bool], None] = {}
    for frame in plan.frames:
        answer: Answer = getattr(frame.answered[number], side)
        words: tuple[str, ...] = ()
        if answer.word is not None:
            words = (answer.word,)
        elif answer.list is not None:
            words = plan.lists[answer.list]
        elif answer.slot is not None:
            words = plan.lists[plan.free[plan.origin[answer.slot]]]
        answering.update(dict.fromkeys((word, frame.glued) for word in words))
    return tuple(answering)


class AnswerTokens:
    """Looks up the answers on one side of many fillings at once.

    Frames differ only in which slots they look at, because aliases rename slots.
    """

    def __init__(
        self,
        plan: TemplatePlan,
        side: Side,
        word_ids: Mapping[str, int],
        tokenizer: Tokenizer,
        number: int = 0,
    ) -> None:
        """Take a plan without problems; HarnessError if an answer is not one token.

        `number`: of the answer among those of a prompt.
        """
        answers: list[Answer] = [getattr(frame.answered[number], side) for frame in plan.frames]
        vocabulary = answer_vocabulary(plan, tokenizer)
        self._glued = np.array([int(frame.glued) for frame in plan.frames])
        self._texts: dict[tuple[int, int], str] = {}  # by (glued, token)
        # Tokens by [glued, word id], and of the word that always answers by [glued].
        self._tokens = np.full((2, len(word_ids)), -1, dtype=np.int64)
        fixed = np.full(2, -1, dtype=np.int64)
        for word, glued in answering_words(plan, side, number):
            text = answer_text(word, glued, vocabulary)
            token = vocabulary.single(text)
            self._texts.setdefault((int(glued), token), text)
            fixed[int(glued)] = token
            if word in word_ids:
                self._tokens[int(glued), word_ids[word]] = token
        self._word = None if answers[0].word is None else fixed
        columns = {slot: index for index, slot in enumerate(plan.free)}

        def column(slot: str | None) -> int:
            return -1 if slot is None else columns[plan.origin[slot]]

        self._slot = np.array([column(answer.slot) for answer in answers])
        self._after = np.array([column(answer.after) for answer in answers])
        self._up_to = np.array([column(answer.up_to) for answer in answers])
        self._list: Ints | None = None
        if answers[0].list is not None:
            listed = dict.fromkeys(plan.lists[answers[0].list])  # columns may repeat words
            self._list = np.array([word_ids[word] for word in listed])
            self._place = np.full(len(word_ids), -1, dtype=np.int64)
            self._place[self._list] = np.arange(len(self._list))

    def exist(self, frames: Ints, words: Ints) -> NDArray[np.bool_]:
        """Return which fillings have an answer at all; words [n, free slots] are word ids."""
        first, end = self._range(frames, words)
        exists: NDArray[np.bool_] = first < end
        return exists

    def of(self, frames: Ints, words: Ints) -> Ints:
        """Return answer tokens [n, G] of fillings that have one, padded with -1 after the last."""
        if self._list is not None:
            first, end = self._range(frames, words)
            places = first[:, None] + np.arange(max(1, int((end - first).max(initial=0))))
            inside = places < end[:, None]
            listed = self._list[np.where(inside, places, 0)]
            return np.where(inside, self._tokens[self._glued[frames][:, None], listed], -1)
        answers: Ints
        if self._word is not None:
            answers = self._word[self._glued[frames]]
        else:
            shown = words[np.arange(len(frames)), self._slot[frames]]
            answers = self._tokens[self._glued[frames], shown]
        return answers[:, None]

    def texts(self, frames: Ints, words: Ints) -> list[list[str]]:
        """Return the answers as text, each with what joins it to the prompt."""
        return [
            [self._texts[glued, token] for token in row if token >= 0]
            for glued, row in zip(
                self._glued[frames].tolist(), self.of(frames, words).tolist(), strict=True
            )
        ]

    def _range(self, frames: Ints, words: Ints) -> tuple[Ints, Ints]:
        """Return the first and one past the last place in the list; one place without a list."""
        rows = np.arange(len(frames))
        first = np.zeros(len(frames), dtype=np.int64)
        end = np.full(len(frames), 1 if self._list is None else len(self._list), dtype=np.int64)
        if self._list is not None and self._after[0] >= 0:
            first = self._place[words[rows, self._after[frames]]] + 1
        if self._list is not None and self._up_to[0] >= 0:
            end = self._place[words[rows, self._up_to[frames]]] + 1
        return first, end


def outside_list(plan: TemplatePlan, side: Side, number: int = 0) -> list[tuple[str, str]]:
    """Return (key, message) for slots whose words the ordered list does not have."""
    problems: dict[tuple[str, str], None] = {}
    for frame in plan.frames:
        answer: Answer = getattr(frame.answered[number], side)
        for key in ("after", "up_to"):
            slot = getattr(answer, key)
            if slot is None or answer.list is None:
                continue
            words = plan.lists[plan.free[plan.origin[slot]]]
            listed = set(plan.lists[answer.list])
            absent = [word for word in words if word not in listed]
            if absent:
                text = (
                    f"list {answer.list!r} does not have {', '.join(absent[:5])} of slot {slot!r}"
                )
                problems[(key, text)] = None
    return list(problems)

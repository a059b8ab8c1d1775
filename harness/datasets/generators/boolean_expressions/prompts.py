"""Boolean expressions as prompts: the forms of the question, and their tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from harness.datasets.generators.boolean_expressions.trees import WORDS
from harness.datasets.pairs import Ints, padded
from harness.datasets.tokenizers import FileTokenizer, Vocabulary, after_bos

FormName = Literal["plain", "few_shot", "instruction", "brief_few_shot", "brief_instruction"]
Wording = Literal["plain", "few_shot", "instruction", "both", "both_few_shot", "both_instruction"]
ANSWERS = ("False", "True")


@dataclass(frozen=True)
class Form:
    """What stands around an expression; `space` is what comes between prompt and answer.

    `shots` are the solved expressions among it: they are never asked for themselves.
    """

    before: str
    after: str
    space: str = " "
    shots: tuple[str, ...] = ()


_SHOTS = {
    "( False or True ) and True": "True",
    "not ( True or False )": "False",
    "True and ( not False or False )": "True",
}
_BRIEF_SHOTS = {"True and False": "False", "not True or True": "True"}


def _few_shot(shots: Mapping[str, str]) -> Form:
    before = "".join(f"{expression} is {value}\n" for expression, value in shots.items())
    return Form(before, " is", shots=tuple(shots))


FORMS: Mapping[FormName, Form] = {
    "plain": Form("", " is"),
    "few_shot": _few_shot(_SHOTS),
    "instruction": Form(
        "[INST] <<SYS>>\nWork out the value of the Boolean expression that follows. "
        "Answer with one word, 'True' or 'False'.\n<</SYS>>\n\n",
        " [/INST] '",
        space="",
    ),
    "brief_few_shot": _few_shot(_BRIEF_SHOTS),
    "brief_instruction": Form("[INST] Work out: ", " [/INST] '", space=""),
}


@dataclass(frozen=True)
class Choice:
    """The forms that prompts have, equally often, and the forms whose words are tokens."""

    drawn: tuple[FormName, ...]
    in_vocabulary: tuple[FormName, ...]

    @property
    def shared(self) -> bool:
        """Whether prompts of several forms go together: an expression then has one split."""
        return len(self.in_vocabulary) > 1

    @property
    def shots(self) -> tuple[str, ...]:
        """Expressions that some form of the vocabulary solves: none of the forms asks for them."""
        return tuple(shot for name in self.in_vocabulary for shot in FORMS[name].shots)


_BOTH: tuple[FormName, ...] = ("brief_few_shot", "brief_instruction")

CHOICES: Mapping[Wording, Choice] = {
    "plain": Choice(("plain",), ("plain",)),
    "few_shot": Choice(("few_shot",), ("few_shot",)),
    "instruction": Choice(("instruction",), ("instruction",)),
    "both": Choice(_BOTH, _BOTH),
    "both_few_shot": Choice(("brief_few_shot",), _BOTH),
    "both_instruction": Choice(("brief_instruction",), _BOTH),
}


class Writer(Protocol):
    """Turns expressions into prompts of tokens.

    `answers` [2] are the tokens of False and True.
    """

    answers: Ints

    def tokens(self, words: Ints) -> tuple[Ints, Ints]:
        """Return tokens [n, T], 0 after the end, and lengths [n] of expressions [n, W].

        Expressions are numbers of `WORDS`, -1 after the end.
        """
        ...


class VocabularyWriter:
    """Every word of an expression is one token."""

    def __init__(self, form: Form, tokenizer: Vocabulary) -> None:
        """Take a vocabulary with the words of the form."""
        self._before = np.array(tokenizer.prompt(form.before), dtype=np.int64)
        self._after = np.array(tokenizer.encode(form.after), dtype=np.int64)
        self._ids = np.array([tokenizer.single(word) for word in WORDS])
        self.answers = np.array([tokenizer.single(word) for word in ANSWERS])

    def tokens(self, words: Ints) -> tuple[Ints, Ints]:
        """Return tokens [n, T] and lengths [n] (see `Writer`)."""
        n, width = words.shape
        sizes = (words >= 0).sum(axis=1)
        begin, rest = len(self._before), len(self._after)
        out = np.zeros((n, begin + width + rest), dtype=np.int64)
        out[:, :begin] = self._before
        out[:, begin : begin + width] = np.where(words >= 0, self._ids[words], 0)
        out[np.arange(n)[:, None], begin + sizes[:, None] + np.arange(rest)] = self._after
        return out, begin + sizes + rest


class TextWriter:
    """Whole prompts as text, for a `tokenizer.json`."""

    def __init__(self, form: Form, tokenizer: FileTokenizer) -> None:
        """HarnessError if an answer is not one token."""
        self._form = form
        self._tokenizer = tokenizer
        self.answer_texts = [form.space + word for word in ANSWERS]
        self.answers = np.array([tokenizer.single(text) for text in self.answer_texts])

    def tokens(self, words: Ints) -> tuple[Ints, Ints]:
        """Return tokens [n, T] and lengths [n] (see `Writer`)."""
        spans = self._tokenizer.spans(self.texts(words))
        ids = [after_bos(self._tokenizer, tokens) for tokens, _ in spans]
        return padded(ids, 0), np.array([len(row) for row in ids], dtype=np.int64)

    def texts(self, words: Ints) -> list[str]:
        """Return the prompts of expressions [n, W] as text, without BOS."""
        inside = [" ".join(WORDS[word] for word in row if word >= 0) for row in words]
        return [f"{self._form.before}{one}{self._form.after}" for one in inside]


def vocabulary(forms: Sequence[Form], bos: bool) -> Vocabulary:
    """Return the words of the prompts of some forms."""
    around = [text for form in forms for text in (form.before, form.after)]
    return Vocabulary.of_words([*around, *WORDS], bos)


def word_numbers(expressions: tuple[str, ...]) -> Ints:
    """Return expressions, written with spaces, as numbers of `WORDS` [n, W], -1 after the end."""
    return padded([[WORDS.index(word) for word in one.split()] for one in expressions], -1)

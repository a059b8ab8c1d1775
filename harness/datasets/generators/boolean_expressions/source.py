"""Generator `boolean_expressions`: the value of "( True or False ) and not True is" -> False.

In the corrupted twin one leaf or one operator is flipped, such that the value is the other one. A
pair is drawn as two such neighbours, and either may be the clean prompt, so both answers are
equally frequent; so are expressions of every number of leaves. An expression that no single flip
turns round has no twin and is left out.

The counts of the published data (3,840 expressions to train, 767 to validate, 3,070 to test) do not
apply: the rules are others. Here every tree within the limits counts, where there a random draw of
trees did; an expression needs a twin of the other value; and splits are shares of all prompts.

Forms: `plain` is the expression and "is"; `few_shot` puts three solved expressions before it, one
a line; `instruction` is a prompt in the chat format of Llama 2 that ends in an open quotation mark,
so the answer follows without a space. Bhaskar et al. 2024 use these two.

For small models `both` is prompts of the two, equally often, in fewer words (two solved
expressions; a shorter instruction), over one vocabulary; `both_few_shot` and `both_instruction` are
its halves, for measuring a model of `both` on one form. There an expression is in the same split in
both forms, so what is tested was trained on in neither; the halves draw the same expressions from
the same seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray

from harness.datasets.generators.boolean_expressions.prompts import (
    CHOICES,
    FORMS,
    TextWriter,
    VocabularyWriter,
    Wording,
    Writer,
    vocabulary,
    word_numbers,
)
from harness.datasets.generators.boolean_expressions.trees import (
    LEAVES,
    OPERATORS,
    count_slots,
    count_trees,
    trees,
    truth_table,
    written,
)
from harness.datasets.generators.params import Problem
from harness.datasets.pairs import (
    Ints,
    Objective,
    PromptPairs,
    TrainingBatch,
    padded,
)
from harness.datasets.rows import Rows, last_token_batch, last_token_pairs, take
from harness.datasets.splits import Shares, hash_rows
from harness.datasets.tokenizers import Asked, FileTokenizer, Tokenizer
from harness.errors import HarnessError
from harness.spec.key import About, Key

MOST_EXPRESSIONS = 1 << 23  # a byte of memory each
_END = -(1 << 40)
_UNEVEN = (
    "with this tokenizer the words True, False, and, or are not one token each inside an "
    "expression, so pairs are not aligned; choose another tokenizer"
)


@dataclass(frozen=True)
class BooleanParams:
    """`form`: what stands around the expression. `leaves`: fewest and most.

    `depth`: most operators (and, or) inside one another. `nots`: most negations inside one
    another.
    """

    ABOUT: ClassVar = About("Parameters of `boolean_expressions`", name="boolean_expressions")

    form: Annotated[
        Wording,
        Key(
            "Form",
            'What stands around the expression: only "is" (`plain`), three solved ones before it '
            "(`few_shot`), or a question in the chat format of Llama 2 (`instruction`). `both`: "
            "the last two, equally often, in fewer words and over one vocabulary; "
            "`both_few_shot`, `both_instruction`: one half of these.",
            ["few_shot"],
        ),
    ] = "plain"
    leaves: Annotated[
        tuple[Annotated[int, Key(minimum=1, maximum=16)], ...],
        Key(
            "Leaves",
            "Fewest and most leaves (True or False) of an expression; all numbers equally often.",
            [[2, 6]],
            min_items=2,
            max_items=2,
        ),
    ] = (2, 6)
    depth: Annotated[
        int,
        Key(
            "Depth",
            "Most operators (and, or) inside one another.",
            [2, 3],
            minimum=0,
            maximum=8,
        ),
    ] = 3
    nots: Annotated[
        int, Key("Negations", "Most negations inside one another.", [0, 1], minimum=0, maximum=4)
    ] = 1

    def problems(self) -> list[Problem]:
        """Return impossible values and combinations."""
        if len(self.leaves) != 2 or not 1 <= self.leaves[0] <= self.leaves[1]:
            return [("leaves", "give two numbers, fewest and most, at least 1 and in order")]
        sizes = {"depth": self.depth, "nots": self.nots}
        negative = [
            (name, f"must not be negative: {size}") for name, size in sizes.items() if size < 0
        ]
        if negative:
            return negative
        if self.leaves[1] > 2**self.depth:
            return [("depth", f"{self.leaves[1]} leaves do not fit into depth {self.depth}")]
        if self._is_too_much():
            text = f"there are more than {MOST_EXPRESSIONS} expressions"
            return [("leaves", f"{text}; take fewer leaves, less depth or fewer nots")]
        return []

    def counts(self) -> list[int]:
        """Return the possible numbers of leaves."""
        return list(range(self.leaves[0], self.leaves[1] + 1))

    def _is_too_much(self) -> bool:
        total = 0
        for leaves in self.counts():
            total += count_trees(leaves, self.depth, self.nots) << count_slots(leaves)
            if total > MOST_EXPRESSIONS:  # stop before counting gets long
                return True
        return False


class BooleanExpressions:
    """Source of expressions (see `stream.PromptSource`).

    All trees are listed once, with the value of every filling of their slots.
    """

    def __init__(self, params: BooleanParams, bos: bool, file: FileTokenizer | None = None) -> None:
        """Take checked parameters and a `tokenizer.json`, or build a vocabulary (with `bos`).

        HarnessError if an answer is not one token of the file.
        """
        choice = CHOICES[params.form]
        forms = [FORMS[name] for name in choice.drawn]
        self._writers: list[Writer]
        self.tokenizer: Tokenizer
        if file is None:
            built = vocabulary([FORMS[name] for name in choice.in_vocabulary], bos)
            self.tokenizer = built
            self._writers = [VocabularyWriter(form, built) for form in forms]
        else:
            self.tokenizer, self._writers = file, [TextWriter(form, file) for form in forms]
        self._split_by_expression = choice.shared
        self._shots = word_numbers(choice.shots)
        by_size = [trees(leaves, params.depth, params.nots) for leaves in params.counts()]
        every = [tree for size in by_size for tree in size]
        self._slots = np.array([count_slots(leaves) for leaves in params.counts()])
        self._many = np.array([len(size) for size in by_size])
        self._first = np.cumsum(self._many) - self._many
        self._layout = padded([written(tree) for tree in every], _END)
        tables = [truth_table(tree) for tree in every]
        self._value = np.concatenate(tables)
        sizes = np.array([len(table) for table in tables])
        self._offset = np.cumsum(sizes) - sizes
        # A flip does not change the length (`_rows`), so one filling of each tree shows all.
        whole = self._words(np.arange(len(every)), np.zeros(len(every), dtype=np.int64))
        self.longest = max(int(writer.tokens(whole)[1].max()) for writer in self._writers)

    def draw(self, rng: np.random.Generator, n: int, split: str, paired: bool) -> Rows:
        """Return at most n rows; solved expressions of the form are dropped too."""
        size = rng.integers(len(self._slots), size=n)
        tree = self._first[size] + rng.integers(self._many[size])
        filling = rng.integers(np.left_shift(1, self._slots[size]))
        value = self._value[self._offset[tree] + filling]
        flips = np.left_shift(1, np.arange(self._slots[-1]))
        flips = np.where(flips < np.left_shift(1, self._slots[size])[:, None], flips, 0)
        flipped = filling[:, None] ^ flips
        turned = self._value[self._offset[tree][:, None] + flipped] != value[:, None]
        choice = (turned * (1 - rng.random(turned.shape))).argmax(axis=1)
        twin = flipped[np.arange(n), choice]
        swap = rng.random(n) < 0.5
        clean = self._words(tree, np.where(swap, twin, filling))
        corrupted = self._words(tree, np.where(swap, filling, twin))
        keep = turned.any(axis=1) & ~self._is_shot(clean) & ~self._is_shot(corrupted)
        form = self._forms(rng, int(keep.sum()))
        rows = self._rows(clean[keep], form, (value ^ swap)[keep])
        if paired:
            rows["corrupted"] = self._twins(rows, corrupted[keep], form)
            rows["corrupted_words"] = corrupted[keep]
        return rows

    def split_of(self, rows: Rows, shares: Shares) -> Ints:
        """Return the split of each row: by the whole prompt, with several forms by expression."""
        if self._split_by_expression:
            words = rows["words"]
            return shares.of(hash_rows(words, (words >= 0).sum(axis=1), shares.seed))
        return shares.of(hash_rows(rows["tokens"], rows["lengths"], shares.seed))

    def pairs(self, rows: Rows) -> PromptPairs:
        """Return rows as pairs read at the last token."""
        return last_token_pairs(rows)

    def continuations(self, rows: Rows, paired: bool) -> Iterator[Asked]:
        """Yield what is asked in each row (see `stream.TextSource`)."""
        for number, writer in enumerate(self._writers):
            if not isinstance(writer, TextWriter):
                continue
            own = take(rows, rows["form"] == number)
            names = ("words", "corrupted_words") if paired else ("words",)
            for prompts in (writer.texts(own[name]) for name in names):
                for prompt, value in zip(prompts, own["value"].tolist(), strict=True):
                    answers = writer.answer_texts if paired else [writer.answer_texts[value]]
                    yield from (Asked(prompt, answer) for answer in answers)

    def batch(self, rows: Rows, objective: Objective) -> TrainingBatch:
        """Return rows with the value as target of the last token, or every next token."""
        return last_token_batch(rows, objective, self.tokenizer.size)

    def _forms(self, rng: np.random.Generator, n: int) -> Ints:
        """Return which writer writes each of n prompts; nothing is drawn if there is one."""
        if len(self._writers) == 1:
            return np.zeros(n, dtype=np.int64)
        return rng.integers(len(self._writers), size=n)

    def _rows(self, words: Ints, form: Ints, value: NDArray[np.bool_]) -> Rows:
        tokens, lengths = self._tokens(words, form)
        answers = np.stack([writer.answers for writer in self._writers])
        return {
            "words": words,
            "form": form,
            "value": value.astype(np.int64),
            "tokens": tokens,
            "lengths": lengths,
            "good": answers[form, value.astype(np.int64)],
            "bad": answers[form, 1 - value.astype(np.int64)],
        }

    def _twins(self, rows: Rows, words: Ints, form: Ints) -> Ints:
        """Return the tokens of corrupted prompts; HarnessError if more than one differs."""
        tokens, lengths = self._tokens(words, form)
        one_differs = (tokens != rows["tokens"]).sum(axis=1) == 1
        if not (one_differs & (lengths == rows["lengths"])).all():
            raise HarnessError(_UNEVEN)
        return tokens

    def _tokens(self, words: Ints, form: Ints) -> tuple[Ints, Ints]:
        """Return tokens [n, longest] and lengths [n] of expressions [n, W] in forms [n]."""
        tokens = np.zeros((len(words), self.longest), dtype=np.int64)
        lengths = np.zeros(len(words), dtype=np.int64)
        for number, writer in enumerate(self._writers):
            rows = np.flatnonzero(form == number)
            if not len(rows):
                continue
            ids, lengths[rows] = writer.tokens(words[rows])
            if lengths.max() > self.longest:
                raise HarnessError(_UNEVEN)
            tokens[np.ix_(rows, np.arange(ids.shape[1]))] = ids
        return tokens, lengths

    def _words(self, tree: Ints, filling: Ints) -> Ints:
        """Return expressions as numbers of `WORDS` [n, W], -1 after the end."""
        layout = self._layout[tree]
        slot = np.maximum(-1 - layout, 0) * (layout != _END)
        word = np.where(slot % 2, OPERATORS, LEAVES) + (filling[:, None] >> slot & 1)
        return np.where(layout >= 0, layout, np.where(layout == _END, -1, word))

    def _is_shot(self, words: Ints) -> NDArray[np.bool_]:
        """Return which expressions are solved before the question."""
        is_shot = np.zeros(len(words), dtype=np.bool_)
        for shot in self._shots:
            width = min(words.shape[1], len(shot))
            same = (words[:, :width] == shot[:width]).all(axis=1)
            is_shot |= same & ((words >= 0).sum(axis=1) == (shot >= 0).sum())
        return is_shot

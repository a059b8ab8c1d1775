"""Tasks read from a data file: JSON Lines, CSV or Parquet.

Two forms of rows, which can be mixed with further columns:
- declared columns: `clean`, `corrupted`, `good` and `bad` (a text, or a list of texts);
- the answer marked in the prompt: `clean: "… to<predict> Mary</predict>"`; a marked `corrupted`
  gives the bad answer. The tag ends the prompt.

Texts are tokenized as they are. With a `tokenizer.json`, answers must carry the space before
them; a space just before `<predict>` goes to the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from harness.datasets.files.limits import MOST_TOKENS
from harness.datasets.files.repeats import repeats_of
from harness.datasets.files.rows import MOST_SHOWN, FileRow, listed, read_rows
from harness.datasets.pairs import (
    Ints,
    Objective,
    PromptPairs,
    TrainingBatch,
    answer_batch,
    next_token_targets,
    padded,
    pick_answers,
)
from harness.datasets.problems import Problem, share_problems_at
from harness.datasets.splits import SPLITS, Shares, hash_rows
from harness.datasets.stream import pair_rng, too_few, training_rng
from harness.datasets.tokenizers import Tokenizer, is_file, tokenizer_for
from harness.errors import HarnessError
from harness.spec.printable import printable, quoted
from harness.spec.types import Columns, FileData, TokenizerSpec

_OPEN, _CLOSE = "<predict>", "</predict>"


@dataclass(frozen=True)
class Example:
    """One row as text."""

    place: str
    clean: str
    corrupted: str
    good: tuple[str, ...]
    bad: tuple[str, ...]
    split: str | None


class FileTask:
    """`TaskData` of a file; rows with the same clean prompt count once (the first of them)."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        pairs: PromptPairs,
        split: Ints,
        shares: Shares,
        left_out: str | None = None,
    ) -> None:
        """Take all pairs, the split number of each, and what to say of rows not used."""
        self.tokenizer = tokenizer
        self.left_out = left_out
        self.longest = pairs.clean.shape[1]
        self.splits = shares.names
        self._shares = shares
        self._pairs = pairs
        keys = hash_rows(pairs.clean, pairs.lengths, 0)
        first = np.sort(np.unique(keys, return_index=True)[1])
        self._members = [first[split[first] == index] for index in range(len(self.splits))]

    def pairs(self, split: str, n: int, seed: int, *, at_most: bool = False) -> PromptPairs:
        """Return n pairs of `split` with distinct clean prompts (see `TaskData`)."""
        members = self._members[self._shares.index(split)]
        if at_most:
            n = min(n, len(members))
        if not 1 <= n <= len(members):
            raise too_few(split, len(members), n)
        rng = pair_rng(self._shares, split, seed)
        return self._pairs.take(rng.permutation(members)[:n]).narrowed()

    def training_batch(
        self, objective: Objective, size: int, step: int, seed: int
    ) -> TrainingBatch:
        """Return `size` rows of split train, drawn with replacement (see `TaskData`)."""
        members = self._members[0]
        if not len(members):
            raise too_few(self.splits[0], 0, size)
        rng = training_rng(self._shares, seed, step)
        rows = self._pairs.take(members[rng.integers(len(members), size=size)])
        good = rows.good[:, 0]
        if objective == "answer":
            return answer_batch(rows.clean, rows.lengths, good, self.tokenizer.size)
        targets = next_token_targets(rows.clean, rows.lengths, pick_answers(rng.random(size), good))
        return TrainingBatch(rows.clean, rows.lengths, targets)


def open_file(data: FileData, spec: TokenizerSpec, folder: Path) -> FileTask:
    """Return the task of a data file; HarnessError lists bad rows by file and line."""
    rows = read_rows(folder / data.path, data.path, data.format)
    examples, problems = read_examples(rows, data.columns, spaced=is_file(spec))
    if problems:
        raise HarnessError(listed(problems))
    if not examples:
        raise HarnessError(f"{data.path}: no rows")
    texts = [text for one in examples for text in (one.clean, one.corrupted, *one.good, *one.bad)]
    tokenizer = tokenizer_for(spec, folder, texts)
    pairs, problems = _encode(examples, tokenizer)
    if problems:
        raise HarnessError(listed(problems))
    repeats = repeats_of([one.place for one in examples], pairs, tokenizer.tokens)
    if repeats.contradictions:
        raise HarnessError(listed(list(repeats.contradictions)))
    named = [one.split for one in examples if one.split is not None]
    extra = tuple(name for name in dict.fromkeys(named) if name not in SPLITS)
    shares = Shares(data.shares, data.seed, extra)
    if named:
        split = np.array([shares.names.index(name) for name in named])
        problems = _shared_prompts(examples, pairs)
        if problems:
            raise HarnessError(listed(problems))
    else:
        split = shares.of(hash_rows(pairs.clean, pairs.lengths, data.seed))
    return FileTask(tokenizer, pairs, split, shares, repeats.note(data.path))


def file_problems(data: FileData, spec: TokenizerSpec, folder: Path) -> list[Problem]:
    """Return everything that is wrong with a data file, with places in the task's file."""
    if problems := share_problems_at(data.shares):
        return problems
    try:
        open_file(data, spec, folder)
    except HarnessError as error:
        return [(("data", "path"), str(error))]
    return []


def file_notes(data: FileData, spec: TokenizerSpec, folder: Path) -> list[str]:
    """Return what is to be said of a sound data file: how many rows are not used, and why."""
    note = open_file(data, spec, folder).left_out
    return [] if note is None else [note]


def pairs_of_rows(rows: Sequence[Mapping[str, Any]], tokenizer: Tokenizer) -> PromptPairs:
    """Return prompt pairs of rows with `clean`, `corrupted`, `good` and `bad`, as a file has them.

    Raises HarnessError with everything that is wrong, by the number of the row.
    """
    columns = Columns(good="good", bad="bad")
    numbered = [_numbered(f"row {number}", row) for number, row in enumerate(rows)]
    examples, problems = read_examples(numbered, columns, spaced=tokenizer.kind == "file")
    if not problems:
        pairs, problems = _encode(examples, tokenizer)
    if problems:
        raise HarnessError(listed(problems))
    return pairs.narrowed()


def _numbered(place: str, row: object) -> FileRow:
    if isinstance(row, Mapping):
        return FileRow(place, dict(row))
    return FileRow(place, {}, f"not a mapping with clean, corrupted, good and bad: {row!r}")


def read_examples(
    rows: Iterable[FileRow], columns: Columns, *, spaced: bool
) -> tuple[list[Example], list[str]]:
    """Return the rows as examples and what is wrong with the others, by place.

    `spaced`: a space just before a marked answer belongs to the answer.
    """
    examples, problems = [], []
    for row in rows:
        try:
            examples.append(_example(row, columns, spaced))
        except ValueError as error:
            problems.append(f"{row.place}: {error}")
    return examples, problems


def _example(row: FileRow, columns: Columns, spaced: bool) -> Example:
    if row.error:
        raise ValueError(row.error)
    clean, marked_good = _unmark(_text(row, columns.clean), spaced)
    corrupted, marked_bad = _unmark(_text(row, columns.corrupted), spaced)
    good = _answers(row, columns.good) if columns.good else marked_good
    bad = _answers(row, columns.bad) if columns.bad else marked_bad
    if not good:
        raise ValueError("no good answer: mark it <predict>…</predict> or set columns.good")
    if not bad:
        raise ValueError(
            "no bad answer: mark one <predict>…</predict> in corrupted or set columns.bad"
        )
    split = _text(row, columns.split) if columns.split else None
    return Example(row.place, clean, corrupted, good, bad, split)


def _text(row: FileRow, column: str) -> str:
    if column not in row.values:
        there = [printable(name) for name in islice(row.values, MOST_SHOWN)]
        raise ValueError(f"no column {column!r}; there are: {', '.join(there) or 'none'}")
    value = row.values[column]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"column {column!r} must be a text, not {_shown(value)}")
    return _unicode(value)


def _answers(row: FileRow, column: str) -> tuple[str, ...]:
    value: Any = row.values.get(column)
    if isinstance(value, str) and value:
        return (_unicode(value),)
    if isinstance(value, list) and value and all(isinstance(one, str) and one for one in value):
        return tuple(dict.fromkeys(_unicode(one) for one in value))
    if column not in row.values:
        return (_text(row, column),)  # names the columns there are
    raise ValueError(f"column {column!r} must be a text or a list of texts, not {_shown(value)}")


def _shown(value: Any) -> str:
    """A value in a message; nested ones can be too large and too deep to be shown."""
    if isinstance(value, (list, dict)):
        return ("a list" if isinstance(value, list) else "a mapping") if value else repr(value)
    return quoted(value)


def _unicode(text: str) -> str:
    """Return the text; ValueError if it holds half a character, as JSON escapes can."""
    text.encode("utf-8")
    return text


def _unmark(text: str, spaced: bool) -> tuple[str, tuple[str, ...]]:
    """Return the prompt and the answer marked in it, if any."""
    if _OPEN not in text and _CLOSE not in text:
        return text, ()
    prompt, _, marked = text.partition(_OPEN)
    answer, closed, rest = marked.partition(_CLOSE)
    if not closed or text.count(_OPEN) > 1 or text.count(_CLOSE) > 1:
        raise ValueError("exactly one <predict>…</predict> is understood")
    if rest.strip():
        raise ValueError(f"text after </predict> would never be read: {quoted(rest.strip())}")
    if spaced and prompt.endswith(" "):
        prompt, answer = prompt[:-1], " " + answer
    if not prompt.strip() or not answer.strip():
        raise ValueError("<predict> needs a prompt before it and an answer in it")
    return prompt, (answer,)


def _encode(examples: Sequence[Example], tokenizer: Tokenizer) -> tuple[PromptPairs, list[str]]:
    clean, corrupted, good, bad = [], [], [], []
    problems: list[str] = []
    for one in examples:
        try:
            clean.append(tokenizer.prompt(one.clean))
            corrupted.append(tokenizer.prompt(one.corrupted))
            good.append([tokenizer.single(text) for text in one.good])
            bad.append([tokenizer.single(text) for text in one.bad])
        except HarnessError as error:
            problems.append(f"{one.place}: {error}")
            continue
        sizes = len(clean[-1]), len(corrupted[-1])
        if sizes[0] != sizes[1]:
            problems.append(
                f"{one.place}: clean has {sizes[0]} tokens and corrupted {sizes[1]}; twins must "
                "be of equal length"
            )
        elif clean[-1] == corrupted[-1]:
            problems.append(f"{one.place}: clean and corrupted are the same")
        if set(good[-1]) <= set(bad[-1]) or set(bad[-1]) <= set(good[-1]):
            problems.append(f"{one.place}: good and bad answers must differ both ways")
    longest = max(range(len(clean)), key=lambda at: len(clean[at]), default=0)
    if not problems and len(clean) * len(clean[longest]) > MOST_TOKENS:
        problems.append(
            f"{examples[longest].place}: {len(clean[longest]):,} tokens, and all {len(clean):,} "
            f"prompts padded to so many have more than {MOST_TOKENS:,}; leave out the longest rows"
        )
    if problems:
        return PromptPairs(*[np.zeros((0, 0), dtype=np.int64)] * 6), problems
    lengths = np.array([len(row) for row in clean], dtype=np.int64)
    return PromptPairs(
        clean=padded(clean, 0),
        corrupted=padded(corrupted, 0),
        lengths=lengths,
        positions=lengths[:, None] - 1,
        good=padded(good, -1)[:, None],
        bad=padded(bad, -1)[:, None],
    ), []


def _shared_prompts(examples: Sequence[Example], pairs: PromptPairs) -> list[str]:
    """Return clean prompts that the split column puts into two splits."""
    seen: dict[int, Example] = {}
    problems = []
    for key, one in zip(hash_rows(pairs.clean, pairs.lengths, 0).tolist(), examples, strict=True):
        first = seen.setdefault(key, one)
        if first.split != one.split:
            problems.append(
                f"{one.place}: the clean prompt of split {one.split!r} is also in "
                f"{first.split!r} ({first.place}); splits must not share prompts"
            )
    return problems

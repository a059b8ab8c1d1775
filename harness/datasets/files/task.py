"""Tasks read from a data file: JSON Lines, CSV or Parquet.

Two forms of rows, which can be mixed with further columns:
- declared columns: `clean`, `corrupted`, `good` and `bad` (a text, or a list of texts);
- the answer marked in the prompt: `clean: "… to<predict> Mary</predict>"`; a marked `corrupted`
  gives the bad answer. The tag ends the prompt.

Answers are read at the last token, or where `columns.position` says. A task that names classes
(`answers`) has these as answers, whatever the tokenizer.

Texts are tokenized as they are. With a `tokenizer.json`, answers must carry the space before
them (`tokenizers.continuation`); a space just before `<predict>` goes to the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.datasets.classes import Classes, classes_of, no_next_token
from harness.datasets.files.answers import broken_answers, messages
from harness.datasets.files.cells import answers_of, text_of, unmarked
from harness.datasets.files.places import (
    Answered,
    Example,
    counted_from_start,
    in_two_splits,
    misplaced,
    one_each,
    stacked,
    too_wide,
    whole_numbers,
)
from harness.datasets.files.repeats import repeats_of, row_keys
from harness.datasets.files.rows import FileRow, listed, read_rows
from harness.datasets.files.spec import Columns, FileData
from harness.datasets.locate import beside
from harness.datasets.pairs import (
    Ints,
    Objective,
    PromptPairs,
    TaskData,
    TrainingBatch,
    answer_batch,
    next_token_targets,
    padded,
    pick_answers,
)
from harness.datasets.problems import Problem, share_problems_at
from harness.datasets.splits import SPLITS, Hashes, Shares, hash_rows
from harness.datasets.stream import pair_rng, too_few, training_rng
from harness.datasets.tokenizers import Tokenizer, is_file, tokenizer_for
from harness.datasets.tokenizers.continuation import Break
from harness.errors import HarnessError
from harness.spec.types import TokenizerSpec


class FileTask:
    """`TaskData` of a file; of rows with one clean prompt, read alike, the first counts."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        pairs: PromptPairs,
        split: Ints,
        shares: Shares,
        classes: Classes | None = None,
        *,
        named: bool = False,
        left_out: str | None = None,
    ) -> None:
        """Take all pairs, the split number of each, and what answers are if not tokens.

        `named`: a column says each split, not a hash. `left_out`: what is to be said of rows that
        are not used.
        """
        self.tokenizer, self.classes, self.left_out = tokenizer, classes, left_out
        self.longest = pairs.clean.shape[1]
        self.splits = shares.names
        self._shares = shares
        self._pairs = pairs
        keys = row_keys(pairs)
        first = np.sort(np.unique(keys, return_index=True)[1])
        self._n_rows = len(keys)
        self._prompts = None if named else hash_rows(pairs.clean, pairs.lengths, shares.seed)[first]
        self._members = [first[split[first] == index] for index in range(len(self.splits))]

    def pairs(self, split: str, n: int, seed: int, *, at_most: bool = False) -> PromptPairs:
        """Return n pairs of `split` with distinct clean prompts (see `TaskData`)."""
        members = self._members[self._shares.index(split)]
        if at_most:
            n = min(n, len(members))
        if not 1 <= n <= len(members):
            raise too_few(split, len(members), n, self._counts())
        rng = pair_rng(self._shares, split, seed)
        return self._pairs.take(rng.permutation(members)[:n]).narrowed()

    def shared_prompts(self) -> Hashes | None:
        """Return hashes of the distinct prompts that shares divide; None if a column does."""
        return self._prompts

    def _counts(self) -> str:
        counts = zip(self.splits, map(len, self._members), strict=True)
        each = ", ".join(f"{split} {count}" for split, count in counts)
        total = sum(map(len, self._members))
        return f" (the file has {total} distinct prompts in {self._n_rows} rows: {each})"

    def training_batch(
        self, objective: Objective, size: int, step: int, seed: int
    ) -> TrainingBatch:
        """Return `size` rows of split train, drawn with replacement (see `TaskData`)."""
        members = self._members[0]
        if not len(members):
            raise too_few(self.splits[0], 0, size)
        rng = training_rng(self._shares, seed, step)
        rows = self._pairs.take(members[rng.integers(len(members), size=size)])
        if objective == "answer":
            outputs = (self.classes or self.tokenizer).size
            return answer_batch(rows.clean, rows.lengths, rows.good, outputs, rows.positions)
        if self.classes is not None:
            raise no_next_token()
        answers = pick_answers(rng.random(size)[:, None], rows.good)
        targets = next_token_targets(rows.clean, rows.lengths, answers, rows.positions)
        return TrainingBatch(rows.clean, rows.lengths, targets)


def open_file(
    data: FileData, spec: TokenizerSpec, folder: Path, classes: Classes | None = None
) -> FileTask:
    """Return the task of a data file; HarnessError lists bad rows by file and line."""
    rows = read_rows(beside(data.path, folder), data.path, data.format)
    examples, problems = read_examples(rows, data.columns, spaced=is_file(spec))
    if problems:
        raise HarnessError(listed(problems))
    if not examples:
        raise HarnessError(f"{data.path}: no rows")
    texts = [text for one in examples for text in (one.clean, one.corrupted)]
    if classes is None:
        texts += [text for one in examples for text in one.answer_texts]
    tokenizer = tokenizer_for(spec, folder, texts, data.continues is not False)
    pairs, problems = _encode(examples, tokenizer, classes)
    if problems:
        raise HarnessError(listed(problems))
    names = tokenizer.tokens if classes is None else classes.names
    repeats = repeats_of([one.place for one in examples], pairs, names)
    if repeats.contradictions:
        raise HarnessError(listed(list(repeats.contradictions)))
    named = [one.split for one in examples if one.split is not None]
    extra = tuple(name for name in dict.fromkeys(named) if name not in SPLITS)
    shares = Shares(data.shares, data.seed, extra)
    if named:
        split = np.array([shares.names.index(name) for name in named])
        problems = in_two_splits(examples, pairs)
        if problems:
            raise HarnessError(listed(problems))
    else:
        split = shares.of(hash_rows(pairs.clean, pairs.lengths, data.seed))
    note = repeats.note(data.path)
    return FileTask(tokenizer, pairs, split, shares, classes, named=bool(named), left_out=note)


def file_problems(
    data: FileData, spec: TokenizerSpec, folder: Path, classes: Classes | None = None
) -> list[Problem]:
    """Return everything that is wrong with a data file, with places in the task's file."""
    if problems := share_problems_at(data.shares):
        return problems
    try:
        open_file(data, spec, folder, classes)
    except HarnessError as error:
        return [(("data", "path"), str(error))]
    return []


def pairs_of_rows(rows: Sequence[Mapping[str, Any]], task: TaskData) -> PromptPairs:
    """Return prompt pairs of rows with `clean`, `corrupted`, `good` and `bad`, as a file has them.

    In the tokens and answers of `task`. With `position` in a row, all must have it. Raises
    HarnessError with everything that is wrong, by the number of the row.
    """
    tokenizer = task.tokenizer
    placed = any(isinstance(row, Mapping) and "position" in row for row in rows)
    columns = Columns(good="good", bad="bad", position="position" if placed else None)
    numbered = [_numbered(f"row {number}", row) for number, row in enumerate(rows)]
    examples, problems = read_examples(numbered, columns, spaced=tokenizer.kind == "file")
    if not problems:
        pairs, problems = _encode(examples, tokenizer, classes_of(task))
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
    if columns.position is not None:
        return _placed(row, columns, columns.position)
    clean, marked_good = unmarked(text_of(row, columns.clean), spaced)
    corrupted, marked_bad = unmarked(text_of(row, columns.corrupted), spaced)
    good = answers_of(row, columns.good) if columns.good else marked_good
    bad = answers_of(row, columns.bad) if columns.bad else marked_bad
    if not good:
        raise ValueError("no good answer: mark it <predict>…</predict> or set columns.good")
    if not bad:
        raise ValueError(
            "no bad answer: mark one <predict>…</predict> in corrupted or set columns.bad"
        )
    split = text_of(row, columns.split) if columns.split else None
    return Example(row.place, clean, corrupted, good, bad, split)


def _placed(row: FileRow, columns: Columns, column: str) -> Example:
    """A row that says where its answers are read."""
    if columns.good is None or columns.bad is None:
        raise ValueError("columns.position needs columns.good and columns.bad beside it")
    clean, corrupted = text_of(row, columns.clean), text_of(row, columns.corrupted)
    if "<predict>" in clean + corrupted:
        raise ValueError("<predict> and a position both say where the answer is read: drop one")
    at = row.values[column] if column in row.values else text_of(row, column)
    places = whole_numbers(at, column)
    if isinstance(places, int):
        answered = [Answered(places, answers_of(row, columns.good), answers_of(row, columns.bad))]
    else:
        good, bad = (
            [
                answers_of(FileRow(row.place, {name: cell}), name)
                for cell in one_each(row.values.get(name), name, len(places))
            ]
            for name in (columns.good, columns.bad)
        )
        answered = list(map(Answered, places, good, bad))
    split = text_of(row, columns.split) if columns.split else None
    first, *further = answered
    return Example(
        row.place, clean, corrupted, first.good, first.bad, split, first.at, tuple(further)
    )


def _encode(
    examples: Sequence[Example], tokenizer: Tokenizer, classes: Classes | None = None
) -> tuple[PromptPairs, list[str]]:
    answers = tokenizer if classes is None else classes
    clean, corrupted, good, bad = [], [], [], []
    broken: list[Break] = []
    failure: HarnessError | None = None
    try:
        broken = [] if classes is not None else broken_answers(examples, tokenizer)
    except HarnessError as error:  # the tokenizer fails at a text: at which one is found below
        failure = error
    problems, broken_rows = messages(broken), {one.asked.place for one in broken}
    places: list[list[int]] = []
    for one in examples:
        if one.place in broken_rows:
            continue
        try:
            clean.append(tokenizer.prompt(one.clean))
            corrupted.append(tokenizer.prompt(one.corrupted))
            places.append([part.at for part in one.answered])
            good.append([[answers.single(text) for text in part.good] for part in one.answered])
            bad.append([[answers.single(text) for text in part.bad] for part in one.answered])
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
        sides = zip(good[-1], bad[-1], strict=True)
        if any(set(ours) <= set(theirs) or set(theirs) <= set(ours) for ours, theirs in sides):
            problems.append(f"{one.place}: good and bad answers must differ both ways")
        problems += [f"{one.place}: {text}" for text in misplaced(places[-1], sizes[0])]
    if failure is not None and not problems:
        raise failure
    problems = problems or too_wide(examples, clean, (good, bad))
    if problems:
        return PromptPairs(*[np.zeros((0, 0), dtype=np.int64)] * 6), problems
    lengths = np.array([len(row) for row in clean], dtype=np.int64)
    return PromptPairs(
        clean=padded(clean, 0),
        corrupted=padded(corrupted, 0),
        lengths=lengths,
        positions=counted_from_start(places, lengths),
        good=stacked(good),
        bad=stacked(bad),
    ), []

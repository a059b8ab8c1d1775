"""Mistakes of template tasks beyond the plan: tokens of words and answers, and sampled pairs."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np

from harness.datasets.classes import Classes
from harness.datasets.pairs import PromptPairs
from harness.datasets.problems import Place, Problem
from harness.datasets.rows import Rows
from harness.datasets.stream import StreamData
from harness.datasets.template.answers import (
    SIDES,
    answer_text,
    answer_vocabulary,
    answering_words,
    leave_out_words,
    outside_list,
)
from harness.datasets.template.plan import TemplatePlan
from harness.datasets.template.read import answer_rules, read_plan
from harness.datasets.template.spec import TemplateData
from harness.datasets.template.task import TemplateTask, open_template, template_tokenizer
from harness.datasets.tokenizers import Tokenizer, split_words
from harness.errors import HarnessError
from harness.spec.types import TokenizerSpec

SAMPLE = 512  # random pairs that are looked at


def template_problems(
    data: TemplateData, spec: TokenizerSpec, folder: Path, classes: Classes | None = None
) -> list[Problem]:
    """Return all problems found, with their places in the task file."""
    plan, problems = read_plan(data, folder, classes)
    if spec.kind == "words":
        problems += _word_problems(data, plan)
    if problems:
        return problems
    try:
        tokenizer = template_tokenizer(plan, spec, folder)
    except HarnessError as error:
        key = "path" if spec.kind == "file" else "kind"
        return [(("tokenizer", key), str(error))]
    problems += [(("data", "constraints"), text) for text in leave_out_words(plan, tokenizer)]
    problems += _answer_problems(plan, tokenizer)
    return problems or _sampled_problems(data, open_template(data, spec, folder, classes))


def _word_problems(data: TemplateData, plan: TemplatePlan) -> list[Problem]:
    """Return words of lists, corruptions and answers that are not one token."""
    texts: list[tuple[Place, str]] = []
    for name, words in plan.lists.items():
        if plan.classes is not None and name not in plan.free.values():
            continue  # names of classes
        inline = data.lists[name].words is not None
        for index, word in enumerate(words):
            place = ("data", "lists", name, "words", index) if inline else ("data", "lists", name)
            texts.append((place, word))
    for name, changes in data.corruptions.items():
        texts += [
            (("data", "corruptions", name, slot), value[1:])
            for slot, value in changes.items()
            if value.startswith("=")
        ]
    for place, rule in answer_rules(data) if plan.classes is None else ():
        texts += [] if rule.word is None else [((*place, "word"), rule.word)]
    return [
        (
            place,
            f"{text!r} must be one token but is {len(split_words(text))}: "
            + (" ".join(repr(piece) for piece in split_words(text)) or "nothing"),
        )
        for place, text in texts
        if split_words(text) != [text] and text.strip()
    ]


def _answer_problems(plan: TemplatePlan, tokenizer: Tokenizer) -> list[Problem]:
    problems: list[Problem] = []
    vocabulary = answer_vocabulary(plan, tokenizer)
    for number, side in product(range(plan.places), SIDES):
        place: Place = ("data", "also_read", number - 1, side) if number else ("data", side)
        for word, glued in answering_words(plan, side, number):
            try:
                vocabulary.single(answer_text(word, glued, vocabulary))
            except HarnessError as error:
                problems.append((place, f"answer {error}" if plan.classes is None else str(error)))
        problems += [((*place, key), text) for key, text in outside_list(plan, side, number)]
    return problems


def _sampled_problems(data: TemplateData, task: TemplateTask) -> list[Problem]:
    rows = _sample(task)
    if not len(rows["lengths"]):
        return [(("data",), "no prompt keeps all constraints and has a good and a bad answer")]
    place = ("data", "corruptions", data.corruption)
    try:
        pairs = task.source.pairs(rows)
    except HarnessError as error:
        return [(place, str(error))]
    problems: list[Problem] = []
    same = int((pairs.clean == pairs.corrupted).all(axis=1).sum())
    if same:
        problems.append(
            (
                place,
                f"{same} of {len(pairs)} random pairs are not changed at all; add "
                "a constraint such as `A != B` between the slots it swaps",
            )
        )
    if twice := int(_read_twice(pairs).sum()):
        text = f"in {twice} of {len(pairs)} random pairs two answers are read at one token"
        problems.append((("data", "also_read"), text))
    alike = int(_overlapping(pairs).sum())
    if alike:
        problems.append(
            (
                ("data", "bad"),
                f"in {alike} of {len(pairs)} random pairs an answer is "
                "both good and bad; add a constraint or change the answers",
            )
        )
    return problems


def _sample(task: StreamData) -> Rows:
    rng = np.random.default_rng([task.shares.seed, SAMPLE])
    return task.source.draw(rng, SAMPLE, "train", paired=True)


def _overlapping(pairs: PromptPairs) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return which pairs have a token in both `good` and `bad`, wherever these are read."""
    good, bad = pairs.good[..., :, None], pairs.bad[..., None, :]
    overlap: np.ndarray[tuple[int], np.dtype[np.bool_]] = ((good == bad) & (good >= 0)).any(
        axis=(1, 2, 3)
    )
    return overlap


def _read_twice(pairs: PromptPairs) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return which pairs have two answers at one token."""
    places = np.sort(pairs.positions, axis=1)
    twice: np.ndarray[tuple[int], np.dtype[np.bool_]] = (np.diff(places, axis=1) == 0).any(axis=1)
    return twice

"""Mistakes of template tasks beyond the plan: tokens of words and answers, and sampled pairs."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

from harness.datasets.classes import Classes
from harness.datasets.pairs import PromptPairs
from harness.datasets.problems import Place, Problem
from harness.datasets.rows import Rows, take
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
from harness.datasets.template.tables import column
from harness.datasets.template.task import TemplateTask, open_template, template_tokenizer
from harness.datasets.tokenizers import Tokenizer, split_words
from harness.errors import HarnessError
from harness.spec.types import TokenizerSpec

SAMPLE = 512  # random pairs that are looked at
MOST_ANSWERS = 3  # that are not one token are named
PROMPTS = 4  # of each template, for the tokens of answers after them

_LEFT_OUT = "; the constraint one_token leaves them out"
ENDS = {
    "space": ": end the template in a space and {}",
    "move": ": leave out the space at the end of the template",
}


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
        tokenizer = template_tokenizer(plan, spec, folder, data.continues is not False)
    except HarnessError as error:
        key = "path" if spec.kind == "file" else "kind"
        return [(("tokenizer", key), str(error))]
    problems += [(("data", "constraints"), text) for text in leave_out_words(plan, tokenizer)]
    problems += _answer_problems(plan, tokenizer)
    problems += _bos_problems(plan, tokenizer)
    return problems or _sampled_problems(data, open_template(data, spec, folder, classes))


def _word_problems(data: TemplateData, plan: TemplatePlan) -> list[Problem]:
    """Return words of lists, corruptions and answers that are not one token."""
    texts: list[tuple[Place, str]] = []
    for name, one in data.lists.items():
        if plan.classes is not None and name not in plan.free.values():
            continue  # names of classes
        for index, word in enumerate(plan.lists[name]):
            inside = ("words", index) if one.words is not None else ()
            texts.append((("data", "lists", name, *inside), word))
    for name, rows in (data.tables or {}).items():
        drawn = [
            index
            for index in range(len(rows[0]))
            if plan.classes is None or column(name, index) in plan.free.values()
        ]
        for at, row in enumerate(rows):
            texts += [
                (("data", "tables", name, at, index), row[index])
                for index in drawn
                if index < len(row)
            ]
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
        refused = []
        for word, glued in answering_words(plan, side, number):
            try:
                vocabulary.single(answer_text(word, glued, vocabulary))
            except HarnessError as error:
                refused.append(
                    f"answer {error}{_other_end(word, glued, tokenizer)}"
                    if plan.classes is None
                    else str(error)
                )
        if len(refused) > MOST_ANSWERS:
            more = len(refused) - MOST_ANSWERS
            refused[MOST_ANSWERS:] = [f"{more} more words cannot answer{_LEFT_OUT}"]
        problems += [(place, text) for text in refused]
        problems += [((*place, key), text) for key, text in outside_list(plan, side, number)]
    return problems


def _other_end(word: str, glued: bool, tokenizer: Tokenizer) -> str:
    """How a template can end so that the word is one token after it."""
    other = answer_text(word, not glued, tokenizer)
    try:
        tokenizer.single(other)
    except HarnessError:
        return ""
    if other == answer_text(word, glued, tokenizer):
        return ""
    end = "a space before {}" if glued else "{} right after the text, without a space"
    return f"; {other!r} is one token: end the template in {end}"


def _bos_problems(plan: TemplatePlan, tokenizer: Tokenizer) -> list[Problem]:
    """Return templates that begin with BOS themselves."""
    problems: dict[int, Problem] = {}
    for frame in plan.frames:
        try:
            tokenizer.prompt(frame.clean[0].text)
        except HarnessError as error:
            problems[frame.template] = (("data", "templates", frame.template), str(error))
    return list(problems.values())


def _sampled_problems(data: TemplateData, task: TemplateTask) -> list[Problem]:
    try:
        rows = _sample(task)
        problems = _continuation_problems(task)
    except HarnessError as error:  # a word that is BOS
        return [(("data",), str(error))]
    if problems:
        return problems
    if not len(rows["lengths"]):
        return [(("data",), "no prompt keeps all constraints and has a good and a bad answer")]
    place = ("data", "corruptions", data.corruption)
    try:
        pairs = task.source.pairs(rows)
    except HarnessError as error:
        return [(place, str(error))]
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


def _sample(task: StreamData, split: str = "train") -> Rows:
    rng = np.random.default_rng([task.shares.seed, SAMPLE])
    return task.source.draw(rng, SAMPLE, split, paired=True)


def _continuation_problems(task: TemplateTask) -> list[Problem]:
    """Return templates with answers that are not how their prompts go on, the first of each.

    A few prompts of each template are looked at; `StreamData` looks at all that are used.
    """
    problems: dict[int, Problem] = {}
    for split in task.splits:
        rows = _sample(task, split)
        for index in np.unique(rows["frame"]).tolist():
            template = task.source.template_of(index)
            few = take(rows, np.flatnonzero(rows["frame"] == index)[:PROMPTS])
            if template not in problems and (one := task.first_break(few)):
                text = str(replace(one, asked=one.asked._replace(place="")))
                text += ENDS.get(one.fix, "")
                problems[template] = (("data", "templates", template), text)
    return [problems[index] for index in sorted(problems)]


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

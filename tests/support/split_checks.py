"""[20] What splits of any task must be: no prompt in two of them, none of a held-out sentence."""

from __future__ import annotations

import re

from harness.datasets.pairs import PromptPairs, TaskData
from harness.datasets.template.spec import TemplateData
from harness.datasets.tokenizers import split_words

HELD_OUT = "new_frames"
_SLOT = "SLOT"


def check_disjoint(task: TaskData, n: int = 200) -> None:
    """No clean prompt of one split is in another; each is asked for n."""
    seen: dict[bytes, str] = {}
    for split in task.splits:
        pairs = task.pairs(split, n, 0)
        for row, length in zip(pairs.clean, pairs.lengths, strict=True):
            assert seen.setdefault(row[:length].tobytes(), split) == split


def check_held_out_sentences(task: TaskData, data: TemplateData, n: int = 200) -> None:
    """Prompts of `new_frames` are of its sentences alone, all others of none of them.

    A sentence is a template with any word in its slots, whatever the tokenizer makes of it.
    """
    held_out = [_pattern(one.text) for one in data.templates if one.split == HELD_OUT]
    others = [_pattern(one.text) for one in data.templates if one.split != HELD_OUT]
    assert held_out
    for split in task.splits:
        own, foreign = (held_out, others) if split == HELD_OUT else (others, held_out)
        for words in _clean_words(task, task.pairs(split, n, 0)):
            assert any(_is_of(words, pattern) for pattern in own), words
            assert not any(_is_of(words, pattern) for pattern in foreign), words


def _pattern(template: str) -> list[str]:
    """The words of a template; those that hold a slot are free. `{}` is not of the prompt."""
    return split_words(re.sub(r"\{\w+\}", _SLOT, template.removesuffix("{}")))


def _is_of(words: list[str], pattern: list[str]) -> bool:
    return len(words) == len(pattern) and all(
        _SLOT in wanted or word == wanted for word, wanted in zip(words, pattern, strict=True)
    )


def _clean_words(task: TaskData, pairs: PromptPairs) -> list[list[str]]:
    first = int(task.tokenizer.bos is not None)
    rows = zip(pairs.clean, pairs.lengths, strict=True)
    return [split_words(task.tokenizer.decode(row[first:n].tolist())) for row, n in rows]

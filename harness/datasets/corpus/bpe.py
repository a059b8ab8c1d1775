"""Trains the BPE of Python code: a `tokenizer.json` in which chosen texts are single tokens.

The pre-tokeniser splits code so that an answer of a task is never glued to what follows it: a
line break stands alone but after a colon, brackets and quotes are no part of words. Texts that
have to be single tokens are pieces of their own, and are counted so often that the first merges
of the training are theirs: to allow them is not enough.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from harness.datasets.corpus.idioms.words import WORDS, Words
from harness.disk import write
from harness.errors import HarnessError

SEPARATOR = "<|endoftext|>"
ENTRIES = 2048

FORCED = (
    *('("', "('", '(f"', "')", '")', '}")', "]]", " [[", "],", "=None", "=None,", "):\n", ":\n"),
    *(' {"', ' ["', ' "', '":', '",', '"]', '"}', ' ""', " set()", ".add", " +=", " ==", " {"),
    *(".txt", "   ", "       ", "__init__", "@cache"),
)
"""Texts that are single tokens wherever they stand."""

_PATTERN = "|".join(
    (
        *(r" set\(\)", r' ""(?!")', r"=None,?", r"\):\n", r":\n", r'\(f"'),
        *(r" \[\[", r"\]\]", r'}"\)', r"[ .@=]?[\p{L}_]+", r" ?\p{N}{1,3}"),
        *(r" ?[^\s\p{L}\p{N}_]+", r"\n", r"\s+(?!\S)", r"\s"),
    )
)


def pre_tokenizer() -> Any:
    """Return what splits code into pieces; a token is a piece or a part of one."""
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def train_bpe(
    texts: Iterable[str],
    *,
    entries: int = ENTRIES,
    forced: Sequence[str] = FORCED,
    words: Words = WORDS,
    often: int = 1 << 12,
) -> Any:
    """Return a tokenizer with so many entries, trained on texts.

    `forced` texts and all `words` (alone, and with what comes before them) are single tokens, and
    `SEPARATOR` is the last one. They are counted `often` besides: oftener than what the last
    entries stand for in `texts`. Raises `HarnessError` if not all of them are single tokens.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=entries - 1,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    every = [*forced, *_word_tokens(words)]
    tokenizer.train_from_iterator(chain((_repeated(text, often) for text in every), texts), trainer)
    tokenizer.add_special_tokens([SEPARATOR])
    split = [text for text in every if len(tokenizer.encode(text).ids) != 1]
    if split or tokenizer.get_vocab_size() != entries:
        raise HarnessError(
            f"{tokenizer.get_vocab_size()} entries instead of {entries}; no single tokens: "
            f"{', '.join(map(repr, split)) or 'none'}; give more text, or force fewer tokens"
        )
    return tokenizer


def _word_tokens(words: Words) -> Iterator[str]:
    """The words as they stand in code: after a space, a bracket or quote, a dot, `@`."""
    for pool in words.pools.values():
        for word in pool:
            yield from (word, f" {word}")
    yield from (f".{word}" for word in words.names)


def _repeated(text: str, often: int) -> str:
    """The text many times, apart from itself; white space stands before a word."""
    return f"{text} x\n" * often if text.isspace() else f"{text}\n" * often


def save_tokenizer(tokenizer: Any, path: Path) -> None:
    """Write a `tokenizer.json`, the same bytes for the same tokenizer."""
    document = json.loads(tokenizer.to_str())
    write(path, f"{json.dumps(document, ensure_ascii=False, indent=0)}\n".encode())

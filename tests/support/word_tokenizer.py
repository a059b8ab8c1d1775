"""A tokenizer that splits text as Llama 3's does, over the words that a test asks for.

A word is one token with the space before it, a number of up to three digits one without; every
other sign, space and line break is one.
"""

from __future__ import annotations

import json
import string
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

BOS = "<|begin_of_text|>"
_PIECES = r" ?[A-Za-z]+|[0-9]{1,3}|\s|[^\w\s]"


def write_tokenizer(
    path: Path, words: Iterable[str], split: Sequence[str] = (), bos: str = BOS
) -> int:
    """Write a `tokenizer.json` that knows these words; returns its number of tokens.

    Of the words in `split` the first two letters are a token of their own. `bos` is special.
    """
    known = {*words, *(word[:2] for word in split), *(word[2:] for word in split)} - set(split)
    pieces = [bos, "<unk>", " ", "\n", *string.punctuation, *(str(one) for one in range(1000))]
    pieces += [piece for word in sorted(known) for piece in (word, f" {word}")]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = [*(rf" ?{word[:2]}(?={word[2:]}\b)" for word in split), _PIECES]
    document = _document(vocabulary, "|".join(parts), bos)
    path.write_text(json.dumps(document), encoding="utf-8")
    return len(vocabulary)


def _document(vocabulary: dict[str, int], pieces: str, bos: str) -> dict[str, Any]:
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": vocabulary[bos], "content": bos, "special": True, **special}],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": pieces},
            "behavior": "Isolated",
            "invert": False,
        },
        "post_processor": None,
        "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
    }

"""The tokenizer of `python_idioms` alone: one token for each piece that its texts fall into.

A model of the idioms needs no other tokens, and 330 in place of 2,048 make its embeddings, its
unembedding and above all its bigram table small. Other code is refused: nothing stands for what
is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness.datasets.corpus.bpe import SEPARATOR, pre_tokenizer


def word_level(texts: Iterable[str]) -> Any:
    """Return a tokenizer whose tokens are the pieces of texts, sorted, and last `SEPARATOR`.

    Pieces are those of `bpe.train_bpe`, so that the answers of `tasks/code` are single tokens.
    """
    from tokenizers import Tokenizer, decoders, models

    splitter = pre_tokenizer()
    pieces = sorted({piece for text in texts for piece, _ in splitter.pre_tokenize_str(text)})
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))  # no token: refused
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([SEPARATOR])
    return tokenizer

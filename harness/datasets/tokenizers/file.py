"""A `tokenizer.json` file, read by the `tokenizers` library."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from harness.datasets.locate import locate
from harness.datasets.tokenizers.guarded import load_guarded
from harness.datasets.tokenizers.tokenizer import BOS, Kind, Spans, only_token
from harness.errors import HarnessError

# BOS tokens that published `tokenizer.json` files use, in the order they are looked for.
BOS_NAMES = (BOS, "<|begin_of_text|>", "<s>", "<|endoftext|>", "[CLS]")
_ANY_TEXT = "The"


class FileTokenizer:
    """A `tokenizer.json`, read by the `tokenizers` library (optional dependency)."""

    kind: Kind = "file"

    def __init__(self, path: Path, bos: bool | Literal["auto"]) -> None:
        """Read `path`; HarnessError if the file or the library is missing, or BOS unknown.

        `bos` "auto": the token that the file itself puts before every text, if it puts one.
        """
        self._tokenizer = _load(path)
        vocabulary: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        self.size = max(vocabulary.values()) + 1
        self.bos: int | None = None
        if bos == "auto":
            self.bos = _own_bos(self._tokenizer, path)
        elif bos:
            self.bos = _bos(self._tokenizer, vocabulary, path)

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """Text of every id as in the file (byte-level files mark a space with Ġ)."""
        return tuple(self._tokenizer.id_to_token(index) or "" for index in range(self.size))

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, without BOS or other special tokens."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def prompt(self, text: str) -> list[int]:
        """Return the ids of `text` after BOS (if the task has one)."""
        return ([] if self.bos is None else [self.bos]) + self.encode(text)

    def spans(self, texts: Sequence[str]) -> list[Spans]:
        """Return for every text its ids and the characters [start, end) of each token.

        A space before a word may be inside or outside of the word's token, as the file has it.
        """
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [(encoding.ids, encoding.offsets) for encoding in encodings]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of `ids`."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        return text

    def single(self, text: str) -> int:
        """Return the id of a text that continues a prompt and must be exactly one token.

        Llama's tokenizer puts a space before every text, so " Mary" alone is two tokens. After
        a line break it is what it is after any word. HarnessError if it is not one token.
        """
        head, ids = self.encode("\n"), self.encode("\n" + text)
        if ids[: len(head)] != head:
            raise HarnessError(f"{text!r} cannot go on from other text: it joins a line break")
        return only_token(self, text, ids[len(head) :])


def open_tokenizer(path: str, bos: bool | Literal["auto"], folder: Path) -> FileTokenizer:
    """Return the tokenizer that a task in `folder` names; NotFound says how to provide it."""
    return FileTokenizer(locate(path, folder), bos)


def _load(path: Path) -> Any:
    try:
        return load_guarded(path)
    except ImportError as error:
        raise HarnessError(
            "a tokenizer of kind `file` needs the `tokenizers` package; "
            "install it with: pip install 'circuit-harness[tokenizers]'"
        ) from error


def _bos(tokenizer: Any, vocabulary: dict[str, int], path: Path) -> int:
    """The id of BOS: a special token if there is one, since "<s>" may also be a piece of text."""
    added = tokenizer.get_added_tokens_decoder().values()
    special = {token.content for token in added if token.special}
    for names in (special, vocabulary):
        for name in BOS_NAMES:
            if name in names:
                return vocabulary[name]
    raise HarnessError(
        f"tokenizer file {path} has none of the BOS tokens {', '.join(BOS_NAMES)}; set `bos: false`"
    )


def _own_bos(tokenizer: Any, path: Path) -> int | None:
    """The id that the file's post-processor puts before a text; None if it puts nothing there."""
    plain = tokenizer.encode(_ANY_TEXT, add_special_tokens=False).ids
    whole = tokenizer.encode(_ANY_TEXT, add_special_tokens=True).ids
    if not plain:
        raise HarnessError(
            f"tokenizer file {path} has no tokens for {_ANY_TEXT!r}, so its BOS cannot be told; "
            "set `bos` to true or false"
        )
    places = (at for at in range(len(whole)) if whole[at : at + len(plain)] == plain)
    before = next(places, None)
    if before is None or before > 1:
        puts = "other tokens in place of" if before is None else f"{before} tokens before"
        raise HarnessError(f"tokenizer file {path} puts {puts} a text; set `bos` to true or false")
    return int(whole[0]) if before else None

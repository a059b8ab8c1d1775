"""Tokenizers: a small vocabulary built from the task, or a `tokenizer.json` file.

`encode` never adds BOS; `prompt` does, if the task asks for it. Ids follow the order of
`tokens`; with BOS in a built vocabulary, it is id 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

from harness.datasets.locate import locate
from harness.errors import HarnessError

BOS = "<bos>"
# BOS tokens that published `tokenizer.json` files use, in the order they are looked for.
BOS_NAMES = (BOS, "<|begin_of_text|>", "<s>", "<|endoftext|>", "[CLS]")

Kind = Literal["words", "characters", "moves", "file"]
Spans = tuple[list[int], list[tuple[int, int]]]  # ids, characters [start, end) of each token

_PIECES = re.compile(r"\w+|[^\w\s]")


class Tokenizer(Protocol):
    """Text to token ids and back."""

    @property
    def kind(self) -> Kind:
        """How text is split."""
        ...

    @property
    def tokens(self) -> tuple[str, ...]:
        """Text of every id."""
        ...

    @property
    def size(self) -> int:
        """Number of ids (the model's vocabulary)."""
        ...

    @property
    def bos(self) -> int | None:
        """Id put before every prompt, if any."""
        ...

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, without BOS; HarnessError if a piece is unknown."""
        ...

    def prompt(self, text: str) -> list[int]:
        """Return the ids of `text` after BOS (if the task has one)."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Return readable text of `ids`."""
        ...

    def single(self, text: str) -> int:
        """Return the id of a text that must be exactly one token; HarnessError otherwise."""
        ...


def split_words(text: str) -> list[str]:
    """Split text the way the `words` tokenizer does.

    A token is a run of word characters (letters, digits, underscore) or one other character
    that is not a space: "to John's bar, then" -> to John ' s bar , then.
    """
    return _PIECES.findall(text)


class Vocabulary:
    """A closed vocabulary: words, characters or moves."""

    def __init__(self, kind: Kind, tokens: Sequence[str], bos: bool) -> None:
        """Take `tokens` in the order of their ids; BOS, if wanted, is put before them."""
        if len(set(tokens)) != len(tokens) or BOS in tokens:
            raise ValueError("tokens of a vocabulary must be distinct and not BOS")
        self.kind: Kind = kind
        self.tokens: tuple[str, ...] = (BOS, *tokens) if bos else tuple(tokens)
        self.size = len(self.tokens)
        self.bos: int | None = 0 if bos else None
        self._ids = {token: index for index, token in enumerate(self.tokens)}

    @classmethod
    def of_words(cls, texts: Iterable[str], bos: bool) -> Vocabulary:
        """Return the sorted vocabulary of all words and punctuation in `texts`."""
        return cls("words", sorted({word for text in texts for word in split_words(text)}), bos)

    @classmethod
    def of_characters(cls, texts: Iterable[str], bos: bool) -> Vocabulary:
        """Return the sorted vocabulary of all characters in `texts`."""
        return cls("characters", sorted({letter for text in texts for letter in text}), bos)

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, without BOS; HarnessError if a piece is unknown."""
        pieces = self._split(text)
        try:
            return [self._ids[piece] for piece in pieces]
        except KeyError as error:
            raise HarnessError(
                f"{error.args[0]!r} in {text!r} is not in the vocabulary of {self.size} {self.kind}"
            ) from None

    def prompt(self, text: str) -> list[int]:
        """Return the ids of `text` after BOS (if the task has one)."""
        return ([] if self.bos is None else [self.bos]) + self.encode(text)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the tokens of `ids`: joined by spaces, or directly for characters."""
        joint = "" if self.kind == "characters" else " "
        return joint.join(self.tokens[index] for index in ids)

    def single(self, text: str) -> int:
        """Return the id of a text that must be exactly one token; HarnessError otherwise."""
        return _only(self, text, self.encode(text))

    def spans(self, texts: Sequence[str]) -> list[Spans]:
        """Return for every text its ids and the characters [start, end) of each token."""
        return [(self.encode(text), self._places(text)) for text in texts]

    def _places(self, text: str) -> list[tuple[int, int]]:
        places, end = [], 0
        for piece in self._split(text):
            start = text.index(piece, end)
            end = start + len(piece)
            places.append((start, end))
        return places

    def _split(self, text: str) -> list[str]:
        if self.kind == "characters":
            return list(text)
        return split_words(text) if self.kind == "words" else text.split()


class FileTokenizer:
    """A `tokenizer.json`, read by the `tokenizers` library (optional dependency)."""

    kind: Kind = "file"

    def __init__(self, path: Path, bos: bool) -> None:
        """Read `path`; HarnessError if the file or the library is missing, or BOS unknown."""
        self._tokenizer = _load(path)
        vocabulary: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        self.size = max(vocabulary.values()) + 1
        self.bos = _bos(self._tokenizer, vocabulary, path) if bos else None

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
        """Return the id of a text that goes on from other text and must be exactly one token.

        Llama's tokenizer puts a space before every text, so " Mary" alone is two tokens. After
        a line break it is what it is after any word. HarnessError if it is not one token.
        """
        head, ids = self.encode("\n"), self.encode("\n" + text)
        if ids[: len(head)] != head:
            raise HarnessError(f"{text!r} cannot go on from other text: it joins a line break")
        return _only(self, text, ids[len(head) :])


def open_tokenizer(path: str, bos: bool, folder: Path) -> FileTokenizer:
    """Return the tokenizer that a task in `folder` names; NotFound says how to provide it."""
    return FileTokenizer(locate(path, folder), bos)


def _only(tokenizer: Tokenizer, text: str, ids: list[int]) -> int:
    if len(ids) != 1:
        pieces = " ".join(repr(tokenizer.tokens[index]) for index in ids)
        raise HarnessError(
            f"{text!r} must be exactly one token but is {len(ids)}: {pieces or 'nothing'}"
        )
    return ids[0]


def _load(path: Path) -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise HarnessError(
            "a tokenizer of kind `file` needs the `tokenizers` package; "
            "install it with: pip install 'circuit-harness[tokenizers]'"
        ) from error
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise HarnessError(f"tokenizer file {path}: {error}") from error
    try:
        return tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library raises bare Exception for a malformed file
        raise HarnessError(f"tokenizer file {path} is not a tokenizer.json: {error}") from error


def _bos(tokenizer: Any, vocabulary: dict[str, int], path: Path) -> int:
    """The id of BOS: a special token if there is one, since "<s>" may also be a piece of text."""
    added = tokenizer.get_added_tokens_decoder().values()
    special = {token.content for token in added if token.special}
    for known in (special, vocabulary):
        for name in BOS_NAMES:
            if name in known:
                return vocabulary[name]
    raise HarnessError(
        f"tokenizer file {path} has none of the BOS tokens {', '.join(BOS_NAMES)}; set `bos: false`"
    )

"""A `tokenizer.json` file, read by the `tokenizers` library."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from harness.datasets.locate import locate
from harness.datasets.tokenizers.bos import bos_token
from harness.datasets.tokenizers.guarded import load_guarded
from harness.datasets.tokenizers.settings import switch_off
from harness.datasets.tokenizers.tokenizer import Kind, Spans, after_bos, only_token
from harness.errors import HarnessError


class FileTokenizer:
    """A `tokenizer.json`, read by the `tokenizers` library (optional dependency).

    Only its vocabulary and its splitting of text are used: never its truncation, padding or
    dropout, and of what it puts around a text at most BOS.
    """

    kind: Kind = "file"

    def __init__(self, path: Path, bos: bool | str, continues: bool = True) -> None:
        """Read `path`; HarnessError if the file or the library is missing, or BOS unknown.

        `bos`: see `bos.bos_token`. `continues`: answers have to be how prompts go on (see
        `continuation`).
        """
        self._tokenizer = _load(path)
        vocabulary: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        if not vocabulary:
            raise HarnessError(f"tokenizer file {path} has no tokens")
        self.size = max(vocabulary.values()) + 1
        self.bos = bos_token(self._tokenizer, path, bos)
        if self.bos is not None and self._tokenizer.id_to_token(self.bos) is None:
            raise HarnessError(
                f"tokenizer file {path} puts id {self.bos} before a text, which is no token of it; "
                "name BOS in `bos`, or set `bos: false`"
            )
        self.continues = continues

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """Text of every id as in the file (byte-level files mark a space with Ġ)."""
        return tuple(self._tokenizer.id_to_token(index) or "" for index in range(self.size))

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, without BOS or other special tokens."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, as `encode` does."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def prompt(self, text: str) -> list[int]:
        """Return the ids of `text` after BOS (if the task has one); see `after_bos`."""
        return after_bos(self, self.encode(text))

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
        a line break it is what it is after any word. HarnessError if it is not one token, or the
        token for unknown text.
        """
        head, ids = self.encode("\n"), self.encode("\n" + text)
        if ids[: len(head)] != head:
            raise HarnessError(f"{text!r} cannot go on from other text: it joins a line break")
        token = only_token(self, text, ids[len(head) :])
        if token == self._unknown and text.strip() != self.tokens[token]:
            raise HarnessError(f"{text!r} is unknown to the tokenizer: {self.tokens[token]!r}")
        return token

    @cached_property
    def _unknown(self) -> int | None:
        """The id that stands for text the vocabulary lacks, if there is one."""
        model = self._tokenizer.model
        name = getattr(model, "unk_token", None)
        index: int | None
        if name is None:
            index = getattr(model, "unk_id", None)
        else:
            index = self._tokenizer.token_to_id(name)
        return index


def open_tokenizer(
    path: str, bos: bool | str, folder: Path, continues: bool = True
) -> FileTokenizer:
    """Return the tokenizer that a task in `folder` names; NotFound says how to provide it."""
    return FileTokenizer(locate(path, folder), bos, continues)


def _load(path: Path) -> Any:
    try:
        import tokenizers  # noqa: F401
    except ImportError as error:
        raise HarnessError(
            "a tokenizer of kind `file` needs the `tokenizers` package; "
            "install it with: pip install 'circuit-harness[tokenizers]'"
        ) from error
    return load_guarded(path, _parsed)


@lru_cache(maxsize=2)  # a task is opened several times while it is checked
def _parsed(text: str) -> Any:
    """The tokenizer of a file's text, without the settings that do more than split a text."""
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_str(text)
    switch_off(tokenizer)
    return tokenizer

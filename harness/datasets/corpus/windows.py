"""Windows of tokens from each kind of text: to train on, and held out with what they must cost.

A window to train on is a stream of documents cut after a fixed number of tokens. Of a held-out
window of idioms only complete lines count: up to the first line's end after which the longest
line might not fit. That rule looks at nothing that comes later, so that what is left out depends
on no choice, and the −log p of the lines is exactly what their tokens cost the best predictor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.datasets.corpus.idioms.document import Written, stream
from harness.datasets.corpus.idioms.pen import Pen
from harness.datasets.corpus.source import PythonSource
from harness.datasets.pairs import NO_TARGET, Ints
from harness.datasets.tokenizers import FileTokenizer
from harness.disk import write
from harness.errors import HarnessError

LONGEST_LINE = 28
"""Tokens of a line of idioms, at most; a tokenizer that needs more is refused."""

_LETTERS = 4  # of a token, about; too few are mended
_HELD_OUT_SEED = 2**40  # no training seed, which are below 2^32


@dataclass(frozen=True)
class HeldOutWindows:
    """Held-out windows of one kind of text, and the share that it has in the corpus.

    `tokens`, `targets` [n, context]: `NO_TARGET` where nothing is asked. `nats`: exact −log p of
    all targets together, where it is known.
    """

    kind: str
    share: float
    tokens: Ints
    targets: Ints
    nats: float | None

    @property
    def entropy(self) -> float | None:
        """Nats a target, where it is known: no model's expected loss is lower."""
        return None if self.nats is None else self.nats / int((self.targets >= 0).sum())


class Texts(Protocol):
    """One kind of text in windows."""

    def windows(self, n: int, seed: Sequence[int]) -> Ints:
        """Return windows to train on: tokens [n, context + 1], a function of the arguments."""
        ...

    def held_out(self, n: int, share: float) -> HeldOutWindows:
        """Return the first n held-out windows."""
        ...


def separator(tokenizer: FileTokenizer) -> int:
    """Return the token that every document begins with; HarnessError without one."""
    if tokenizer.bos is None:
        raise HarnessError("the tokenizer of a corpus needs a BOS token, which separates documents")
    return tokenizer.bos


class IdiomTexts:
    """Windows of `python_idioms`; each begins with a document, and no two are alike."""

    kind = "python_idioms"

    def __init__(
        self,
        tokenizer: FileTokenizer,
        context: int,
        emphasis: Mapping[str, float] | None = None,
    ) -> None:
        """Take the tokenizer, the tokens of a window, and what lines there are more of."""
        self._tokenizer, self._context = tokenizer, context
        self._emphasis = emphasis or {}
        self._separator = tokenizer.tokens[separator(tokenizer)]

    def windows(self, n: int, seed: Sequence[int]) -> Ints:
        """Return n windows (see `Texts`)."""
        wanted = self._context + 1
        streams = [self._lines(Pen.seeded(*seed, row)) for row in range(n)]
        texts = [self._separator] * n
        ids: list[list[int]] = [[]] * n
        short = list(range(n))
        while short:
            for row in short:
                # At least one line, also where a single token is missing.
                texts[row] += _letters(streams[row], _LETTERS * (wanted + 1 - len(ids[row])))
            for row, tokens in zip(
                short, self._tokenizer.encode_all([texts[row] for row in short]), strict=True
            ):
                ids[row] = tokens
            # One token more than is asked for: what comes next may still change the last one.
            short = [row for row in short if len(ids[row]) <= wanted]
        return np.array([tokens[:wanted] for tokens in ids], dtype=np.int64)

    def _lines(self, pen: Pen) -> Iterator[str]:
        return (self._separator if one.ends else one.text for one in self._stream(pen))

    def _stream(self, pen: Pen) -> Iterator[Written]:
        return stream(pen, emphasis=self._emphasis)

    def held_out(self, n: int, share: float) -> HeldOutWindows:
        """Return windows whose −log p is known (see `Texts`). HarnessError for long lines."""
        if self._context + 1 < 2 * LONGEST_LINE:
            raise HarnessError(f"corpus.context: idioms need at least {2 * LONGEST_LINE} tokens")
        tokens = np.zeros((n, self._context), dtype=np.int64)
        targets = np.full((n, self._context), NO_TARGET, dtype=np.int64)
        nats = 0.0
        for row in range(n):
            ids, cost = self.measured(Pen.seeded(_HELD_OUT_SEED, row))
            tokens[row, : len(ids) - 1] = ids[:-1]
            targets[row, : len(ids) - 1] = ids[1:]
            nats += cost
        return HeldOutWindows(self.kind, share, tokens, targets, nats)

    def measured(self, pen: Pen) -> tuple[list[int], float]:
        """Return the tokens of complete lines of one window and their −log p."""
        text, ends, costs = self._separator, [], []
        for one in self._stream(pen):
            text += self._separator if one.ends else one.text
            ends.append(len(text))
            costs.append(one.nats)
            if len(text) > 2 * _LETTERS * self._context:
                break
        ((ids, spans),) = self._tokenizer.spans([text])
        borders = {end: count for count, (_, end) in enumerate(spans, 1)}
        count, total = 1, 0.0
        for end, cost in zip(ends, costs, strict=True):
            if count + LONGEST_LINE > self._context + 1:
                return ids[:count], total
            if end not in borders or borders[end] - count > LONGEST_LINE:
                raise HarnessError(
                    "the tokenizer of the corpus does not suit python_idioms: a line "
                    + ("does not end a token" if end not in borders else "has too many tokens")
                    + f" in {text[:end][-60:]!r}; train one with `harness.cli.python_tokenizer`"
                )
            count, total = borders[end], total + cost
        raise HarnessError(f"a window of {self._context} tokens has more than {len(text)} letters")


def _letters(lines: Iterator[str], least: int) -> str:
    parts, size = [], 0
    while size < least:
        parts.append(next(lines))
        size += len(parts[-1])
    return "".join(parts)


class SourceTexts:
    """Windows of `python_source`: from anywhere in all documents, one after the other."""

    kind = "python_source"

    def __init__(
        self, source: PythonSource, tokenizer: FileTokenizer, context: int, cache: Path | None
    ) -> None:
        """Take the files; `cache` is a file that keeps their tokens, if it may be written."""
        self._source, self._tokenizer, self._context = source, tokenizer, context
        self._cache = cache
        self._stream: NDArray[Any] | None = None

    def windows(self, n: int, seed: Sequence[int]) -> Ints:
        """Return n windows (see `Texts`)."""
        if self._stream is None:
            self._stream = self._kept()
        rng = np.random.default_rng(seed)
        starts = rng.integers(len(self._stream) - self._context, size=n)
        columns = starts[:, None] + np.arange(self._context + 1)
        windows: Ints = self._stream[columns].astype(np.int64)
        return windows

    def held_out(self, n: int, share: float) -> HeldOutWindows:
        """Return windows evenly spread over the held-out files (see `Texts`)."""
        tokens = self._encoded(held_out=True)
        starts = np.linspace(0, len(tokens) - self._context - 1, n).astype(np.int64)
        rows = tokens[starts[:, None] + np.arange(self._context + 1)].astype(np.int64)
        return HeldOutWindows(self.kind, share, rows[:, :-1], rows[:, 1:], None)

    def _kept(self) -> NDArray[Any]:
        """The tokens that are trained on, from the cache if it has them."""
        if self._cache is not None and self._cache.is_file():
            return np.load(self._cache, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
        tokens = self._encoded(held_out=False)
        if self._cache is not None:
            self._cache.parent.mkdir(parents=True, exist_ok=True)
            write(self._cache, _as_npy(tokens))
        return tokens

    def _encoded(self, *, held_out: bool) -> NDArray[Any]:
        texts = self._source.texts(held_out=held_out)
        first = separator(self._tokenizer)
        ids = [[first, *one] for one in self._tokenizer.encode_all(texts)]
        kind = np.uint16 if self._tokenizer.size <= 1 << 16 else np.uint32
        tokens = np.fromiter((one for part in ids for one in part), dtype=kind)
        if len(tokens) <= self._context + 1:
            part = "held-out files" if held_out else "files"
            raise HarnessError(
                f"corpus: the {part} have {len(tokens)} tokens, fewer than a window of "
                f"{self._context}; give more files"
            )
        return tokens


def _as_npy(array: NDArray[Any]) -> bytes:
    from io import BytesIO

    file = BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()

"""A tokenizer of the `tokenizers` library whose every failure is a `HarnessError`.

What a `tokenizer.json` asks for is partly looked at only when it is used: an unknown token that
the vocabulary lacks, a pattern that cannot be matched, a broken table of characters. The library
then raises bare exceptions, or panics, which is not even an `Exception`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.spec.printable import printable

LARGEST = 1 << 27
"""Bytes of a `tokenizer.json`; those of 256,000 tokens have 35 MB."""
LARGEST_ID = 1 << 24
"""Ids are below this: tables have a row for every id up to the largest."""
_LONGEST_REASON = 300
_PROBE = "The Ａ\u0301 7\n.."  # what most parts of a broken file fail on


def load_guarded(path: Path, parsed: Callable[[str], Any]) -> Any:
    """The tokenizer of a file, guarded; `parsed` makes the library's of its text.

    Raises `HarnessError` if it is none or has odd ids.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)
        text = raw.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise HarnessError(f"tokenizer file {path}: {error}") from error
    if len(raw) > LARGEST:
        raise HarnessError(f"tokenizer file {path} is larger than {LARGEST >> 20} MiB")
    with _quiet():
        try:
            guarded = GuardedTokenizer(parsed(text), path)
        except BaseException as error:
            raise _harness_error(error, f"tokenizer file {path} is not a tokenizer.json") from error
        _refuse_panic(guarded)
    ids = guarded.get_vocab(with_added_tokens=True).values()
    if not ids:
        raise HarnessError(f"tokenizer file {path} has no tokens")
    if max(ids) >= LARGEST_ID:
        raise HarnessError(
            f"tokenizer file {path} has a token of id {max(ids)}; ids are below {LARGEST_ID}"
        )
    return guarded


class GuardedTokenizer:
    """Passes everything on to the library's tokenizer."""

    def __init__(self, tokenizer: Any, path: Path) -> None:
        """Take the tokenizer, and its file for messages."""
        object.__setattr__(self, "_inner", tokenizer)
        object.__setattr__(self, "_path", path)

    def __getattr__(self, name: str) -> Any:
        if name in ("_inner", "_path") or name.startswith("__"):  # half made, as copies are
            raise AttributeError(name)
        value = getattr(self._inner, name)
        if not callable(value):
            return value

        def call(*arguments: Any, **options: Any) -> Any:
            # A template of special tokens may panic, and is asked for BOS alone.
            rare = options.get("add_special_tokens", False)
            try:
                with _quiet() if rare else nullcontext():
                    return value(*arguments, **options)
            except BaseException as error:
                place = f"tokenizer file {self._path} fails in {name!r}"
                raise _harness_error(error, place) from error

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._inner, name, value)


def _refuse_panic(guarded: GuardedTokenizer) -> None:
    """Raise if the tokenizer panics at a text; that it cannot encode this one is no fault."""
    try:
        guarded.encode(_PROBE, add_special_tokens=False)
    except HarnessError as error:
        if not isinstance(error.__cause__, Exception):
            raise


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what a panic prints to stderr before Python sees it."""
    try:
        usual = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(usual, 2)
        os.close(usual)
        os.close(nowhere)


def _harness_error(error: BaseException, what: str) -> BaseException:
    """The error to raise for one of the library; those that are not its own are passed on."""
    if isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError)):
        return error
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return HarnessError(f"{what}: {printable(reason[:_LONGEST_REASON])}")

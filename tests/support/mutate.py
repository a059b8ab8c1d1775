"""Seeded mutations of bytes and of plain data, and the law that every mutated file obeys.

`bytes_of` damages a file as disks, editors and merges do; `data_of` damages what it says: values of
another type, huge numbers, deep nesting, odd text, keys misspelt, left out or in the wrong place.
"""

from __future__ import annotations

import copy
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

MOST_SECONDS = 5
MOST_BYTES = 1 << 30

TEXTS = [
    "",
    " ",
    "a" * 5000,
    "\ufeff",
    "\u202ea\u2066",
    "e\u0301\U0001f600",
    "\0",
    "\x1b[2J",
    "\ud800",
    "../../etc/passwd",
    "x" * 300 + ".yaml",
    "=1+1",
    "<predict>" * 2000,
    "{" * 200 + "}" * 200,
    "{A}" * 500,
    "null",
    "1e999",
    "%s%n{0}",
]
NUMBERS: list[int | float] = [
    0,
    -1,
    1,
    2**31,
    2**53 + 1,
    2**63,
    2**64,
    10**18,
    10**40,
    1.0,
    0.5,
    -0.0,
    1e18,
    1e308,
    -1e308,
    5e-324,
    float("nan"),
    float("inf"),
]
RAW = [
    b"",
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
    "\u202e\u2028".encode(),
    b"\r",
    b"\t",
    b'"',
    b"'",
    b"\\",
    b'\\"',
    b": ",
    b"- ",
    b"&a ",
    b"*a",
    b"<<: ",
    b"!!python/object ",
    b"[" * 300,
    b"{" * 300,
    b"9" * 5000,
    b"1e999",
    b".nan",
    b"<predict>",
    b"</predict>" * 50,
    b",,,,",
    b"\n\n",
    b"---\n",
    b"%YAML 9\n",
]


def bytes_of(raw: bytes, rng: random.Random) -> bytes:
    """`raw` with one to three places damaged."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        raw = _damaged(raw, rng)
    return raw


def _damaged(raw: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(raw) + 1)
    end = min(len(raw), at + rng.choice((1, 1, 2, 4, 16, 64)))
    other = rng.randrange(len(raw) + 1)
    damages: list[Callable[[], bytes]] = [
        lambda: _flipped(raw, at, rng),
        lambda: raw[:at] + raw[end:],
        lambda: raw[:at],
        lambda: raw[:end] + raw[at:end] * rng.choice((1, 1, 20)) + raw[end:],
        lambda: raw[:at] + rng.choice(RAW) + raw[at:],
        lambda: raw[:at] + rng.choice(RAW) + raw[end:],
        lambda: _other_line(raw, rng),
        lambda: raw[:at] + raw[other : other + end - at] + raw[end:],
    ]
    return rng.choice(damages)()


def _flipped(raw: bytes, at: int, rng: random.Random) -> bytes:
    """One bit is another."""
    flipped = bytearray(raw or b"\0")
    flipped[at % len(flipped)] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def _other_line(raw: bytes, rng: random.Random) -> bytes:
    """One line stands in the place of another."""
    lines = raw.splitlines(keepends=True)
    if len(lines) < 2:
        return raw + raw
    lines[rng.randrange(len(lines))] = rng.choice(lines)
    return b"".join(lines)


def data_of(data: Any, rng: random.Random, deepest: int = 900) -> Any:
    """A copy of plain data with one or two of its values or keys changed."""
    data = copy.deepcopy(data)
    for _ in range(rng.choice((1, 1, 2))):
        holders = list(_holders(data))
        if not holders:
            return _other_value(rng, data, deepest)
        holder = rng.choice(holders)
        if isinstance(holder, dict):
            _change_mapping(holder, rng, deepest)
        else:
            _change_list(holder, rng, deepest)
    return data


def _holders(data: Any) -> Iterator[Any]:
    pending = [data]
    while pending:
        one = pending.pop()
        if isinstance(one, (dict, list)) and one:
            yield one
            pending += one.values() if isinstance(one, dict) else one


def _change_mapping(holder: dict[Any, Any], rng: random.Random, deepest: int) -> None:
    key = rng.choice(list(holder))
    match rng.randrange(6):
        case 0:
            del holder[key]
        case 1:  # misspelt
            text = str(key)
            at = rng.randrange(len(text) + 1)
            holder[text[:at] + text[at + 1 :]] = holder.pop(key)
        case 2:
            holder[rng.choice(TEXTS)] = holder[key]
        case 3:
            other = rng.choice(list(holder))
            holder[key], holder[other] = holder[other], holder[key]
        case _:
            holder[key] = _other_value(rng, holder[key], deepest)


def _change_list(holder: list[Any], rng: random.Random, deepest: int) -> None:
    at = rng.randrange(len(holder))
    match rng.randrange(5):
        case 0:
            del holder[at]
        case 1:
            holder.insert(at, holder[at])
        case 2:
            holder[at:at] = [holder[at]] * rng.choice((2, 300))
        case _:
            holder[at] = _other_value(rng, holder[at], deepest)


def _other_value(rng: random.Random, value: Any, deepest: int) -> Any:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    others: list[Callable[[], Any]] = [
        lambda: rng.choice(NUMBERS),
        lambda: rng.choice(TEXTS),
        lambda: rng.choice((None, True, False, [], {})),
        lambda: _nested(min(deepest, rng.choice((3, 70, 900))), rng.random() < 0.5),
        lambda: [value] * rng.choice((1, 3, 400)),
        lambda: {str(value)[:20]: value},
        lambda: value * rng.choice((-1, 0.5, 10, 10**6)) if number else str(value)[::-1],
    ]
    return rng.choice(others)()


def _nested(depth: int, mapping: bool) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value} if mapping else [value]
    return value


# ---------------------------------------------------------------- the law
class TookTooLong(BaseException):
    """Raised out of whatever is running; nothing catches it."""


@contextmanager
def within_seconds(seconds: float = MOST_SECONDS) -> Iterator[None]:
    """Processor time of this process, so that a busy machine changes nothing."""

    def stop(*_: object) -> None:
        raise TookTooLong(f"more than {seconds} s of processor time")

    former = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, former)


def all_obey(
    mutants: Iterator[tuple[int, bytes, Callable[[], object]]],
    refusals: tuple[type[Exception], ...],
) -> tuple[int, int]:
    """Read every mutant (its seed, its bytes, what reads it); return how many were read, refused.

    Fails with the seed of the first mutant that raises anything else, takes more than five
    seconds, or gives a message that cannot be printed; and if memory grew by more than 1 GiB.
    """
    read = refused = 0
    before = _peak_memory(reset=True)
    for seed, raw, reader in mutants:
        try:
            with within_seconds():
                reader()
            read += 1
        except refusals as error:
            refused += 1
            text = str(error)
            assert text.strip(), f"seed {seed}: an empty message for {raw[:300]!r}"
            assert text.isprintable() or _printable(text), f"seed {seed}: {text!r}"
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            raise AssertionError(f"seed {seed}: {error!r} for {raw[:2000]!r}") from error
    grown = _peak_memory() - before
    assert grown <= MOST_BYTES, f"memory grew by {grown >> 20} MiB"
    return read, refused


def _printable(text: str) -> bool:
    text.encode("utf-8")  # raises for half a character
    return not any(ord(one) < 32 and one != "\n" for one in text)


def _peak_memory(*, reset: bool = False) -> int:
    """Peak of resident memory in bytes, since the last reset where the system can reset it."""
    if reset:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    return 0

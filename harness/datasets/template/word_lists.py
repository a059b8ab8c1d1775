"""Word lists of template tasks: inline, from a text file, or a range of numbers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from harness.datasets.locate import beside
from harness.datasets.template.spec import WordList

LONGEST_RANGE = 100_000
LARGEST_FILE = 1 << 24  # bytes
MOST_WORDS = 300_000  # of all lists of a task
MOST_DIGITS = 20


def read_words(spec: WordList, folder: Path) -> tuple[tuple[str, ...], list[str]]:
    """Return the words of a list and what is wrong with it.

    A file has one word per line, UTF-8; empty lines are skipped, spaces around words dropped.
    A range [first, last] includes both ends; `digits` pads its numbers with zeros.
    """
    keys = [name for name in ("words", "file", "range") if getattr(spec, name) is not None]
    if len(keys) != 1:
        return (), [f"give exactly one of words, file, range (given: {', '.join(keys) or 'none'})"]
    problems: list[str] = []
    words: tuple[str, ...] = ()
    if spec.words is not None:
        words = tuple(spec.words)
    elif spec.file is not None:
        words, problems = _from_file(beside(spec.file, folder), spec.file)
    elif spec.range is not None:
        words, problems = _from_range(spec.range, spec.digits or 1)
    if not words and not problems:
        problems.append("the list is empty")
    repeated = [word for word, times in Counter(words).items() if times > 1]
    if repeated:
        problems.append(f"repeated: {', '.join(repeated[:10])}")
    if any(not word.strip() for word in words):
        problems.append("a word is empty")
    return words, problems


def _from_file(path: Path, shown: str) -> tuple[tuple[str, ...], list[str]]:
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST_FILE + 1)
        lines = raw.decode("utf-8-sig").splitlines()
    except OSError as error:
        return (), [f"word file {shown}: {error.strerror or error}"]
    except UnicodeDecodeError as error:
        return (), [f"word file {shown} is not UTF-8: {error.reason} at byte {error.start}"]
    except ValueError as error:  # a path with a NUL
        return (), [f"word file {shown}: {error}"]
    if len(raw) > LARGEST_FILE:
        return (), [f"word file {shown} is larger than {LARGEST_FILE >> 20} MiB"]
    return tuple(line.strip() for line in lines if line.strip()), []


def _from_range(limits: tuple[int, int], digits: int) -> tuple[tuple[str, ...], list[str]]:
    first, last = limits
    if not 0 <= first <= last:
        return (), [f"range [{first}, {last}] must be in order and not negative"]
    if last - first >= LONGEST_RANGE:
        return (), [f"range [{first}, {last}] has more than {LONGEST_RANGE} numbers"]
    if not 1 <= digits <= MOST_DIGITS:
        return (), [f"digits must be 1 … {MOST_DIGITS}, not {digits}"]
    return tuple(f"{number:0{digits}d}" for number in range(first, last + 1)), []

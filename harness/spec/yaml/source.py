"""A YAML file as plain data with the place of every key and value.

Reads the core schema of YAML 1.2 and refuses what hides mistakes or does harm: duplicate keys,
tags, merge keys, NaN and infinity, several documents, keys that are not strings, alias bombs,
huge or deeply nested files, text that is not UTF-8.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from harness.spec.issues import Issue, spec_error
from harness.spec.printable import printable, shown_path
from harness.spec.yaml.nodes import Fault, Node, Spot, compose

__all__ = ["KEY", "Issue", "Source", "parse_text", "read_source"]

LARGEST = 1 << 20  # bytes


class _Marker(Enum):
    KEY = "key"


KEY: Final = _Marker.KEY
"""`positions[path + (KEY, key)]` is the place of a key itself."""

Path_ = tuple[Any, ...]  # keys and indices from the top of the file

# What YAML 1.2 calls printable, less what it allows only inside escapes.
_FORBIDDEN = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)


@dataclass(frozen=True)
class Source:
    """A spec file that could be read. `faults` are mistakes found while reading it.

    `positions[path]` is the (line, column) of a value, `positions[path + (KEY, key)]` that of a
    key; both count from 1. `path` is a tuple of keys and list indices.
    """

    path: Path
    name: str
    text: str
    data: Any
    positions: Mapping[Path_, tuple[int, int]]
    faults: tuple[Issue, ...] = ()
    widths: Mapping[Path_, int] = field(default_factory=dict, repr=False)

    def issue(self, path: Path_, message: str, *, at_key: str | None = None) -> Issue:
        """A mistake in the value at `path`, or in its key `at_key`.

        Mappings and lists are marked at the key that holds them. A path that is not in the file
        (a default, or the long form of a value written short) is marked at what surrounds it.
        """
        place = self._place(path, at_key)
        line, column = self.positions.get(place, (1, 1))
        return Issue(
            file=self.name,
            line=line,
            column=column,
            where=".".join(printable(str(part)) for part in path),
            message=message,
            excerpt=self.line(line),
            width=self.widths.get(place, 1),
        )

    def line(self, number: int) -> str:
        """A line of the text, counted from 1; "" past the end."""
        return self._lines[number - 1] if 0 < number <= len(self._lines) else ""

    @cached_property
    def _lines(self) -> list[str]:
        return self.text.splitlines()

    def _place(self, path: Path_, at_key: str | None) -> Path_:
        if at_key is not None and (place := (*path, KEY, at_key)) in self.positions:
            return place
        while path and path not in self.positions:
            path = path[:-1]
        key = (*path[:-1], KEY, path[-1]) if path else ()
        is_collection = self.widths.get(path) == 0
        return key if is_collection and key in self.positions else path


def read_source(path: Path, name: str | None = None) -> Source:
    """Read a file; `name` is how messages call it. Raises `SpecError` with all faults."""
    source = parse_text(read_text(path, name), path, name)
    if source.faults:
        raise spec_error(source.faults)
    return source


def read_text(path: Path, name: str | None = None) -> str:
    """A spec file's text. Raises `SpecError` if it cannot be read, is too large or not UTF-8."""
    shown = shown_path(path) if name is None else name

    def refuse(message: str, line: int = 1, column: int = 1) -> Exception:
        return spec_error([Issue(shown, line, column, "", message)])

    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else None
        raise refuse(f"cannot read the file: {reason or error}") from error
    if len(raw) > LARGEST:
        raise refuse(f"the file is larger than {LARGEST >> 20} MiB; put long lists in files")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        column = len(before.rpartition(b"\n")[2].decode("utf-8", "replace")) + 1
        message = f"not UTF-8: {error.reason} (byte 0x{raw[error.start]:02x})"
        raise refuse(message, before.count(b"\n") + 1, column) from error


def parse_text(text: str, path: Path, name: str | None = None) -> Source:
    """The source of a text; never raises: what is wrong stands in `faults`."""
    shown = shown_path(path) if name is None else name
    bare = Source(path=path, name=shown, text=text, data=None, positions={})
    node, faults = compose(text) if (bad := _forbidden(text)) is None else (None, [bad])
    if node is None and not faults:
        faults = [Fault(Spot(1, 1), "the file is empty")]
    reader = _Walk()
    data = None if node is None else reader.value(node, ())
    return Source(
        path=path,
        name=shown,
        text=text,
        data=data,
        positions=reader.positions,
        faults=tuple(_issue(bare, fault) for fault in faults),
        widths=reader.widths,
    )


class _Walk:
    """Turns nodes into plain data and notes where everything stands."""

    def __init__(self) -> None:
        self.positions: dict[Path_, tuple[int, int]] = {}
        self.widths: dict[Path_, int] = {}

    def value(self, node: Node, path: Path_) -> Any:
        """Plain data of a node; fresh collections each time, also below an alias."""
        if isinstance(node.value, dict):
            self._note(path, node.spot, 0)
            result = {}
            for key, (spot, item) in node.value.items():
                self._note((*path, KEY, key), spot, spot.width)
                result[key] = self.value(item, (*path, key))
            return result
        if isinstance(node.value, list):
            self._note(path, node.spot, 0)
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        self._note(path, node.spot, node.spot.width)
        return node.value

    def _note(self, path: Path_, spot: Spot, width: int) -> None:
        self.positions[path] = (spot.line, spot.column)
        self.widths[path] = width


def _issue(source: Source, fault: Fault) -> Issue:
    spot = fault.spot
    return Issue(
        file=source.name,
        line=spot.line,
        column=spot.column,
        where=fault.where,
        message=fault.message,
        excerpt=source.line(spot.line),
        width=spot.width,
    )


def _forbidden(text: str) -> Fault | None:
    match = _FORBIDDEN.search(text)
    if match is None:
        return None
    before = text[: match.start()].splitlines() or [""]
    newline = text[: match.start()].endswith(("\n", "\r", "\x85", "\u2028", "\u2029"))
    line, column = (len(before) + 1, 1) if newline else (len(before), len(before[-1]) + 1)
    return Fault(Spot(line, column), f"character U+{ord(match[0]):04X} is not allowed")

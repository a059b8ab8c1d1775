"""Builds a tree of nodes with positions from the parse events of YAML text.

PyYAML's own composer is not used, because it recurses (deeply nested brackets overflow the stack)
and expands aliases without counting them. What specs must not contain is reported at its position.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

from harness.spec.printable import printable, quoted
from harness.spec.yaml.scalars import Scalar, resolve

MOST_VALUES = 50_000
DEEPEST = 64

# The C parser is several times faster; PyYAML built without it has the same events.
_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

_HINTS = {
    "mapping values are not allowed": "a ': ' has no place here; check the indentation, or quote "
    "the text",
    "could not find expected ':'": "a ':' is missing after a key",
    "did not find expected key": "expected a key here; check the indentation and quotes",
    "did not find expected '-' indicator": "expected a list item here; check the indentation",
    "did not find expected ',' or ']'": "a ',' or ']' is missing",
    "did not find expected ',' or '}'": "a ',' or '}' is missing",
    "did not find expected node content": "a value is missing here; is a bracket left open?",
    "found unexpected end of stream": "the closing quote is missing",
}


@dataclass(frozen=True, slots=True)
class Spot:
    """A place in the file, counted from 1, and how many characters it spans on its line."""

    line: int
    column: int
    width: int = 1


@dataclass(frozen=True)
class Fault:
    """Something that specs must not contain; `where` is the dotted path of what holds it."""

    spot: Spot
    message: str
    where: str = ""


class UnreadableError(Exception):
    """The file cannot be read further; carries the last fault."""

    def __init__(self, spot: Spot, message: str) -> None:
        super().__init__(message)
        self.fault = Fault(spot, message)


Items: TypeAlias = "list[Node]"
Pairs: TypeAlias = "dict[str, tuple[Spot, Node]]"


@dataclass(slots=True)
class Node:
    """A value; `size` counts it and all below it, `height` the levels below it."""

    value: Scalar | Items | Pairs
    spot: Spot
    size: int = 1
    height: int = 0
    plain: str | None = None  # the text of an unquoted scalar


@dataclass(slots=True)
class _Open:
    """A collection whose end has not been seen."""

    node: Node
    anchor: str | None
    key: Node | None = None  # read, and waiting for its value


@dataclass
class _Composer:
    faults: list[Fault] = field(default_factory=list)
    anchors: dict[str, Node | None] = field(default_factory=dict)  # None while still open
    stack: list[_Open] = field(default_factory=list)
    root: Node | None = None

    def read(self, events: Iterator[Any]) -> None:
        documents = 0
        for event in events:
            match type(event):
                case yaml.DocumentStartEvent:
                    documents += 1
                    self._start_document(event, documents)
                case yaml.ScalarEvent:
                    self._add(self._scalar(event), event.anchor)
                case yaml.AliasEvent:
                    self._add(self._alias(event), None)
                case yaml.MappingStartEvent:
                    self._open(event, {})
                case yaml.SequenceStartEvent:
                    self._open(event, [])
                case yaml.MappingEndEvent | yaml.SequenceEndEvent:
                    done = self.stack.pop()
                    self._add(done.node, done.anchor)

    def _start_document(self, event: Any, number: int) -> None:
        if number > 1:
            raise UnreadableError(
                _spot(event), "a spec is one YAML document; put each in its own file"
            )
        if event.version or event.tags:
            self._fault(_spot(event), "directives (%YAML, %TAG) are not allowed")

    def _scalar(self, event: Any) -> Node:
        spot = _spot(event)
        self._refuse_tag(event, spot)
        if event.style:
            if _CONTROL.search(event.value):
                self._fault(spot, f"control character in {quoted(event.value)}")
            return Node(event.value, spot)
        try:
            return Node(resolve(event.value), spot, plain=event.value)
        except ValueError as error:
            self._fault(spot, f"{error}: {quoted(event.value)}")
            return Node(None, spot, plain=event.value)

    def _alias(self, event: Any) -> Node:
        name, spot = event.anchor, _spot(event)
        if name not in self.anchors:
            raise UnreadableError(spot, f"alias {quoted('*' + name)} has no anchor above it")
        target = self.anchors[name]
        if target is None:
            raise UnreadableError(spot, f"alias {quoted('*' + name)} contains itself")
        if len(self.stack) + target.height > DEEPEST:
            raise UnreadableError(spot, f"nested deeper than {DEEPEST} levels")
        # Values point to where they are written, so the anchor's places are kept.
        return target

    def _open(self, event: Any, value: Items | Pairs) -> None:
        spot = Spot(event.start_mark.line + 1, event.start_mark.column + 1)
        self._refuse_tag(event, spot)
        if len(self.stack) >= DEEPEST:
            raise UnreadableError(spot, f"nested deeper than {DEEPEST} levels")
        if event.anchor:
            self.anchors[event.anchor] = None
        self.stack.append(_Open(Node(value, spot), event.anchor))

    def _add(self, node: Node, anchor: str | None) -> None:
        if anchor:
            self.anchors[anchor] = node
        if not self.stack:
            self.root = node
            return
        top = self.stack[-1]
        parent = top.node
        parent.size += node.size
        parent.height = max(parent.height, node.height + 1)
        if parent.size > MOST_VALUES:
            raise UnreadableError(
                node.spot, f"more than {MOST_VALUES} values (aliases count each time)"
            )
        if isinstance(parent.value, list):
            parent.value.append(node)
        elif top.key is None:
            top.key = node
        else:
            key, top.key = top.key, None
            self._pair(key, node, parent.value)  # type: ignore[arg-type]

    def _pair(self, key: Node, value: Node, pairs: Pairs) -> None:
        if key.plain == "<<":
            self._fault(key.spot, "merge keys ('<<') are not allowed; write the keys out")
        elif not isinstance(key.value, str):
            shown = "" if key.plain is None else f", not {key.plain or 'nothing'}; quote it"
            self._fault(key.spot, f"a key must be a string{shown}")
        elif key.value in pairs:
            first = pairs[key.value][0].line
            self._fault(key.spot, f"duplicate key {quoted(key.value)} (first at line {first})")
        else:
            pairs[key.value] = (key.spot, value)

    def _refuse_tag(self, event: Any, spot: Spot) -> None:
        if event.tag is not None:
            self._fault(spot, f"tags such as {quoted(event.tag)} are not allowed")

    def _fault(self, spot: Spot, message: str) -> None:
        self.faults.append(Fault(spot, message, self._where()))

    def _where(self) -> str:
        """Path of the value being read, or of the mapping whose key is being read."""
        steps = []
        for level in self.stack:
            if isinstance(level.node.value, list):
                steps.append(str(len(level.node.value)))
            elif level.key is not None:
                key = level.key.value
                steps.append(printable(key) if isinstance(key, str) else "?")
        return ".".join(steps)


def compose(text: str) -> tuple[Node | None, list[Fault]]:
    """The root node (None if there is none or it cannot be read) and all faults."""
    composer = _Composer()
    try:
        composer.read(_events(text))
    except UnreadableError as stop:
        return None, [*composer.faults, stop.fault]
    return composer.root, composer.faults


def _events(text: str) -> Iterator[Any]:
    parser = _Parser(text)
    try:
        while (event := parser.get_event()) is not None:
            yield event
    except yaml.MarkedYAMLError as error:
        spot = _mark(error.problem_mark or error.context_mark)
        if "unexpected end of stream" in (error.problem or ""):
            spot = _mark(error.context_mark or error.problem_mark)  # where the quote opens
        raise UnreadableError(spot, _problem(error, text, spot)) from error
    finally:
        parser.dispose()


def _problem(error: yaml.MarkedYAMLError, text: str, spot: Spot) -> str:
    lines = text.splitlines()
    line = lines[spot.line - 1] if spot.line <= len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "a tab is used for indentation; YAML allows only spaces"
    problem = error.problem or "not readable"
    for start, hint in _HINTS.items():
        if problem.startswith(start):
            opened = _mark(error.context_mark).line
            since = f"; the bracket opens in line {opened}" if "' or '" in start else ""
            return f"not valid YAML: {hint}{since}"
    return f"not valid YAML: {problem}"


def _mark(mark: Any) -> Spot:
    return Spot(mark.line + 1, mark.column + 1) if mark else Spot(1, 1)


def _spot(event: Any) -> Spot:
    start, end = event.start_mark, event.end_mark
    width = end.column - start.column if end.line == start.line else 1
    return Spot(start.line + 1, start.column + 1, max(1, width))

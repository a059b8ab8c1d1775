"""Statements of one line. Each has one derivation: its text says every choice that was taken.

A function writes the statement without its indentation and line break.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from harness.datasets.corpus.idioms.page import Page

Line = Callable[[Page], None]


def _say(page: Page) -> None:
    """`print("apple river")`, `print('apple')`, `print(f"apple {total}")`."""
    verb = page.word(page.words.verbs)
    form = page.pen.weigh(("double", "single", "inserted"), (0.4, 0.4, 0.2))
    if form == "inserted":
        phrase = page.phrase(3)
        page.write(f'{verb}(f"{phrase} {{{page.word(page.words.names)}}}")')
    else:
        quote = '"' if form == "double" else "'"
        page.write(f"{verb}({quote}{page.phrase(4)}{quote})")


def _numbers(page: Page) -> None:
    """`values = [1, 2]`, `values = [[1, 2], [3]]`."""
    name = page.new()
    if page.pen.coin(0.5):
        rows = [_row(page, 3) for _ in range(page.several(1, 2))]
        page.write(f"{name} = [{', '.join(rows)}]")
    else:
        page.write(f"{name} = {_row(page, 5)}")


def _row(page: Page, most: int) -> str:
    numbers = [page.number() for _ in range(page.several(1, most))]
    return f"[{', '.join(numbers)}]"


def _strings(page: Page) -> None:
    """`ages = {"apple": 1, "river": 2}`, `names = ["apple", "river"]`."""
    name = page.new()
    as_dict = page.pen.coin(0.5)
    keys = [page.pen.pick(page.words.texts) for _ in range(page.several(1, 3))]
    if as_dict:
        inside = ", ".join([f'"{key}": {page.number()}' for key in keys])
        page.write(f"{name} = {{{inside}}}")
    else:
        inside = ", ".join([f'"{key}"' for key in keys])
        page.write(f"{name} = [{inside}]")


def _empty(page: Page) -> None:
    """`seen = set()`, `text = ""`."""
    name = page.new()
    is_set = page.pen.coin(0.5)
    page.held[name] = "set" if is_set else "text"
    page.write(f"{name} = set()" if is_set else f'{name} = ""')


def _update(page: Page) -> None:
    """`seen.add("apple")`, `text += "apple"`: of a name that holds such a thing."""
    name = page.pen.pick(_updatable(page))
    word = page.pen.pick(page.words.texts)
    page.write(f'{name}.add("{word}")' if page.held[name] == "set" else f'{name} += "{word}"')


def _updatable(page: Page) -> list[str]:
    return [name for name in page.held if name not in page.spared]


def _plain(page: Page) -> None:
    """`total = 3`, `ready = True`."""
    name = page.new()
    if page.pen.coin(0.5):
        page.write(f"{name} = {page.number()}")
    else:
        page.write(f"{name} = {page.pen.pick(('True', 'False'))}")


def _swap(page: Page) -> None:
    """`a, b = b, a`."""
    one = page.new()
    other = page.new(one)
    page.write(f"{one}, {other} = {other}, {one}")


def _ternary(page: Page) -> None:
    """`total = 3 if ready else 5`."""
    name, first = page.new(), page.number()
    page.write(f"{name} = {first} if {page.word(page.words.names)} else {page.number()}")


def _lambda(page: Page) -> None:
    """`key = lambda item: item + 3`."""
    name, item = page.new(), page.word(page.words.items)
    page.write(f"{name} = lambda {item}: {item} + {page.number()}")


def _comprehension(page: Page) -> None:
    """`values = [x for i, x in enumerate(rows)]`, `values = [x + i for x in range(3)]`."""
    name, item, counter = page.new(), page.word(page.words.items), page.word(page.words.counters)
    if page.pen.coin(0.5):
        rows = page.word(page.words.names)
        page.write(f"{name} = [{item} for {counter}, {item} in enumerate({rows})]")
    else:
        page.write(f"{name} = [{item} + {counter} for {item} in range({page.number()})]")


def _assertion(page: Page) -> None:
    """`assert item in rows`."""
    page.write(f"assert {page.word(page.words.items)} in {page.word(page.words.names)}")


def _opening(page: Page) -> None:
    """`file = open("input.txt", "r")`."""
    page.write(f"{page.new()} = {opened(page)}")


def opened(page: Page) -> str:
    """Return a call of `open`; the name of the file decides the mode."""
    is_read = page.pen.coin(0.5)
    stem = page.word(page.words.sources if is_read else page.words.targets)
    return f'open("{stem}.txt", "{"r" if is_read else "w"}")'


def comment(page: Page) -> None:
    """`# apple river`; no statement, so that no body is a comment alone."""
    page.write(f"# {page.phrase(4)}")


LINES: Mapping[str, tuple[Line, float]] = {
    "say": (_say, 0.28),
    "numbers": (_numbers, 0.13),
    "strings": (_strings, 0.11),
    "empty": (_empty, 0.10),
    "plain": (_plain, 0.08),
    "swap": (_swap, 0.05),
    "ternary": (_ternary, 0.06),
    "lambda": (_lambda, 0.05),
    "comprehension": (_comprehension, 0.06),
    "assertion": (_assertion, 0.04),
    "opening": (_opening, 0.04),
    "update": (_update, 0.25),
}
"""Statements of one line with their weights; `update`, the last, where a name can be updated."""
_LINES = tuple(line for line, _ in LINES.values())
_WEIGHTS = tuple(weight for _, weight in LINES.values())


def line(page: Page) -> None:
    """Write a statement of one line."""
    weights = _WEIGHTS
    if page.emphasis:
        weights = tuple(weight * page.emphasis.get(name, 1) for name, (_, weight) in LINES.items())
    last = None if _updatable(page) else -1
    page.pen.weigh(_LINES[:last], weights[:last])(page)

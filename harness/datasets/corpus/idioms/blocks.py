"""Statements with a body: loops, conditions, functions, classes, `with`.

A function is a generator that yields at the end of every line, so that a reader can stop at one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from harness.datasets.corpus.idioms.lines import line, opened
from harness.datasets.corpus.idioms.page import Page

Block = Callable[[Page], Iterator[None]]

INDENT = "    "
LONGEST_BODY = 3


def body(page: Page, indent: str = INDENT) -> Iterator[None]:
    """Write one to `LONGEST_BODY` statements, those with a body of their own among them."""
    for number in range(LONGEST_BODY):
        if number and not page.pen.coin(0.5):
            return
        if indent == INDENT and page.pen.coin(0.15):
            yield from page.pen.pick((_condition_alone, _with))(page, indent)
        else:
            yield from _line(page, indent)


def _line(page: Page, indent: str) -> Iterator[None]:
    page.write(indent)
    line(page)
    page.write("\n")
    yield


def _header(page: Page, text: str) -> Iterator[None]:
    page.write(f"{text}:\n")
    yield


def _condition_alone(page: Page, indent: str) -> Iterator[None]:
    yield from _header(page, f"{indent}if {page.word(page.words.names)}")
    yield from _line(page, indent + INDENT)


def _with(page: Page, indent: str = "") -> Iterator[None]:
    call = opened(page)
    yield from _header(page, f"{indent}with {call} as {page.word(page.words.items)}")
    yield from _line(page, indent + INDENT)


def _for(page: Page) -> Iterator[None]:
    item = page.word(page.words.items)
    form = page.pen.pick(("each", "counted", "times"))
    if form == "times":
        yield from _header(page, f"for {item} in range({page.number()})")
    else:
        rows = page.word(page.words.names)
        if form == "each":
            yield from _header(page, f"for {item} in {rows}")
        else:
            counter = page.word(page.words.counters)
            yield from _header(page, f"for {counter}, {item} in enumerate({rows})")
    yield from body(page)


def _while(page: Page) -> Iterator[None]:
    # Loop variables too: after `while item` the colon is due, as after `for item` an `in` is.
    name = page.word(page.words.items)
    yield from _header(page, f"while {name}")
    yield from body(page)


def _if(page: Page) -> Iterator[None]:
    name = page.word(page.words.names)
    test = page.pen.pick((_holds, _is_true, _is_number))(page)
    yield from _header(page, f"if {name}{test}")
    yield from body(page)
    if page.pen.coin(0.4):
        yield from _header(page, f"elif {name}{_is_number(page)}")
        yield from body(page)
    if page.pen.coin(0.4):
        yield from _header(page, "else")
        yield from body(page)


def _holds(page: Page) -> str:
    return ""


def _is_true(page: Page) -> str:
    return " == True"


def _is_number(page: Page) -> str:
    return f" == {page.number()}"


def _function(page: Page) -> Iterator[None]:
    if page.pen.coin(0.3):  # decorated: then there is one parameter, an item
        page.write("@cache\n")
        yield
        yield from _header(page, f"def {page.word(page.words.items)}({_parameters(page)})")
    else:
        yield from _header(page, f"def {page.word(page.words.functions)}({_parameters(page)})")
    yield from _inside(page)


def _parameters(page: Page) -> str:
    """One to four parameters; all of them have defaults, or none."""
    default = "=None" if page.pen.coin(0.5) else ""
    names: list[str] = []
    for _ in range(page.several(1, 4)):
        names.append(page.word(page.words.names, *names))
    return ", ".join([f"{name}{default}" for name in names])


def _inside(page: Page) -> Iterator[None]:
    """What a function does: some lines, perhaps a loop for ever, perhaps a result."""
    yield from body(page)
    if page.pen.coin(0.3):
        yield from _header(page, f"{INDENT}while True")
        yield from _line(page, INDENT + INDENT)
    if page.pen.coin(0.6):
        result = page.pen.pick(("True", "False"))
        page.write(f"{INDENT}return {result}\n")
        yield


def _class(page: Page) -> Iterator[None]:
    yield from _header(page, f"class {page.word(page.words.classes)}")
    names: list[str] = []
    for _ in range(page.several(2, 3)):
        names.append(page.word(page.words.names, *names))
    yield from _header(page, f"{INDENT}def __init__(self, {', '.join(names)})")
    left = list(names)
    while left:
        name = page.pen.pick(left)
        left.remove(name)
        page.write(f"{INDENT}{INDENT}self.{name} = {name}\n")
        yield


BLOCKS: tuple[tuple[Block, float], ...] = (
    (_for, 0.25),
    (_while, 0.15),
    (_if, 0.25),
    (_function, 0.20),
    (_class, 0.10),
    (_with, 0.05),
)

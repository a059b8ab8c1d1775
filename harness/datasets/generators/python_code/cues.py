"""The twenty questions: how a statement goes on, where one cue decides between two answers.

The questions are those of Gao et al. 2025 (Table 1), asked in the language of `python_idioms`.
Twins have as many tokens: where a cue is a word more or less, the other twin has another word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from harness.datasets.corpus.idioms.blocks import INDENT
from harness.datasets.corpus.idioms.lines import line
from harness.datasets.corpus.idioms.page import Page


class Twins(NamedTuple):
    """Two texts up to where one token is due: `good` after the first, `bad` after the second."""

    clean: str
    corrupted: str
    good: str
    bad: str


Cue = Callable[[Page], Twins]


def _lines(page: Page, count: int = 1, indent: str = INDENT) -> str:
    """So many statements of one line."""
    for _ in range(count):
        page.write(indent)
        line(page)
        page.write("\n")
    return page.pen.take()[0]


def _loop(page: Page) -> str:
    """A loop, after which a line may be indented or not."""
    head = f"for {page.word(page.words.items)} in {page.word(page.words.names)}:\n"
    return head + _lines(page)


def _two(page: Page, pool: tuple[str, ...]) -> tuple[str, str]:
    first = page.word(pool)
    return first, page.word(pool, first)


def _single_double_quote(page: Page) -> Twins:
    head, phrase = page.word(page.words.verbs), page.phrase(4)
    return Twins(f'{head}("{phrase}', f"{head}('{phrase}", '")', "')")


def _fstring_brace(page: Page) -> Twins:
    head, phrase = page.word(page.words.verbs), page.phrase(3)
    return Twins(f'{head}(f"{phrase}', f'{head}("{phrase}', " {", '")')


def bracket_counting(page: Page, least: int = 1, most: int = 3) -> Twins:
    """`values = [[1, 2`, with `least` to `most` numbers."""
    name = page.new()
    numbers = ", ".join([page.number() for _ in range(page.several(least, most))])
    return Twins(f"{name} = [[{numbers}", f"{name} = [{numbers}", "]]", "]")


def _bracket_brace(page: Page) -> Twins:
    name, key = page.new(), page.word(page.words.texts)
    return Twins(f'{name} = {{"{key}', f'{name} = ["{key}', '":', '",')


def _set_or_string(page: Page) -> Twins:
    return _initialised(page, page.word(page.words.names))


def _set_or_string_fixedvarname(page: Page) -> Twins:
    return _initialised(page, "current")


def _initialised(page: Page, name: str) -> Twins:
    page.held.pop(name, None)
    page.spared = {name}
    between = _lines(page, page.several(0, 2), indent="") + name
    return Twins(f"{name} = set()\n{between}", f'{name} = ""\n{between}', ".add", " +=")


def _final_kwarg(page: Page) -> Twins:
    head = f"def {page.word(page.words.functions)}("
    first, last = _two(page, page.words.names)
    return Twins(f"{head}{first}=None, {last}", f"{head}{first}, {last}", "=None", "):\n")


def _class_init(page: Page) -> Twins:
    first, second = _two(page, page.words.names)
    head = f"class {page.word(page.words.classes)}:\n"
    head += f"{INDENT}def __init__(self, {first}, {second}):\n{INDENT}{INDENT}self."
    return Twins(f"{head}{first} =", f"{head}{second} =", f" {first}", f" {second}")


def _with_as(page: Page) -> Twins:
    head, name, stem = _loop(page), page.word(page.words.names), page.word(page.words.sources)
    call = f'open("{stem}.txt", "r")'
    return Twins(f"{head}{INDENT}with {call}", f"{head}{name} = {call}", " as", "\n")


def _with_open(page: Page) -> Twins:
    source, target = page.word(page.words.sources), page.word(page.words.targets)
    return Twins(f'with open("{source}.txt", "', f'with open("{target}.txt", "', "r", "w")


def _for_while(page: Page) -> Twins:
    item = page.word(page.words.items)
    return Twins(f"for {item}", f"while {item}", " in", ":\n")


def _else_elif(page: Page) -> Twins:
    name = page.word(page.words.names)
    head = f"if {name} == {page.number()}:\n{_lines(page)}"
    return Twins(f"{head}else", f"{head}elif", ":\n", f" {name}")


def _if_ternary(page: Page) -> Twins:
    name, ready = _two(page, page.words.names)
    head = f"if {page.word(page.words.names)} == {page.number()}:\n{_lines(page)}"
    ternary = f"{name} = {page.number()} if {ready}"
    return Twins(f"{head}{ternary}", f"{head}else:\n{INDENT}if {ready}", " else", ":\n")


def _var_swap(page: Page) -> Twins:
    name, other = _two(page, page.words.names)
    third = page.word(page.words.names, name, other)
    rest = f", {other} = {other},"
    return Twins(f"{name}{rest}", f"{third}{rest}", f" {name}", f" {third}")


def _indent_for(page: Page) -> Twins:
    test = f"{page.word(page.words.items)} in {page.word(page.words.names)}"
    return Twins(f"for {test}:\n", f"assert {test}\n", INDENT[1:], "print")


def _lambda_func(page: Page) -> Twins:
    name, item = page.word(page.words.names), page.word(page.words.items)
    return Twins(f"{name} = lambda {item}", f"@cache\ndef {item}", ":", "(")


def _if_equals(page: Page) -> Twins:
    head, name = _loop(page), page.word(page.words.names)
    return Twins(f"{head}if {name}", f"{head}{INDENT}{name}", " ==", " =")


def _enumerate_range(page: Page) -> Twins:
    name, item = page.word(page.words.names), page.word(page.words.items)
    counter = page.word(page.words.counters)
    head = f"{name} = [{item}"
    two, one = f"{head} for {counter}, {item} in", f"{head} + {counter} for {item} in"
    return Twins(two, one, " enumerate", " range")


def _var_if(page: Page) -> Twins:
    head, name = _loop(page), page.word(page.words.names)
    return Twins(f"{head}if {name} == True", f"{head}{INDENT}{name} = True", ":\n", "\n")


def _while_return_true(page: Page) -> Twins:
    head = f"def {page.word(page.words.functions)}({page.word(page.words.names)}):\n"
    head += _lines(page) + INDENT
    return Twins(f"{head}while True", f"{head}return True", ":\n", "\n")


CUES: Mapping[str, Cue] = {
    "single_double_quote": _single_double_quote,
    "final_kwarg": _final_kwarg,
    "set_or_string": _set_or_string,
    "set_or_string_fixedvarname": _set_or_string_fixedvarname,
    "class_init": _class_init,
    "with_as": _with_as,
    "bracket_brace": _bracket_brace,
    "with_open": _with_open,
    "bracket_counting": bracket_counting,
    "for_while": _for_while,
    "else_elif": _else_elif,
    "fstring_brace": _fstring_brace,
    "if_ternary": _if_ternary,
    "var_swap": _var_swap,
    "indent_for": _indent_for,
    "lambda_func": _lambda_func,
    "if_equals": _if_equals,
    "enumerate_range": _enumerate_range,
    "var_if": _var_if,
    "while_return_true": _while_return_true,
}
"""The questions by the name of their task."""

"""The expressions of programs: `length - indices`, `tokens == 'x'`, `'open' if share > 0 else 0`.

A small part of Python's expressions, read by Python's own parser and evaluated by walking the tree;
nothing is ever executed as Python. Numbers are exact: integers and fractions, and `0.1` is 1/10.
`None` means no value.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from harness.spec.issues import unknown

Value = str | int | Fraction | tuple[Any, ...]  # a tuple holds values

LONGEST_TEXT = 200

_BINARY: Mapping[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_UNARY: Mapping[type[ast.AST], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
}
_COMPARE: Mapping[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, items: item in items,
    ast.NotIn: lambda item, items: item not in items,
}
_SIGNS = {*_BINARY, *_UNARY, *_COMPARE, ast.And, ast.Or}
FUNCTIONS: Mapping[str, Callable[..., Any]] = {"abs": abs, "int": int, "max": max, "min": min}

_UNDERSTOOD = (
    "understood are numbers, texts, names, tuples, + - * / // %, comparisons, `in`, "
    f"and/or/not, `a if b else c` and {', '.join(FUNCTIONS)}"
)


@dataclass(frozen=True)
class Expression:
    """An expression; `names` are the values it reads, in the order they first appear."""

    text: str
    names: tuple[str, ...]
    tree: ast.expr

    def evaluate(self, values: Mapping[str, Value]) -> Value | None:
        """Return the value for one choice of `names`; ValueError says why there is none."""
        try:
            return _exact(_walk(self.tree, values))
        except ZeroDivisionError:
            reason = "division by zero"
        except (TypeError, ValueError, OverflowError) as error:
            reason = str(error)
        inputs = ", ".join(f"{name} = {shown(values[name])}" for name in self.names)
        raise ValueError(f"{self.text!r} has no value for {inputs}: {reason}")


def parse_expression(text: str) -> Expression:
    """Return the expression of a text; ValueError says what is not understood."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        nodes = list(ast.walk(tree))
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else error
        raise ValueError(f"{text!r} is no expression: {reason}") from None
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    for node in nodes:
        if reason := _refusal(node):
            raise ValueError(f"{text!r}: {reason}")
    names = [n for n in nodes if isinstance(n, ast.Name) and id(n) not in called]
    names.sort(key=lambda node: (node.lineno, node.col_offset))
    return Expression(text, tuple(dict.fromkeys(node.id for node in names)), tree)


def shown(value: Value | None) -> str:
    """Return a value as it would be written in an expression."""
    if isinstance(value, tuple):
        inside = ", ".join(map(shown, value))
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    return repr(value) if isinstance(value, str) else str(value)


def _refusal(node: ast.AST) -> str:
    """Why a piece of an expression is not allowed; empty if it is."""
    if isinstance(node, ast.Call):
        return _call_refusal(node)
    if isinstance(node, ast.Constant):
        allowed = node.value is None or isinstance(node.value, (str, int, float))
        return "" if allowed else f"{node.value!r} is no number and no text"
    if type(node) in _RULES or type(node) in _SIGNS or isinstance(node, ast.expr_context):
        return ""
    return f"{type(node).__name__} is not understood; {_UNDERSTOOD}"


def _call_refusal(node: ast.Call) -> str:
    if not isinstance(node.func, ast.Name) or node.keywords:
        return "only plain calls of functions are understood"
    allowed = node.func.id in FUNCTIONS
    return "" if allowed else unknown("function", node.func.id, FUNCTIONS)


# ---------------------------------------------------------------- walking the tree
def _walk(node: ast.AST, values: Mapping[str, Value]) -> Any:
    return _RULES[type(node)](node, values)


def _constant(node: Any, values: Mapping[str, Value]) -> Any:
    # The text of a float is meant, not the nearest binary number.
    return Fraction(repr(node.value)) if isinstance(node.value, float) else node.value


def _binary(node: Any, values: Mapping[str, Value]) -> Any:
    left, right = _walk(node.left, values), _walk(node.right, values)
    texts = isinstance(left, str) and isinstance(right, str) and isinstance(node.op, ast.Add)
    if not texts and not all(isinstance(one, (int, Fraction)) for one in (left, right)):
        raise TypeError(f"no arithmetic with {shown(left)} and {shown(right)}")
    if isinstance(node.op, ast.Div):
        left = Fraction(left)  # exact: 1 / 3 is a fraction
    return _bounded(_BINARY[type(node.op)](left, right))


def _bounded(value: Any) -> Any:
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        raise ValueError(f"a text of more than {LONGEST_TEXT} characters")
    return value


def _compare(node: Any, values: Mapping[str, Value]) -> bool:
    left = _walk(node.left, values)
    for op, part in zip(node.ops, node.comparators, strict=True):
        right = _walk(part, values)
        if not _COMPARE[type(op)](left, right):
            return False
        left = right
    return True


def _boolean(node: Any, values: Mapping[str, Value]) -> Any:
    stops = isinstance(node.op, ast.Or)
    for part in node.values:
        value = _walk(part, values)
        if bool(value) is stops:
            break
    return value


def _choice(node: Any, values: Mapping[str, Value]) -> Any:
    return _walk(node.body if _walk(node.test, values) else node.orelse, values)


_RULES: Mapping[type[ast.AST], Callable[[Any, Mapping[str, Value]], Any]] = {
    ast.Constant: _constant,
    ast.Name: lambda node, values: values[node.id],
    ast.Tuple: lambda node, values: tuple(_walk(part, values) for part in node.elts),
    ast.BinOp: _binary,
    ast.UnaryOp: lambda node, values: _UNARY[type(node.op)](_walk(node.operand, values)),
    ast.Compare: _compare,
    ast.BoolOp: _boolean,
    ast.IfExp: _choice,
    ast.Call: lambda node, values: FUNCTIONS[node.func.id](
        *(_walk(part, values) for part in node.args)
    ),
}


def _exact(value: Any) -> Value | None:
    """True is 1 and 4/2 is 2, so that equal values are one category with one name."""
    if isinstance(value, tuple):
        return tuple(_exact(part) for part in value)
    if isinstance(value, bool) or (isinstance(value, Fraction) and value.denominator == 1):
        return int(value)
    if value is None or isinstance(value, (str, int, Fraction)):
        return value
    raise TypeError(f"{value!r} is no number and no text")

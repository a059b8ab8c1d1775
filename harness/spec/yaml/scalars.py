"""What plain YAML scalars mean: the core schema of YAML 1.2.

PyYAML speaks YAML 1.1, where `no` is false, `1e-3` a string, `010` eight and `1:30` ninety.
Editors speak 1.2, and so do specs: `no` is a string, `1e-3` a number, `010` ten.
"""

from __future__ import annotations

import math
import re

Scalar = str | int | float | bool | None

_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
}
_DECIMAL = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o([0-7]+)")
_HEXADECIMAL = re.compile(r"0x([0-9a-fA-F]+)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_MOST_DIGITS = 64  # enough for 2**63 in any base
_LARGEST = 2**63


def resolve(text: str) -> Scalar:
    """The value of an unquoted scalar; ValueError (with a message) for NaN, infinity, overflow."""
    if text in _WORDS:
        return _WORDS[text]
    for pattern, base in ((_DECIMAL, 10), (_OCTAL, 8), (_HEXADECIMAL, 16)):
        if match := pattern.fullmatch(text):
            return _integer(match[match.lastindex or 0], base)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if math.isinf(number):
            raise ValueError("this number is too large for a 64-bit float")
        return number
    if _NOT_FINITE.fullmatch(text):
        raise ValueError("numbers must be finite")
    return text


def _integer(text: str, base: int) -> int:
    # Count digits first: Python refuses to read integers of thousands of digits.
    digits = text.lstrip("+-0") or "0"
    value = int(digits, base) if len(digits) <= _MOST_DIGITS else _LARGEST + 1
    value = -value if text.startswith("-") else value
    if -_LARGEST <= value < _LARGEST:
        return value
    raise ValueError("this integer does not fit into 64 bits")

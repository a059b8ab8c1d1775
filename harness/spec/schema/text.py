"""The text of a generated schema's file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_WIDEST = 100


def as_text(schema: Mapping[str, Any]) -> str:
    """A schema as the text of its file: what fits stands on one line."""
    return _text(schema, 0, 0) + "\n"


def _text(value: Any, indent: int, used: int) -> str:
    """`used`: characters that stand before the value in its line, and after it at least."""
    line = json.dumps(value, ensure_ascii=False)
    inner = " " * (indent + 2)
    spread = isinstance(value, dict) and ("title" in value or indent == 0)
    if not isinstance(value, (dict, list)) or (not spread and used + len(line) <= _WIDEST):
        return line
    if isinstance(value, dict):
        heads = [f"{inner}{json.dumps(key, ensure_ascii=False)}: " for key in value]
        rows = [
            head + _text(one, indent + 2, len(head) + 1)
            for head, one in zip(heads, value.values(), strict=True)
        ]
        return "{\n" + ",\n".join(rows) + "\n" + " " * indent + "}"
    rows = [inner + _text(one, indent + 2, len(inner) + 1) for one in value]
    return "[\n" + ",\n".join(rows) + "\n" + " " * indent + "]"

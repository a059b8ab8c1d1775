"""Canonical JSON and its digest: equal values give equal bytes on every machine.

Ids of cells and models are digests, so any change here makes all stored results unreachable:
bump `IDENTITY_VERSION` then. Tests hold frozen golden values.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

IDENTITY_VERSION = 1


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no white space and floats by `repr`; text is not escaped to ASCII.

    `1` and `1.0` differ: `harness.spec.schema.normalise` gives every number the type of its
    schema first. Raises ValueError for NaN, infinities and keys that are not strings, TypeError
    for values that are not JSON.
    """
    _refuse_odd_keys(value)
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest(value: Any) -> str:
    """sha256 of the canonical JSON in UTF-8, as 64 hexadecimal digits."""
    return sha256(canonical_json(value).encode("utf-8")).hexdigest()


def _refuse_odd_keys(value: Any) -> None:
    # json would turn 1, True and None into strings, so two values could share one digest.
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"key {key!r} is not a string")
            _refuse_odd_keys(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _refuse_odd_keys(item)

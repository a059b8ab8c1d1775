"""Identities of specs and their digests: equal values give equal bytes on every machine.

A cell is reused when its id is stored, so the id must change with everything that can affect its
numbers and with nothing else: each field of a spec class states which it is (`harness.spec.key`).
Ids of cells and models are digests, so any change here makes all stored results unreachable:
bump `IDENTITY_VERSION` then. Tests hold frozen golden values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import is_dataclass
from hashlib import sha256
from typing import Any

from harness.spec.key import at_default, spec_fields

IDENTITY_VERSION = 1


def identity_fields(spec: Any) -> Any:
    """The fields of a spec that can affect a number, as plain JSON data."""
    if is_dataclass(spec) and not isinstance(spec, type):
        return {
            name: identity_fields(getattr(spec, name))
            for name, one in spec_fields(type(spec)).items()
            if one.key.part == "identity" and not at_default(one, getattr(spec, name))
        }
    if isinstance(spec, Mapping):
        return {key: identity_fields(value) for key, value in spec.items()}
    return [identity_fields(one) for one in spec] if isinstance(spec, (list, tuple)) else spec


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no white space and floats by `repr`; text is not escaped to ASCII.

    `1` and `1.0` differ: `harness.spec.build.normalise` gives every number the type of its
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
    containers = [value]
    while containers:
        items = containers.pop()
        if isinstance(items, dict):
            for key in items:
                if not isinstance(key, str):
                    raise ValueError(f"key {key!r} is not a string")
            items = items.values()
        elif not isinstance(items, (list, tuple)):
            continue
        containers += [item for item in items if isinstance(item, (dict, list, tuple))]

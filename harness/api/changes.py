"""Specs with some of their keys changed, checked as their files are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from harness.errors import HarnessError
from harness.spec.schema import check
from harness.spec.yaml.source import Source, parse_text


def changed(
    source: Source,
    kind: Literal["task", "method"],
    key: str,
    changes: Mapping[str, Any],
    without: Iterable[str] = (),
) -> Source:
    """A spec with changes below one key, less what is there called `without`.

    Raises `HarnessError` if the spec is not valid then.
    """
    own = {name: value for name, value in source.data.get(key, {}).items() if name not in without}
    data = {**source.data, key: {**own, **changes}}
    result = parse_text(json.dumps(data, ensure_ascii=False, default=repr), source.path)
    if issues := check(result, kind):
        raise HarnessError("\n".join(f"{issue.where}: {issue.message}" for issue in issues))
    return result

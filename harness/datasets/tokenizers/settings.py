"""Settings of a `tokenizer.json` beyond its vocabulary and its splitting: all are switched off."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.errors import HarnessError


def switch_off(tokenizer: Any) -> None:
    """Switch off what cuts texts, fills them up, or drops merges at random."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if getattr(tokenizer.model, "dropout", None):
        tokenizer.model.dropout = None


def settings_of(path: Path) -> tuple[str, ...]:
    """Return the names of the settings that a file has and that are switched off.

    HarnessError if the file is not JSON.
    """
    try:
        stat = path.stat()
        return _settings(path, stat.st_mtime_ns, stat.st_size)
    except (OSError, ValueError, RecursionError) as error:
        raise HarnessError(f"tokenizer file {path}: {error}") from error


@lru_cache(maxsize=16)  # of several megabytes, and asked for by every cell
def _settings(path: Path, changed: int, size: int) -> tuple[str, ...]:
    document = json.loads(path.read_text(encoding="utf-8"))
    model = document.get("model") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(model, dict | None):
        return ()  # no tokenizer at all: opening it says so
    places = {"truncation": document, "padding": document, "dropout": model or {}}
    return tuple(name for name, place in places.items() if place.get(name))

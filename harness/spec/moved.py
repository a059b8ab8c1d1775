"""Paths in a spec, seen from another folder: a model file's when a task refers to it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.spec.search import is_path


def moved_model(model: Mapping[str, Any], here: Path, there: Path) -> dict[str, Any]:
    """The data of a model whose paths are relative to one folder, as seen from another."""
    result = dict(model)
    for key in ("path", "weights"):
        if key in model:
            result[key] = _moved(model[key], here, there)
    if is_path(model.get("task", "")):
        result["task"] = _moved(model["task"], here, there)
    if "corpus" in model:
        result["corpus"] = corpus = dict(model["corpus"])
        corpus["tokenizer"] = _moved(corpus["tokenizer"], here, there)
        if "folders" in corpus:
            corpus["folders"] = [_moved(one, here, there) for one in corpus["folders"]]
    return result


def _moved(path: str, here: Path, there: Path) -> str:
    return _relative(Path(os.path.normpath(here.absolute() / path)), there.absolute())


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        return path.as_posix()

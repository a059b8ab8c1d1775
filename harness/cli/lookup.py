"""Resolve a name to a spec when its kind is not stated."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from harness.errors import HarnessError, NotFound
from harness.spec.load import Library, spec_kind
from harness.spec.schema import SpecKind
from harness.spec.search import is_path

KINDS: tuple[SpecKind, ...] = ("task", "suite", "method", "model", "dictionary")


def find_spec(library: Library, ref: str, kind: str | None = None) -> tuple[SpecKind, Path]:
    """Kind and file of a spec given by name or path; `NotFound` suggests similar names."""
    if is_path(ref):
        path = library.find("task", ref)
        return cast(SpecKind, kind or spec_kind(path)), path
    if kind is not None:
        return cast(SpecKind, kind), library.find(cast(SpecKind, kind), ref)
    matches: list[tuple[SpecKind, Path]] = []
    reasons: list[str] = []
    for one in KINDS:
        try:
            matches.append((one, library.find(one, ref)))
        except NotFound as error:
            reasons.append(str(error))
    if not matches:
        near = [reason for reason in reasons if "did you mean" in reason]
        raise NotFound("\n".join(near or reasons))
    if len(matches) > 1:
        kinds = " and a ".join(name for name, _ in matches)
        raise HarnessError(f"{ref!r} is a {kinds}; say which with --kind")
    return matches[0]

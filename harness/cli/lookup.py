"""Which spec a name means when its kind is not said."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from harness.errors import HarnessError, NotFound
from harness.spec.load import Library, spec_kind
from harness.spec.schema import SpecKind
from harness.spec.search import is_path

KINDS: tuple[SpecKind, ...] = ("task", "suite", "method", "model")


def find_spec(library: Library, ref: str, kind: str | None = None) -> tuple[SpecKind, Path]:
    """Kind and file of a spec given by name or path; `NotFound` names what is near."""
    if is_path(ref):
        path = library.find("task", ref)
        return cast(SpecKind, kind or spec_kind(path)), path
    if kind is not None:
        return cast(SpecKind, kind), library.find(cast(SpecKind, kind), ref)
    found: list[tuple[SpecKind, Path]] = []
    reasons: list[str] = []
    for one in KINDS:
        try:
            found.append((one, library.find(one, ref)))
        except NotFound as error:
            reasons.append(str(error))
    if not found:
        near = [reason for reason in reasons if "did you mean" in reason]
        raise NotFound("\n".join(near or reasons))
    if len(found) > 1:
        kinds = " and a ".join(name for name, _ in found)
        raise HarnessError(f"{ref!r} is a {kinds}; say which with --kind")
    return found[0]

"""Valid specs of every kind and form, for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

VALID = Path(__file__).parent / "valid"


@pytest.fixture
def valid() -> Path:
    """Folder with `tasks/`, `models/`, `methods/` and `suites/` of small valid specs."""
    return VALID


@pytest.fixture
def tiny_task() -> str:
    """Text of the smallest valid task; its name is `tiny`."""
    return (VALID / "tasks" / "tiny.yaml").read_text(encoding="utf-8")

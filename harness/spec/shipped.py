"""Where the schemas, tasks and suites that come with the harness lie."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def shipped_root() -> Path:
    """Folder with `tasks/` and `specs/`: inside an installed package, or the checkout's root."""
    installed = _PACKAGE / "shipped"
    return installed if installed.is_dir() else _PACKAGE.parent

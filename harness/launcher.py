"""What a launcher (`torchrun`) tells each process that it starts; nothing is joined by it."""

from __future__ import annotations

import os

from harness.errors import HarnessError

ENVIRONMENT = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What a launcher tells each process, as torch's `env://` reads it."""


def launched() -> int:
    """How many processes the launcher started, this one among them; 1 without one."""
    return 1 if any(name not in os.environ for name in ENVIRONMENT) else _number("WORLD_SIZE")


def local_rank() -> int:
    """The number of this process on its machine, from 0."""
    return _number("LOCAL_RANK") if "LOCAL_RANK" in os.environ else 0


def local_world() -> int:
    """How many processes of the launcher are on this machine."""
    return _number("LOCAL_WORLD_SIZE") if "LOCAL_WORLD_SIZE" in os.environ else launched()


def is_restarted() -> bool:
    """Whether torchrun has started its processes anew, because one of them died."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


def _number(name: str) -> int:
    try:
        return int(os.environ[name])
    except ValueError as error:
        raise HarnessError(f"{name} is {os.environ[name]!r}, and should be a number") from error


def speaks() -> bool:
    """Whether this process prints: the first that was started, whatever it has joined."""
    return launched() == 1 or _number("RANK") == 0

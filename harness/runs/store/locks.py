"""Locks between processes. They are held through an open file: a killed holder's are free at once.

Empty lock files stay behind: removing one would race with a process that is about to take it.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_HELD_ELSEWHERE = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
_ADVICE = (
    "without locks two processes could write one result, so results must lie on a file system "
    "that has them (choose another folder with -o); this file cannot be locked"
)


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Wait for the lock file and hold it. Raises `OSError` where files cannot be locked."""
    with _opened(path) as descriptor:
        _take(descriptor, path, fcntl.LOCK_EX)
        yield


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Hold the lock file without waiting; yield False if another process holds it.

    Raises `OSError` where files cannot be locked.
    """
    with _opened(path) as descriptor:
        yield _take(descriptor, path, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        yield descriptor
    finally:
        with suppress(OSError):  # the lock is free, whatever closing says
            os.close(descriptor)


def _take(descriptor: int, path: Path, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation)
    except OSError as error:
        if error.errno in _HELD_ELSEWHERE and operation & fcntl.LOCK_NB:
            return False
        raise OSError(error.errno, f"{error.strerror}: {_ADVICE}", str(path)) from error
    return True

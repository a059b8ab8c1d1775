"""Where an error comes from in the code of plug-ins: the frames that their authors wrote."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from traceback import FrameSummary, StackSummary, walk_tb

GROUPS = ("harness.methods", "harness.generators", "harness.granularities")


@cache
def _packages() -> frozenset[str]:
    """Top-level modules that entry points of the harness name."""
    points = (point for group in GROUPS for point in entry_points(group=group))
    return frozenset(point.module.partition(".")[0] for point in points) - {"harness"}


def frames_of(error: BaseException) -> str:
    """The frames of an error in plug-ins' own code, as a traceback shows them; "" without any."""
    own = [
        (frame, line)
        for frame, line in walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] in _packages()
    ]
    frames: list[FrameSummary] = list(StackSummary.extract(iter(own)))
    return "".join(StackSummary.from_list(frames).format()).rstrip()


def described(error: BaseException) -> str:
    """An error in a line, and below it where plug-ins' code raised it."""
    head = f"{type(error).__name__}: {error}"
    frames = frames_of(error)
    return f"{head}\n{frames}" if frames else head

"""A display that remembers: what was told of stages, and what they ended with."""

from __future__ import annotations

from harness.progress import Moment, Stage


class Recorder:
    """`told`: moments in order; `ended`: the last moment of each stage that was finished."""

    def __init__(self) -> None:
        self.told: list[Moment] = []
        self.ended: list[Moment] = []

    def begin(self, stage: Stage) -> None:
        self.told.append(stage.moment)

    def move(self, stage: Stage) -> None:
        self.told.append(stage.moment)

    def end(self, stage: Stage, *, finished: bool) -> None:
        if finished:
            self.ended.append(stage.moment)

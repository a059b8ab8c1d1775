"""Trainings that are stopped before a step, as by Ctrl-C."""

from __future__ import annotations

import pytest

from harness.models.training.trainer import Trainer


def stop_at(trainer: Trainer, step: int) -> None:
    """Run a training that is interrupted when it is about to take a step."""
    real = trainer._update

    def update(batch):
        if trainer.step == step:
            raise KeyboardInterrupt
        return real(batch)

    trainer._update = update
    with pytest.raises(KeyboardInterrupt):
        trainer.run()

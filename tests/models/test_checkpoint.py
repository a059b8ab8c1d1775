"""A checkpoint is resumed from if it is what was written, for what it was written; else deleted."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.models.checkpoint import load_state, save_state

PURPOSE = {"seed": 3, "levels": (0.5, 1), "training": {"steps": 4}}
NOTE = {"step": 2, "history": [{"loss": 0.25}]}
TENSORS = {
    "weight": torch.tensor([[1.5, -2.0], [0.0, 3.25]]),
    "kept": torch.tensor([True, False, True]),
    "step": torch.tensor(7.0),
    "half": torch.tensor([1.0, 2.0], dtype=torch.bfloat16),
    "none": torch.empty(0, 4),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "state.safetensors"
    save_state(TENSORS, NOTE, path, PURPOSE)
    return path


def is_what_was_written(state: Any) -> bool:
    tensors, note = state
    same = (torch.equal(tensors[name], value) for name, value in TENSORS.items())
    types = all(tensors[name].dtype == value.dtype for name, value in TENSORS.items())
    return tensors.keys() == TENSORS.keys() and types and all(same) and note == NOTE


def test_what_was_written_is_read_and_equal_states_give_equal_bytes(path: Path) -> None:
    assert is_what_was_written(load_state(path, PURPOSE))
    content = path.read_bytes()
    save_state(dict(reversed(TENSORS.items())), NOTE, path, PURPOSE)
    assert path.read_bytes() == content


def refuse(path: Path, caplog: pytest.LogCaptureFixture, purpose: Any = PURPOSE) -> str:
    """The log line of a checkpoint that must not be resumed from."""
    caplog.clear()
    with caplog.at_level(logging.WARNING, "harness"):
        assert load_state(path, purpose) is None
    assert not path.exists()
    (line,) = caplog.messages
    assert line.startswith(f"{path} cannot be resumed from and is deleted: ")
    return line


def test_any_flipped_bit_is_noticed(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One bit in each byte; the file is then read as it was or not at all."""
    content, refused = path.read_bytes(), 0
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        state = load_state(path, PURPOSE)
        refused += state is None
        assert is_what_was_written(state) if state else not path.exists(), place
    assert refused > len(content) - 8  # spaces that pad the header say nothing
    assert len(caplog.messages) == refused


def test_truncated_and_empty_files_start_anew(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = path.read_bytes()
    for length in (0, 1, 8, 9, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        refuse(path, caplog)
    path.write_bytes(content + b"x")
    refuse(path, caplog)


def test_what_another_program_wrote_is_no_checkpoint(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.ones(2)}, path, metadata={"note": '{"step": 1}'})
    assert refuse(path, caplog).endswith("it is no checkpoint")
    save_file({"weight": torch.ones(2)}, path)
    assert refuse(path, caplog).endswith("it is no checkpoint")


@pytest.mark.parametrize("change", [{"seed": 4}, {"levels": (0.5,)}, {"training": {}}, {"new": 1}])
def test_what_was_written_for_something_else_is_refused(
    path: Path, change: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    assert "written for something else" in refuse(path, caplog, {**PURPOSE, **change})

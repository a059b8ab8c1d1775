"""Fixtures that several folders of tests share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import torch
from support.matrix import mark_the_rest_slow

from harness.datasets.batch import Batch

pytest_plugins = ["pytester"]

# Tests run in as many processes as there are cores. Threads that wait for each other in a loop
# would take the cores from those that work; the processes that tests start inherit this too.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
torch.set_num_threads(1)

# A busy machine is no failure; a hang is one, and that is what pytest's timeout is for.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Thin matrices before `-m "not slow"` chooses."""
    mark_the_rest_slow(items)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """One thread again after a test that computed a cell with several."""
    yield
    torch.set_num_threads(1)


REFERENCE_VARIABLE = "HARNESS_REFERENCE_DATA"


@pytest.fixture
def reference_file() -> Callable[[str], Path]:
    """Path of a file of the reference data; skips, saying which file is missing."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(os.environ.get(REFERENCE_VARIABLE, default))

    def find(name: str) -> Path:
        path = root / name
        if not path.exists():
            pytest.skip(f"reference file {name} is absent; set {REFERENCE_VARIABLE} to its folder")
        return path

    return find


@pytest.fixture
def random_batch() -> Callable[..., Batch]:
    """Random prompt pairs over a small vocabulary, read at the last token."""

    def make(n: int = 3, length: int = 6, vocabulary: int = 11, seed: int = 0) -> Batch:
        draw = torch.Generator().manual_seed(seed)

        def tokens(*shape: int) -> torch.Tensor:
            return torch.randint(vocabulary, shape, generator=draw)

        good, clean = tokens(n, 1, 1), tokens(n, length)
        return Batch(
            clean=clean,
            corrupted=tokens(n, length),
            positions=torch.full((n, 1), length - 1),
            good=good,
            bad=(good + 1 + tokens(n, 1, 1) % (vocabulary - 1)) % vocabulary,
            rows=torch.arange(n),
            other=clean.roll(1, 0),
        )

    return make

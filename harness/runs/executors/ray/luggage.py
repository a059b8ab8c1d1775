"""The files that a cell is made of, as bytes, for a machine that has none of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.datasets.corpus.open import corpus_files
from harness.datasets.locate import below, brought_folders
from harness.datasets.open import task_files
from harness.disk import replace_file
from harness.models.loading.folder import model_files
from harness.models.loading.location import checkpoint_folder
from harness.runs.plan import Cell
from harness.runs.plan.dictionaries import dictionary_files
from harness.runs.plan.shipped import shipped_weights
from harness.spec.types import LoadModel, TrainModel


@dataclass(frozen=True)
class Luggage:
    """Contents by the absolute path that specs lead to, and where else files are looked for."""

    files: Mapping[str, bytes]
    folders: tuple[str, ...]

    def unpack(self, root: Path) -> None:
        """Write what is not below `root` yet, each file at its path there (`locate.unpacked`)."""
        for path, content in self.files.items():
            place = below(root, Path(path))
            if not (place.is_file() and place.read_bytes() == content):
                place.parent.mkdir(parents=True, exist_ok=True)
                replace_file(place, content)


def pack(paths: Sequence[Path]) -> Luggage:
    """Read files, and note where this machine looks for those that users bring."""
    folders = tuple(str(folder) for folder in brought_folders())
    files = {os.path.normpath(path.absolute()): path.read_bytes() for path in paths}
    return Luggage(files, folders)


def files_of(cell: Cell) -> list[Path]:
    """All files that computing a cell reads, each once.

    Not the models of a hub, which every node fetches, nor the standard library. Raises `NotFound`
    for one that is missing.
    """
    return list(dict.fromkeys(_files(cell)))


def _files(cell: Cell) -> Iterator[Path]:
    yield from task_files(cell.task)
    if cell.trained_on is not None:
        yield from task_files(cell.trained_on)
    spec, folder = cell.model, cell.model_folder
    if isinstance(spec, LoadModel) and spec.path is not None:
        yield from model_files(checkpoint_folder(spec, folder), spec.format)
    if isinstance(spec, TrainModel) and spec.corpus is not None:
        yield from corpus_files(spec.corpus, folder)
    if isinstance(spec, TrainModel) and spec.weights is not None:
        yield from shipped_weights(spec, folder).files()
    if cell.dictionaries is not None:
        yield from dictionary_files(cell.dictionaries)
        yield from _files(cell.dictionaries.cell)

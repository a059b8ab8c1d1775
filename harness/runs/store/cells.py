"""One run's results on disk: immutable cells that appear in one rename.

    <run>/cells/<id>/result.json          numbers, schema-checked, byte-reproducible
                     timing.json          seconds, memory: not reproducible, so kept apart
                     provenance.json      versions, commit, device, command
                     circuit.safetensors, examples.safetensors
    <run>/failures/<id>.json              why a cell failed; gone once the cell succeeds
    <run>/plan.json                       the cells asked for (`harness.runs.store.record`)
    <run>/.work/<id>/                     a cell being written; its lock is held while it is
    <run>/.locks/<id>.lock

A cell exists if and only if its folder does; nothing in it ever changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from traceback import format_exception
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import StoreCorrupt
from harness.runs.store.atomic import (
    file_digest,
    folder_digests,
    json_bytes,
    publish_folder,
    read_json,
    remove_folder,
    remove_stale_drafts,
    replace_file,
    try_lock,
    write_synced,
)
from harness.runs.store.models import MANIFEST, ModelStore
from harness.runs.store.versions import upgraded
from harness.spec.identity import digest

__all__ = ["CellOutput", "CellStore", "ModelStore", "Tensors"]

Tensors = Mapping[str, NDArray[Any]]
RECOMPUTE = "delete the folder and run again to recompute the cell"


@dataclass(frozen=True)
class CellOutput:
    """What computing a cell yields.

    `tensors` maps a file name (`circuit.safetensors`) to arrays by name, or to the file's own
    bytes. The store adds the files' digests to `result["artifacts"]`.
    """

    result: dict[str, Any]
    tensors: Mapping[str, Tensors | bytes] = field(default_factory=dict)
    timing: dict[str, Any] = field(default_factory=dict)


def result_problem(result: Any) -> str | None:
    """The first way in which a result breaks `result.schema.json`, or None."""
    from harness.spec.schema import validator

    errors = sorted(validator("result").iter_errors(result), key=lambda e: list(map(str, e.path)))
    if not errors:
        return None
    where = ".".join(map(str, errors[0].absolute_path)) or "<root>"
    return f"{where}: {errors[0].message}"


class CellStore:
    """The cells of one run folder. Readers need no lock; writers hold the cell's claim."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cells = folder / "cells"
        self.failures = folder / "failures"
        self.work = folder / ".work"
        self.locks = folder / ".locks"

    # ------------------------------------------------------------------ reading
    def has(self, cell_id: str) -> bool:
        """Whether the cell is finished."""
        return (self.cells / cell_id).is_dir()

    def ids(self) -> list[str]:
        """Ids of all finished cells, sorted."""
        if not self.cells.is_dir():
            return []
        return sorted(path.name for path in self.cells.iterdir() if path.is_dir())

    def result(self, cell_id: str) -> dict[str, Any]:
        """A finished cell's result, checked against the schema; `StoreCorrupt` if broken."""
        path = self.cells / cell_id / "result.json"
        try:
            result = dict(upgraded(self._read(path)))
        except (KeyError, TypeError, AttributeError) as error:
            raise StoreCorrupt(f"{path} is no result ({error!r}); {RECOMPUTE}") from error
        if problem := result_problem(result):
            raise StoreCorrupt(f"{path}: {problem}; {RECOMPUTE}")
        if result["cell"] != cell_id:
            raise StoreCorrupt(f"{path} belongs to another cell, {result['cell']}; {RECOMPUTE}")
        if digest(result["identity"]) != cell_id:
            raise StoreCorrupt(f"{path}: the identity does not give the cell's id; {RECOMPUTE}")
        return result

    def timing(self, cell_id: str) -> dict[str, Any]:
        """Seconds and memory of a finished cell."""
        timing: dict[str, Any] = self._read(self.cells / cell_id / "timing.json")
        return timing

    def provenance(self, cell_id: str) -> dict[str, Any]:
        """Where and by which versions a finished cell was computed."""
        provenance: dict[str, Any] = self._read(self.cells / cell_id / "provenance.json")
        return provenance

    def artifact(self, cell_id: str, name: str) -> Path:
        """A file of a finished cell, after checking its digest."""
        return self._checked_artifact(cell_id, name, self.result(cell_id))

    def tensors(self, cell_id: str, name: str) -> dict[str, NDArray[Any]]:
        """Arrays of a safetensors file of a finished cell, after checking its digest."""
        import safetensors.numpy

        return dict(safetensors.numpy.load_file(self.artifact(cell_id, name)))

    def failure(self, cell_id: str) -> dict[str, Any] | None:
        """Why the cell failed when it was last tried; None if it did not."""
        path = self.failures / f"{cell_id}.json"
        try:
            failure: dict[str, Any] = read_json(path)
        except FileNotFoundError:
            return None
        return failure

    def failure_mark(self, cell_id: str) -> tuple[int, int] | None:
        """Changes whenever the cell fails once more; None while it has not failed."""
        try:
            stat = (self.failures / f"{cell_id}.json").stat()
        except FileNotFoundError:
            return None
        return stat.st_ino, stat.st_mtime_ns

    def is_claimed(self, cell_id: str) -> bool:
        """Whether some process is computing the cell at this moment."""
        lock = self.locks / f"{cell_id}.lock"
        if not lock.exists():
            return False
        with try_lock(lock) as held:
            return not held

    def verify(self, cell_id: str) -> None:
        """Check the result against its schema and every file against its digest."""
        result = self.result(cell_id)
        self.timing(cell_id)
        self.provenance(cell_id)
        for name in result["artifacts"]:
            self._checked_artifact(cell_id, name, result)
        folder = self.cells / cell_id
        noted = self._read(folder / MANIFEST)
        actual = {name: seal for name, seal in folder_digests(folder).items() if name != MANIFEST}
        for name in sorted(noted.keys() | actual.keys()):
            if noted.get(name) != actual.get(name):
                raise StoreCorrupt(f"{folder / name} is not what was published; {RECOMPUTE}")

    def _read(self, path: Path) -> Any:
        try:
            return read_json(path)
        except FileNotFoundError as error:
            raise StoreCorrupt(f"{path} is missing; {RECOMPUTE}") from error

    def _checked_artifact(self, cell_id: str, name: str, result: Mapping[str, Any]) -> Path:
        path = self.cells / cell_id / name
        if name not in result["artifacts"]:
            raise StoreCorrupt(f"{path} is not among the files that the cell recorded; {RECOMPUTE}")
        if not path.is_file():
            raise StoreCorrupt(f"{path} is missing; {RECOMPUTE}")
        if file_digest(path) != result["artifacts"][name]:
            raise StoreCorrupt(f"{path} does not match the digest in result.json; {RECOMPUTE}")
        return path

    # ------------------------------------------------------------------ writing
    @contextmanager
    def claim(self, cell_id: str) -> Iterator[bool]:
        """Claim the right to compute a cell; yield False at once if another process holds it.

        Check `has` again inside: the other process may just have finished. Leftovers of a killed
        holder are removed on entry, and those of this one on exit.
        """
        with try_lock(self.locks / f"{cell_id}.lock") as held:
            if not held:
                yield False
                return
            draft = self.work / cell_id
            remove_folder(draft)
            try:
                yield True
            finally:
                remove_folder(draft)

    def publish(self, cell_id: str, output: CellOutput, provenance: Mapping[str, Any]) -> None:
        """Write a claimed cell and move it into place in one rename.

        If the cell already exists it must hold the same result, byte for byte; else
        `StoreCorrupt`. A result that breaks its schema is a bug: ValueError.
        """
        draft = self.work / cell_id
        remove_folder(draft)
        draft.mkdir(parents=True)
        try:
            artifacts = {}
            for name, tensors in output.tensors.items():
                write_synced(draft / name, _tensor_bytes(tensors))
                artifacts[name] = file_digest(draft / name)
            result = {**output.result, "artifacts": artifacts}
            if problem := result_problem(result):
                raise ValueError(f"result of cell {cell_id} breaks result.schema.json: {problem}")
            content = json_bytes(result)
            write_synced(draft / "timing.json", json_bytes(output.timing))
            write_synced(draft / "provenance.json", json_bytes(dict(provenance)))
            write_synced(draft / "result.json", content)
            write_synced(draft / MANIFEST, json_bytes(folder_digests(draft)))
            if not publish_folder(draft, self.cells / cell_id):
                self._check_same(cell_id, content)
        finally:
            remove_folder(draft)
        (self.failures / f"{cell_id}.json").unlink(missing_ok=True)

    def _check_same(self, cell_id: str, content: bytes) -> None:
        path = self.cells / cell_id / "result.json"
        if path.read_bytes() != content:
            raise StoreCorrupt(
                f"{path} differs from a second computation of the same cell: the numbers are not "
                "reproducible on these machines; the first result was kept"
            )

    def fail(self, cell_id: str, labels: Mapping[str, Any], error: BaseException | str) -> None:
        """Record why a cell failed, in place of an earlier failure."""
        lines = [] if isinstance(error, str) else format_exception(error)
        record = {
            **labels,
            "cell": cell_id,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "error": {
                "type": "Killed" if isinstance(error, str) else type(error).__name__,
                "message": str(error),
                "traceback": "".join(lines).splitlines()[-40:],
            },
        }
        replace_file(self.failures / f"{cell_id}.json", json_bytes(record))

    def clean(self) -> None:
        """Remove what killed runs left behind; cells that are being computed are left alone."""
        if not self.work.is_dir():
            return
        for draft in sorted(self.work.iterdir()):
            with try_lock(self.locks / f"{draft.name}.lock") as held:
                if held:
                    remove_folder(draft)
        remove_stale_drafts(self.folder)
        remove_stale_drafts(self.failures)


def _tensor_bytes(tensors: Tensors | bytes) -> bytes:
    if isinstance(tensors, bytes):
        return tensors
    import safetensors.numpy

    # No metadata: with two or more keys the header's order differs between processes.
    arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    return bytes(safetensors.numpy.save(arrays))

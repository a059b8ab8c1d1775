"""One run's results on disk: immutable cells that appear in one rename.

    <run>/cells/<id>/manifest.json        the sha256 of every other file
                     result.json          numbers, schema-checked, byte-reproducible
                     timing.json          seconds, memory: not reproducible, so kept apart
                     provenance.json      versions, commit, device, command
                     circuit.safetensors, examples.safetensors, prompts.json, nodes.json
    <run>/failures/<id>.json              why a cell failed; gone once the cell succeeds
    <run>/plan.json                       the cells asked for (`harness.runs.store.record`)
    <run>/.work/<id>/                     a cell being written; its lock is held while it is
    <run>/.locks/<id>.lock

A cell exists if and only if its folder does; nothing in it ever changes. Every file is hashed when
it is read, and one that is not what was published is `StoreCorrupt`.
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

from harness.disk import file_digest
from harness.errors import StoreCorrupt
from harness.runs.store.atomic import (
    json_bytes,
    publish_folder,
    remove_drafts,
    remove_folder,
    replace_file,
    write,
)
from harness.runs.store.locks import try_lock
from harness.runs.store.models import ModelStore
from harness.runs.store.sealed import (
    SealedFolder,
    read_sealed_json,
    seal_folder,
    sealed_json,
)
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

    def failed_ids(self) -> list[str]:
        """Ids of all cells whose last failure is on record, sorted."""
        files = self.failures.glob("[!.]*.json") if self.failures.is_dir() else ()
        return sorted(path.stem for path in files)

    def read(self, cell_id: str) -> SealedFolder:
        """The files of a finished cell, each of them checked against its digest as it is read."""
        return SealedFolder(self.cells / cell_id, RECOMPUTE)

    def result(self, cell_id: str, files: SealedFolder | None = None) -> dict[str, Any]:
        """A finished cell's result; `StoreCorrupt` if broken. `files`: those of `read`, if at hand.

        One of the current version kept its schema when it was published; `verify` checks it anew.
        """
        path = self.cells / cell_id / "result.json"
        try:
            stored = (files or self.read(cell_id)).json(path.name)
            result = dict(upgraded(stored))
            version, cell = result["schema_version"], result["cell"]
            own = digest(result["identity"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StoreCorrupt(f"{path} is no result ({error!r}); {RECOMPUTE}") from error
        if version == 2 != stored["schema_version"] and (problem := result_problem(result)):
            raise StoreCorrupt(f"{path}: {problem}; {RECOMPUTE}")
        if version != 2:
            raise StoreCorrupt(f"{path} has version {version!r}, and this program reads 1 and 2")
        if cell != cell_id:
            raise StoreCorrupt(f"{path} belongs to another cell, {cell}; {RECOMPUTE}")
        if own != cell_id:
            raise StoreCorrupt(f"{path}: the identity does not give the cell's id; {RECOMPUTE}")
        return result

    def timing(self, cell_id: str) -> dict[str, Any]:
        """Seconds and memory of a finished cell."""
        timing: dict[str, Any] = self.read(cell_id).json("timing.json")
        return timing

    def provenance(self, cell_id: str) -> dict[str, Any]:
        """Where and by which versions a finished cell was computed."""
        provenance: dict[str, Any] = self.read(cell_id).json("provenance.json")
        return provenance

    def artifact(self, cell_id: str, name: str) -> Path:
        """A file of a finished cell, after checking its digest."""
        return self.read(cell_id).path(name)

    def tensors(self, cell_id: str, name: str) -> dict[str, NDArray[Any]]:
        """Arrays of a safetensors file of a finished cell, after checking its digest."""
        import safetensors.numpy

        return dict(safetensors.numpy.load(self.read(cell_id).read(name)))

    def failure(self, cell_id: str) -> dict[str, Any] | None:
        """Why the cell failed when it was last tried; None if it did not."""
        path = self.failures / f"{cell_id}.json"
        try:
            return read_sealed_json(path, "run again to compute the cell", without_seal=None)
        except FileNotFoundError:
            return None

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
        folder = self.read(cell_id)
        folder.check()
        path, result = folder.folder / "result.json", self.result(cell_id)
        if problem := result_problem(result):
            raise folder.fault(path, f"breaks its schema at {problem}")
        if any(folder.digests.get(name) != noted for name, noted in result["artifacts"].items()):
            raise folder.fault(path, "has other digests of the files beside it than the manifest")

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
            remove_drafts(self._failure(cell_id))
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
                write(draft / name, tensor_bytes(tensors))
                artifacts[name] = file_digest(draft / name)
            result = {**output.result, "artifacts": artifacts}
            if problem := result_problem(result):
                raise ValueError(f"result of cell {cell_id} breaks result.schema.json: {problem}")
            content = json_bytes(result)
            write(draft / "timing.json", json_bytes(output.timing))
            write(draft / "provenance.json", json_bytes(dict(provenance)))
            write(draft / "result.json", content)
            seal_folder(draft)
            if not publish_folder(draft, self.cells / cell_id):
                self._check_same(cell_id, content)
        finally:
            remove_folder(draft)
        self._failure(cell_id).unlink(missing_ok=True)

    def adopt(self, cell_id: str, files: SealedFolder) -> None:
        """Take a claimed cell over from another store, bytes and all, in one rename."""
        draft = self.work / cell_id
        remove_folder(draft)
        try:
            files.copy(draft)
            seal_folder(draft)
            if not publish_folder(draft, self.cells / cell_id):
                raise StoreCorrupt(f"{self.cells / cell_id} appeared while its claim was held")
        finally:
            remove_folder(draft)
        self._failure(cell_id).unlink(missing_ok=True)

    def _check_same(self, cell_id: str, content: bytes) -> None:
        folder = self.read(cell_id)
        if folder.read("result.json") != content:
            raise StoreCorrupt(
                f"{folder.folder / 'result.json'} differs from a second computation of the same "
                "cell: the numbers are not reproducible on these machines; the first result was "
                "kept"
            )

    def fail(
        self,
        cell_id: str,
        labels: Mapping[str, Any],
        error: BaseException | str | Mapping[str, Any],
    ) -> None:
        """Record why a cell failed, in place of an earlier failure.

        Not of a finished cell, whose result counts, whatever happened after it was published.
        `error`: what was raised, or its `error_note`; a text says how its process died.
        """
        if self.has(cell_id):
            return
        record = {
            **labels,
            "schema_version": 2,  # the first one, which had no seal, did not state its version
            "cell": cell_id,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "error": dict(error) if isinstance(error, Mapping) else error_note(error),
        }
        self.note_failure(cell_id, record)

    def note_failure(self, cell_id: str, record: Mapping[str, Any]) -> None:
        """Write the record of a failure, as `failure` returns it."""
        replace_file(self._failure(cell_id), sealed_json(record))

    def clean(self) -> None:
        """Remove what killed runs left behind; cells that are being computed are left alone."""
        drafts = {path.name for path in self.work.iterdir()} if self.work.is_dir() else set()
        failed = sorted(self.failures.iterdir()) if self.failures.is_dir() else []
        drafts |= {path.name.split(".")[1] for path in failed if path.name.startswith(".")}
        drafts |= {path.stem for path in failed if self.has(path.stem)}
        for cell_id in sorted(drafts):
            with self.claim(cell_id) as held:  # removes the drafts
                if held and self.has(cell_id):
                    self._failure(cell_id).unlink(missing_ok=True)

    def _failure(self, cell_id: str) -> Path:
        return self.failures / f"{cell_id}.json"


def error_note(error: BaseException | str) -> dict[str, Any]:
    """What is kept of an error: type, message, and the last lines of its traceback."""
    lines = [] if isinstance(error, str) else format_exception(error)
    return {
        "type": "Killed" if isinstance(error, str) else type(error).__name__,
        "message": str(error),
        "traceback": "".join(lines).splitlines()[-40:],
    }


def tensor_bytes(tensors: Tensors | bytes) -> bytes:
    """The bytes of a file of arrays."""
    if isinstance(tensors, bytes):
        return tensors
    import safetensors.numpy

    # No metadata: with two or more keys the header's order differs between processes.
    arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    return bytes(safetensors.numpy.save(arrays))

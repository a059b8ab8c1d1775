"""What identifies a model that is read: the digests of its configuration and weights.

Every cell of a model needs them, and files of many gigabytes take minutes to read; so a digest is
cached while the size and times of the file stay the same, once it is older than clocks may differ.
"""

from __future__ import annotations

import time
from functools import lru_cache
from pathlib import Path

from harness.models.loading.folder import model_files
from harness.models.loading.location import checkpoint_folder
from harness.runs.plan.shipped import weights_folder
from harness.runs.store.atomic import file_digest
from harness.spec.types import LoadModel, TrainModel

SETTLED_NS = 3 * 10**9
"""A file changed less than this ago may change once more without its times telling."""


def weight_digests(spec: LoadModel | TrainModel, folder: Path) -> dict[str, str]:
    """sha256 of each file of the model by name; `HarnessError` if a file is missing."""
    if isinstance(spec, LoadModel):
        files = model_files(checkpoint_folder(spec, folder), spec.format)
    else:
        files = model_files(weights_folder(spec, folder), "harness")
    return {path.name: _digest(path) for path in files}


def _digest(path: Path) -> str:
    stat = path.stat()
    changed = max(stat.st_mtime_ns, stat.st_ctime_ns)
    if time.time_ns() - changed < SETTLED_NS:
        return file_digest(path)
    return _kept_digest(path.resolve(), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


@lru_cache(maxsize=1024)
def _kept_digest(path: Path, size: int, modified: int, changed: int) -> str:
    """The digest of an unchanged file; size and times are part of the cache key."""
    return file_digest(path)

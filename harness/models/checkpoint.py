"""Weights on disk: `config.json` and `model.safetensors`. Loading never unpickles.

Models are saved under our own names; checkpoints of other programs are read as well.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from harness.disk import naming, write, write_synced
from harness.models.loading.folder import CONFIG, WEIGHTS
from harness.models.loading.read import read_checkpoint
from harness.models.loading.tensors import TensorFiles, build_model
from harness.models.loading.weight_sparse.sparse_tensors import sparse_form
from harness.models.transformer import Transformer
from harness.spec.types import ModelFormat

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

SAVE_SECONDS = 30.0
"""How often a long training or search saves its state."""

_FORM = 2
"""Of checkpoints: 1 had no digest."""

_LOG = logging.getLogger("harness")


def save_model(model: Transformer, folder: Path) -> None:
    """Write configuration and weights into an existing folder.

    Matrices most of whose entries are zero are written without these (see `sparse_tensors`).
    """
    text = json.dumps(model.config.to_dict(), indent=1, sort_keys=True) + "\n"
    write(folder / CONFIG, text.encode())
    tensors, metadata = sparse_form(_on_cpu(dict(model.named_parameters())))
    write(folder / WEIGHTS, save(tensors, metadata))


def load_model(
    folder: Path,
    kind: ModelFormat = "auto",
    *,
    dtype: torch.dtype | None = None,
    device: str = "cpu",
    without_tokens: Collection[int] = (),
    mesh: DeviceMesh | None = None,
) -> Transformer:
    """Read a model from a folder, frozen and in evaluation mode; see `harness.models.loading`.

    `kind` says whose `config.json` it is (`auto`: by its keys). Weights get precision `dtype` and
    go to `device` as they are read; None keeps the checkpoint's own precision. `without_tokens`
    leaves tokens of the checkpoint out, the others keep their order. `mesh`: the processes over
    which the blocks' weights lie in shards (None: all are here). Raises
    `HarnessError` naming the missing file, the unsupported field, or the tensors that do not fit.
    """
    checkpoint = read_checkpoint(folder, kind, without_tokens)
    return build_model(checkpoint.translation, TensorFiles(checkpoint.stored), dtype, device, mesh)


# ---------------------------------------------------------------- checkpoints
def save_state(
    tensors: Mapping[str, Tensor], note: Mapping[str, Any], path: Path, purpose: Mapping[str, Any]
) -> None:
    """Write tensors and a note atomically: an interrupted write leaves the old file.

    `purpose`, JSON data like the note, says what the checkpoint is for: whatever must be the same
    in a run that resumes from it.
    """
    flat = _on_cpu(tensors)
    head = json.loads(json.dumps({"form": _FORM, "made_for": purpose, "note": note}))
    head["sha256"] = _digest(flat, head)
    content = save(flat, metadata={"state": json.dumps(head)})  # one key: more vary in order
    partial = path.with_suffix(".partial")
    try:
        write_synced(partial, content)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def load_state(
    path: Path, purpose: Mapping[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors and note that `save_state` wrote for this purpose, or None.

    A file that is not what was written, or was written for something else, is deleted and logged:
    what it was for starts anew.
    """
    try:
        with naming(path):
            return _state(path.read_bytes(), purpose)
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = "it is no checkpoint" if isinstance(error, LookupError | TypeError) else error
        _LOG.warning("%s cannot be resumed from and is deleted: %s", path, reason)
        path.unlink()
        return None


def _state(content: bytes, purpose: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The checkpoint in a file's bytes; raises ValueError and others where there is none."""
    tensors = load(content)
    size = int.from_bytes(content[:8], "little")
    head = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["state"])
    if head.pop("sha256") != _digest(tensors, head):
        raise ValueError("it is damaged (its digest is another one)")
    if head["form"] != _FORM or head["made_for"] != json.loads(json.dumps(purpose)):
        raise ValueError("it was written for something else, or by another version")
    return tensors, head["note"]


def _digest(tensors: Mapping[str, Tensor], head: Mapping[str, Any]) -> str:
    """sha256 of tensors by name, type and shape, and of a head without the digest."""
    digest = sha256(json.dumps(head, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}

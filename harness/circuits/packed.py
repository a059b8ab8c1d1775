"""Many circuits of one space in one small file: one bit per element and circuit.

A safetensors file with `kept` uint8 [K, ⌈E/8⌉] and one metadata entry. GPT-2's 32,491 edges are
4 KiB per circuit.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save
from torch import Tensor

from harness.circuits.files import read_space, space_header
from harness.circuits.space import Space
from harness.errors import HarnessError

FORMAT = "circuit-harness/circuits/2"
FORMATS = (FORMAT, "circuit-harness/circuits/1")


def pack(circuits: Sequence[Tensor], space: Space) -> bytes:
    """The bytes of a file with circuits (bool [E] each); equal circuits, equal bytes."""
    bits = torch.stack([kept.cpu() for kept in circuits]).numpy()
    note = json.dumps({"format": FORMAT, **space_header(space)}, sort_keys=True)
    data: bytes = save({"kept": np.packbits(bits, axis=1)}, metadata={"circuits": note})
    return data


def unpack(path: Path) -> tuple[Space, list[Tensor]]:
    """The space and the circuits of a file. Raises `HarnessError` for a file of another form."""
    with safe_open(path, framework="numpy") as file:
        note = json.loads((file.metadata() or {}).get("circuits", "{}"))
        packed = file.get_tensor("kept")
    if note.get("format") not in FORMATS:
        raise HarnessError(
            f"{path}: not circuits; its form is {note.get('format')!r}, this version reads "
            f"{FORMAT!r}"
        )
    space = read_space(note, 8 * packed.shape[-1])
    if packed.shape[1:] != (-(-len(space) // 8),):
        raise HarnessError(
            f"{path}: kept has shape {packed.shape}, which is not a bit for each of {len(space)} "
            f"{space.unit}"
        )
    bits = np.unpackbits(packed, axis=1, count=len(space)).astype(bool)
    return space, [torch.from_numpy(row) for row in bits]

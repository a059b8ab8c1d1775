"""Circuits as files: our JSON and safetensors, and the EAP-IG / MIB JSON and pt forms.

    *.safetensors   ours: `kept` and `scores` [E], one metadata entry; lossless
    *.json          ours, or EAP-IG/MIB's `importances.json`, distinguished when read
    *.json.gz       either, compressed
    *.pt            EAP-IG/MIB's `importances.pt`; read with `weights_only=True`

The MIB forms know edges alone (`harness.circuits.edges.mib`). Everything a file says is checked
against the space it declares: an unknown element, a missing field or a score that is no number is
an error, not a silent zero. Version 3 has, beside the circuit, what dropped elements carry and what
was measured with it (`constants_in_files`); files without these are of version 2. Files of version
1, which had edges as matrices, are read too. How large files and their spaces may be stands in
`untrusted`.
"""

from __future__ import annotations

import gzip
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from harness.circuits.circuit import Circuit
from harness.circuits.constants_in_files import (
    constants_header,
    constants_json,
    stored_values,
    with_constants,
)
from harness.circuits.edges.mib import from_mib, from_mib_tensors, to_mib, to_mib_tensors
from harness.circuits.edges.space import EdgeSpace
from harness.circuits.rows import check_scores, check_shape, filled
from harness.circuits.space import Space, space_of
from harness.circuits.untrusted import (
    check_expansion,
    check_graph_size,
    check_notes,
    read_circuit_json,
)
from harness.errors import HarnessError
from harness.spec.printable import printable
from harness.spec.yaml.strict_json import read_json

FORMAT = "circuit-harness/circuit/2"
FORMAT_3 = "circuit-harness/circuit/3"
FORMAT_1 = "circuit-harness/circuit/1"

# What reading something that is no circuit raises; a missing key is reported on its own.
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    RuntimeError,
    ArithmeticError,
    LookupError,
    MemoryError,
    SafetensorError,
    zlib.error,
    zipfile.BadZipFile,
)
_LONGEST_REASON = 500


def save_circuit(circuit: Circuit, path: Path, *, mib: bool = False) -> None:
    """Write by suffix; `mib` chooses the EAP-IG/MIB form of JSON (pt always is)."""
    if path.suffix == ".safetensors":
        path.write_bytes(to_safetensors(circuit))
    elif path.suffix == ".pt":
        torch.save(to_mib_tensors(circuit), path)
    elif path.name.endswith((".json", ".json.gz")):
        text = json.dumps(to_mib(circuit) if mib else to_json(circuit), allow_nan=False)
        data = text.encode()
        path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    else:
        raise _unknown_suffix(path)


def load_circuit(path: Path) -> Circuit:
    """Read any of the forms above. Raises `HarnessError` that names the file and the fault."""
    try:
        return check_notes(_load(path))
    except HarnessError as error:
        raise HarnessError(f"{path}: {_short(error)}") from error
    except KeyError as error:
        raise HarnessError(f"{path}: not a circuit: {_short(error)} is missing") from error
    except _UNREADABLE as error:
        raise HarnessError(f"{path}: cannot be read as a circuit: {_short(error)}") from error


def _load(path: Path) -> Circuit:
    if path.suffix == ".safetensors":
        return _load_safetensors(path)
    if path.suffix == ".pt":
        return from_mib_tensors(_load_pt(path))
    if path.name.endswith((".json", ".json.gz")):
        data = read_circuit_json(path)
        return from_mib(data) if "cfg" in data else from_json(data)
    raise HarnessError("circuits are .safetensors, .json, .json.gz or .pt files")


def _short(error: Exception) -> str:
    """What is wrong, safe to be printed; a name in a broken file can have a megabyte."""
    text = printable(str(error)) or type(error).__name__
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 1] + "…"


def _load_pt(path: Path) -> dict[str, Any]:
    check_expansion(path)
    try:
        data: Any = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # the unpickler raises anything at all on a broken file
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise HarnessError(f"not a file of tensors: {first}") from error
    if not isinstance(data, dict):
        raise HarnessError("not a circuit: it holds no dictionary")
    return data


def _unknown_suffix(path: Path) -> HarnessError:
    return HarnessError(f"{path}: circuits are .safetensors, .json, .json.gz or .pt files")


# ---------------------------------------------------------------- header
def _header(circuit: Circuit) -> dict[str, Any]:
    return {
        "format": FORMAT if circuit.baseline is None else FORMAT_3,
        **space_header(circuit.space),
        "d_model": circuit.d_model,
        "source": dict(circuit.source),
        **constants_header(circuit),
    }


def space_header(space: Space) -> dict[str, Any]:
    """What a file says of its space; `read_space` makes the space of it."""
    return {"granularity": space.granularity, "space": space.header()}


def read_space(header: Mapping[str, Any], held: int = 0) -> Space:
    """The space of a file's header, of either version; `held`: elements that the file must list.

    Raises `HarnessError` for a space far larger than the file can mean.
    """
    space = _declared_space(header)
    if isinstance(space, EdgeSpace):
        check_graph_size(space.graph, held)
    return space


def _declared_space(header: Mapping[str, Any]) -> Space:
    if "graph" in header:  # version 1
        if header.get("granularity", "edge") != "edge":
            raise HarnessError(
                f"granularity is {header['granularity']!r}, but version 1 of this form knows edges "
                "alone"
            )
        return EdgeSpace.from_header(header["graph"])
    return space_of(header["granularity"], header["space"])


def _check_format(header: Mapping[str, Any]) -> None:
    if header["format"] not in (FORMAT, FORMAT_1, FORMAT_3):
        raise HarnessError(f"format is {header['format']!r}, this version reads {FORMAT_3!r}")


# ---------------------------------------------------------------- JSON
def to_json(circuit: Circuit) -> dict[str, Any]:
    """Every scored or kept element as [name, score or null, kept]."""
    kept = circuit.kept.tolist()
    scores = [None] * len(kept) if circuit.scores is None else circuit.scores.tolist()
    elements = [
        [circuit.space.name(element), scores[element], kept[element]]
        for element in circuit.space.listing()
        if kept[element] or scores[element] is not None
    ]
    return {**_header(circuit), "elements": elements, **constants_json(circuit)}


def from_json(data: dict[str, Any]) -> Circuit:
    """Inverse of `to_json`."""
    _check_format(data)
    rows = _rows(data)
    space = read_space(data)
    kept, scores = filled(space, rows)
    scored = any(score is not None for _, score, _ in rows)
    circuit = Circuit(space, kept, scores if scored else None, data["d_model"], data["source"])
    return with_constants(circuit, data) if data["format"] == FORMAT_3 else circuit


def _rows(data: Mapping[str, Any]) -> list[tuple[str, float | None, bool]]:
    """The elements; version 1 calls them edges."""
    name = "edges" if data["format"] == FORMAT_1 else "elements"
    rows = data[name]
    if not isinstance(rows, list):
        raise HarnessError(f"{name} is not a list")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, list) or len(row) != 3:
            raise HarnessError(f"item {number} of {name} is not [name, score, kept]")
    return [(one, score, kept) for one, score, kept in rows]


# ---------------------------------------------------------------- safetensors
def to_safetensors(circuit: Circuit) -> bytes:
    """The bytes of our safetensors form; equal circuits give equal bytes."""
    tensors = {"kept": circuit.kept.to(torch.uint8).contiguous()}
    if circuit.scores is not None:
        tensors["scores"] = circuit.scores.contiguous()
    if circuit.baseline is not None:
        tensors["baseline"] = stored_values(circuit.baseline)
    note = json.dumps(_header(circuit), sort_keys=True)
    data: bytes = save(tensors, metadata={"circuit": note})  # one key keeps the bytes stable
    return data


def _load_safetensors(path: Path) -> Circuit:
    with safe_open(path, framework="pt") as file:
        header = read_json((file.metadata() or {})["circuit"])
        held = {name: torch.as_tensor(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    kept, scores = held["kept"], held.get("scores")
    if not isinstance(header, dict):
        raise HarnessError("not a circuit: its header is no JSON object")
    _check_format(header)
    if kept.dtype not in (torch.uint8, torch.bool):
        raise HarnessError(f"kept is of type {kept.dtype}, not uint8")
    space = read_space(header, kept.numel())
    read = _flat_of_version_1 if header["format"] == FORMAT_1 else _flat
    circuit = Circuit(
        space,
        read(space, "kept", kept).bool(),
        None if scores is None else check_scores("scores", read(space, "scores", scores)),
        header["d_model"],
        header["source"],
    )
    if header["format"] != FORMAT_3:
        return circuit
    return with_constants(circuit, header, held["baseline"])


def _flat(space: Space, name: str, values: Tensor) -> Tensor:
    check_shape(name, values, (len(space),))
    return values


def _flat_of_version_1(space: Space, name: str, values: Tensor) -> Tensor:
    """Version 1 held matrices over all writers and readers."""
    if not isinstance(space, EdgeSpace):
        raise HarnessError("version 1 of this form holds edges alone")
    check_shape(name, values, tuple(space.graph.allowed.shape))
    return space.flat(values)

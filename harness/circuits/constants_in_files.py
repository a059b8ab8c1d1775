"""What dropped elements carry, and what was measured with it, in circuit files of version 3.

    baseline   {"ablation", "over": texts that say what the constants are means of}
    measured   numbers by measure, on the test pairs that `source` names
    values     [P, N] (`Baseline`): a tensor `baseline` in safetensors, lists in JSON

Numbers are kept as they are (half precision as float32), so that a circuit read from a file alone
gives the logits that it gave when it was written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from harness.circuits.baseline import Baseline
from harness.circuits.circuit import Circuit
from harness.circuits.edges.space import EdgeSpace
from harness.circuits.rows import check_scores
from harness.errors import HarnessError
from harness.models.precision import single

_MOST_POSITIONS = 1 << 16


def constants_header(circuit: Circuit) -> dict[str, Any]:
    """What a file's header says of the constants; nothing where a circuit has none."""
    if circuit.baseline is None:
        return {}
    about = {"ablation": circuit.baseline.ablation, "over": dict(circuit.baseline.over)}
    return {"baseline": about, "measured": dict(circuit.measured)}


def constants_json(circuit: Circuit) -> dict[str, Any]:
    """The constants in our JSON form."""
    if circuit.baseline is None:
        return {}
    return {"values": stored_values(circuit.baseline).tolist()}


def stored_values(baseline: Baseline) -> Tensor:
    """The constants as files hold them: [P, N]."""
    return single(baseline.values).contiguous().cpu()


def with_constants(
    circuit: Circuit, header: Mapping[str, Any], values: Tensor | None = None
) -> Circuit:
    """The circuit with the constants of its file; `values` where they do not stand in the header.

    Raises `HarnessError` for numbers that are none or do not fit the space.
    """
    about, measured = header["baseline"], header["measured"]
    if values is None:
        values = torch.tensor(header["values"], dtype=torch.float64)
        values = values.float() if bool((values == values.float()).all()) else values
    _check_shape(circuit, values)
    over = about["over"]
    texts = [about["ablation"], *over, *over.values()]
    if not all(isinstance(one, str) for one in texts):
        raise HarnessError("what the baseline was taken over is not told in texts")
    if not all(isinstance(x, int | float) and not isinstance(x, bool) for x in measured.values()):
        raise HarnessError("what was measured is not a mapping of numbers")
    baseline = Baseline(about["ablation"], check_scores("baseline", values), over)
    return replace(circuit, baseline=baseline, measured=measured)


def _check_shape(circuit: Circuit, values: Tensor) -> None:
    """Refuse constants (`HarnessError`) that are not as many as the space's elements carry."""
    shape, space = tuple(values.shape), circuit.space
    if isinstance(space, EdgeSpace):
        wanted = f"those of {len(space.graph.writers)} writers with d_model {circuit.d_model}"
        fits = values.ndim == 2 and space.fits_constants(shape[1], circuit.d_model)
    else:
        count = getattr(space, "constants", len(space))
        wanted, fits = str(count), values.ndim == 2 and shape[1] == count
    if not fits or not 0 < len(values) <= _MOST_POSITIONS:
        raise HarnessError(f"baseline has shape {shape}, the space needs {wanted} constants")

"""Circuits that were published beside weight-sparse transformers: kept channels, and their means.

Channels have the names of `harness.models.sites`: channel 17 of `3.attn.q` is `a3.q.17`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.models.loading.weight_sparse.pickled import pickled_state, unpickled
from harness.spec.printable import quoted

if TYPE_CHECKING:
    from torch import Tensor

_HOOKS = {
    "attn.act_in": "a{}.in",
    "attn.q": "a{}.q",
    "attn.k": "a{}.k",
    "attn.v": "a{}.v",
    "attn.resid_delta": "a{}.out",
    "mlp.act_in": "m{}.in",
    "mlp.post_act": "m{}.hidden",
    "mlp.resid_delta": "m{}.out",
}


def kept_channels(path: Path) -> tuple[str, ...]:
    """Names of the channels that a circuit's `viz_data.pt` keeps, such as `a0.in.17`.

    Their `final_resid` is called `final` here; theirs is taken before the final norm. Raises
    `HarnessError` for a file of another form.
    """
    data = unpickled(path)
    held = data.get("circuit_data") if isinstance(data, Mapping) else None
    if not isinstance(held, Mapping):
        raise HarnessError(f"{path}: has no `circuit_data`, the kept channels by place")
    names = []
    for hook, kept in held.items():
        site = _site(hook, path)
        indices = kept.tolist() if hasattr(kept, "tolist") else kept
        if not isinstance(indices, list | tuple) or not all(_is_index(one) for one in indices):
            raise HarnessError(f"{path}: circuit_data of {quoted(str(hook)[:60])} is no list")
        names += [f"{site}.{int(one)}" for one in indices]
    return tuple(names)


def mean_activations(path: Path) -> dict[str, Tensor]:
    """The means [width] by site of a `mean_baseline_pretrain.pt`, such as that of `a0.in`.

    Those of their `final_resid`, called `final`, are of the stream before the final norm.
    """
    return {_site(hook, path): mean.flatten() for hook, mean in pickled_state(path).items()}


def _site(hook: Any, path: Path) -> str:
    """Our name of a place that a hook of theirs sees: `3.attn.q` is `a3.q`."""
    if hook == "final_resid":
        return "final"
    match = re.fullmatch(r"(0|[1-9][0-9]{0,3})\.(\w+\.\w+)", str(hook))
    if match is None or match[2] not in _HOOKS:
        raise HarnessError(f"{path}: {quoted(str(hook)[:60])} is no place that this reader knows")
    return _HOOKS[match[2]].format(match[1])


def _is_index(value: Any) -> bool:
    return type(value) is int and value >= 0

"""What a method says of itself, beside its code; reading it imports no torch.

A built-in method is a module in a room of `harness.discovery` that ends with

    INFO = MethodInfo(kind="eap", title="…", method=Eap, …)

and an installed package's entry point names such an `INFO`, or a class that has one beside it or as
its attribute `info`. `registry` collects them; specs, plans, documents and the bench ask them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from harness.spec.types import Ablation

Params = Mapping[str, Any]


@dataclass(frozen=True)
class Extent:
    """What the cost of a search depends on, beside its params.

    Elements and writers of the model's space, its layers, prompt pairs, and circuits asked for.
    """

    elements: int
    writers: int
    layers: int
    pairs: int
    circuits: int


@dataclass(frozen=True, kw_only=True)
class MethodInfo:
    """What can be known of a method before it runs.

    `kind`: what specs call it. `title`: one line. `cost`: one line, in plain forward+backwards of
    GPT-2 small on all pairs. `method`: the class, a dataclass whose fields are the `params` of
    specs; None where an entry point names it.
    `needs`: a capability that the granularity must have: `edges` for methods that must know what an
    edge is, `dictionaries` for those of features; None for those that run on elements of any kind.
    `objective`: what it does with its parameter `objective`: element by element `attributed`, or
    `minimised` by a search for the circuit; None if it has none.
    `at_model`: whether, with these params under an ablation (None: under all), it looks at the
    whole model alone, where a distance to that model has no gradient.
    `per_token`: whether it can score the elements of each position on its own.
    `post_norms`: whether it runs on models that normalise what a layer's heads add together.
    `passes`: about how many plain forward+backwards of all pairs it takes, with params (defaults
    filled in) on a model and pairs of some extent; plans say from it how long a run takes.
    `processes`: whether several processes can share its prompts (`harness.ranks`).
    `trains_masks`: whether it learns masks by gradient descent; it then is a
    `harness.discovery.masks.settings.MaskMethod`.
    `traces`: whether it makes a frozen run (`harness.tracing`) with the dictionaries, which must
    then be of what attention and MLPs write.
    `shards`: whether it runs on models whose weights lie in shards over processes, where each block
    is whole only while `Transformer.layers` yields it.
    """

    kind: str
    title: str
    cost: str
    method: type[Any] | None = None
    needs: Literal["edges", "dictionaries"] | None = None
    objective: Literal["attributed", "minimised"] | None = None
    at_model: Callable[[Params, Ablation | None], bool] = lambda params, ablation: False
    per_token: bool = True
    post_norms: bool = True
    processes: bool = False
    trains_masks: bool = False
    traces: bool = False
    shards: bool = False
    passes: Callable[[Params, Extent], float] | None = None

    @property
    def elements(self) -> str:
        """What it finds circuits of, in a word."""
        return {None: "any", "edges": "edges", "dictionaries": "features"}[self.needs]

    @property
    def defaults(self) -> dict[str, Any]:
        """The params that a spec may leave out, with their defaults."""
        return {} if self.method is None else {x.name: x.default for x in fields(self.method)}

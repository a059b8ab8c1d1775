"""The resolved shape of a transformer: every size a number, nothing left to derive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from harness.errors import HarnessError
from harness.spec.build import DoesNotFit, build
from harness.spec.key import members_of, spec_fields
from harness.spec.types import ActivationSparsity, Architecture, SparseSite

MOST_LAYERS = 4096
LARGEST_SIZE = 2**31 - 1
"""The largest number of layers, and the largest of every other size."""

Range = tuple[float, float]  # above the first, up to the second

_ROTARY: Mapping[str, Range] = {
    "base": (1, 1e15),
    "factor": (0, 1e9),
    "slow": (0, 1e9),
    "fast": (0, 1e9),
    "amplitude": (0, 1e6),
}
_NUMBERS: Mapping[str, Range] = {
    "query_scale": (0, 1e6),
    "attention_softcap": (0, 1e9),
    "logit_softcap": (0, 1e9),
    "embedding_scale": (0, 1e6),
}


@dataclass(frozen=True, slots=True)
class Rotary:
    """Rotary position embeddings (Su et al. 2021), as `models.rotary` applies them.

    Pair i of coordinates is rotated by position / base^(2i/n). For contexts longer than
    `original_ctx` tokens, `scaling` divides frequencies by `factor`: `linear` all of them;
    `llama3` and `yarn` those of pairs that rotate less than `slow` times within `original_ctx`,
    with a ramp up to `fast` times, beyond which they stay.
    """

    base: float = 10000.0
    n_rotated: int | None = None  # number of leading coordinates of a head that rotate; None: all
    scaling: Literal["none", "linear", "llama3", "yarn"] = "none"
    factor: float = 1.0
    original_ctx: int | None = None
    slow: float = 1.0
    fast: float = 4.0
    whole: bool = True  # yarn: round both ends of the ramp to whole pairs
    amplitude: float = 1.0  # cosines and sines are multiplied by this

    def __post_init__(self) -> None:
        _refuse_numbers(self, _ROTARY)
        if self.scaling not in ("llama3", "yarn"):
            return
        if self.original_ctx is None:
            raise HarnessError(f"rotary scaling {self.scaling!r} needs original_ctx")
        if self.slow >= self.fast:
            raise HarnessError(
                f"rotary scaling {self.scaling!r}: slow = {self.slow} must be less than fast = "
                f"{self.fast}"
            )

    @property
    def context(self) -> int:
        """`original_ctx` where the scaling has one."""
        assert self.original_ctx is not None
        return self.original_ctx


_OF_MLP = ("parallel", "gated", "post_norms")
"""Fields that say something of a layer's MLP, or of MLP and attention together."""


@dataclass(frozen=True, slots=True)
class TransformerConfig:
    """All sizes of a decoder. Written beside the weights as `config.json`.

    The last fields are what published models add to the plain pre-norm decoder. Each is absent by
    default, so that an older `config.json` keeps its meaning. `d_mlp` is 0 where layers are
    attention alone.
    """

    n_layers: int
    n_heads: int
    d_model: int
    d_head: int
    d_mlp: int
    d_vocab: int
    n_ctx: int
    norm: Literal["layernorm", "rmsnorm", "none"] = "layernorm"
    norm_eps: float = 1e-5
    positions: Literal["learned", "rotary", "none"] = "learned"
    activation: Literal["gelu", "gelu_tanh", "gelu_quick", "relu", "silu", "tanh"] = "gelu_tanh"
    bias: bool = True
    unembed_bias: bool = False
    tied: bool = False
    causal: bool = True
    n_key_value_heads: int | None = None
    parallel: bool = False
    gated: bool = False  # the MLP's hidden layer is act(gate) · up (Shazeer 2020)
    qkv_bias: bool | None = None  # None: as `bias`; so the next two
    out_bias: bool | None = None
    mlp_bias: bool | None = None
    rotary: Rotary | None = None  # with positions `rotary`
    window: int | None = None  # tokens that a query of a `window_layers` layer sees, with its own
    window_layers: tuple[int, ...] = ()
    window_rotary: Rotary | None = None  # of these layers; None: as the others (Gemma 3)
    qk_norm: bool = False  # queries and keys are normalised over d_head, before rotary
    query_scale: float | None = None  # scores are this times q·k; None: 1/√d_head
    attention_softcap: float | None = None  # scores become c·tanh(score / c); so the logits
    logit_softcap: float | None = None
    embedding_scale: float = 1.0
    post_norms: bool = False  # what attention and MLP write is normalised once more (Gemma 2)
    d_vocab_out: int | None = None  # outputs of a model that answers in classes; None: d_vocab
    attention_sink: bool = False  # each head has a logit in its softmax's denominator alone
    bigram_table: bool = False  # a row of the current token's is added to the logits
    activation_sparsity: ActivationSparsity | None = None  # AbsTopK (Gao et al. 2025)

    def __post_init__(self) -> None:
        self._refuse_huge()
        _refuse_numbers(self, _NUMBERS)
        if not 0 <= self.norm_eps <= 1:
            raise _not("norm_eps", self.norm_eps, "a number from 0 to 1")
        if self.n_heads % self.n_groups:
            raise HarnessError(
                f"n_heads = {self.n_heads} is not divisible by n_key_value_heads = {self.n_groups}"
            )
        if (self.positions == "rotary") != (self.rotary is not None):
            raise HarnessError("`rotary` must be given for positions 'rotary', and only for these")
        rotated = [r.n_rotated or self.d_head for r in (self.rotary, self.window_rotary) if r]
        if any(n % 2 or n > self.d_head for n in rotated):
            raise HarnessError(
                f"rotary positions rotate coordinates of a head in pairs; {max(rotated)} of "
                f"d_head = {self.d_head} is no even number of them"
            )
        layers = self.window_layers
        if not all(0 <= layer < self.n_layers for layer in layers) or len({*layers}) < len(layers):
            raise HarnessError(
                f"not a model configuration: window_layers {str(layers)[:60]} is not a list of "
                f"layers, each once, of a model that has {self.n_layers}"
            )
        if self.window_layers and (self.window is None or not self.causal):
            raise HarnessError("`window_layers` need a `window` and a causal model")
        if not self.has_mlp and (named := [name for name in _OF_MLP if getattr(self, name)]):
            raise HarnessError(
                f"`{named[0]}` is about MLPs, and with d_mlp 0 the model has none; leave it out"
            )
        if self.tied and self.n_outputs != self.d_vocab:
            raise HarnessError(
                f"`tied` embeddings give {self.d_vocab} outputs, d_vocab_out says {self.n_outputs}"
            )
        self._refuse_sparsity()

    def _refuse_sparsity(self) -> None:
        """Refuse AbsTopK that keeps nothing, or is at sites that there are not."""
        sparsity = self.activation_sparsity
        if sparsity is None:
            return
        _refuse_numbers(sparsity, {"keep": (0, 1)})
        at = sparsity.at
        if isinstance(at, str) and at != "all":
            raise _not("activation_sparsity.at", at, "`all` or a list of sites")
        if not self.has_mlp and not isinstance(at, str) and any(one[0] == "m" for one in at):
            raise HarnessError(
                f"activation_sparsity.at is {', '.join(at)}, and with d_mlp 0 there are no MLPs"
            )
        for site in sparsity.sites:
            if self.kept_at(site) == 0:
                raise HarnessError(
                    f"activation_sparsity.keep = {sparsity.keep:g} keeps none of the "
                    f"{self._width(site)} entries at {site}; raise it"
                )

    def _width(self, site: SparseSite) -> int:
        """The width of a site; see `harness.models.sites`."""
        heads = {"a.q": self.n_heads, "a.k": self.n_groups, "a.v": self.n_groups}
        if site in heads:
            return heads[site] * self.d_head
        return self.d_mlp if site == "m.hidden" else self.d_model

    def kept_at(self, site: SparseSite) -> int | None:
        """How many entries AbsTopK keeps at a site of this kind; None where it keeps all."""
        sparsity = self.activation_sparsity
        if sparsity is None or site not in sparsity.sites or not (self.has_mlp or site[0] == "a"):
            return None
        width = self._width(site)
        kept = int(sparsity.keep * width)
        return kept if kept < width else None

    @property
    def has_mlp(self) -> bool:
        """Whether layers have an MLP; without, they are attention alone."""
        return self.d_mlp > 0

    @property
    def n_outputs(self) -> int:
        """Logits at a position: one for each token, or for each class."""
        return self.d_vocab_out or self.d_vocab

    def _refuse_huge(self) -> None:
        """Refuse sizes that no model has, before anything is made of them."""
        for one in fields(self):
            size = getattr(self, one.name)
            if type(size) is int and size > LARGEST_SIZE:
                raise _not(one.name, size, f"at most {LARGEST_SIZE}")
        if self.n_layers > MOST_LAYERS:
            raise _not("n_layers", self.n_layers, f"at most {MOST_LAYERS}")

    @property
    def n_groups(self) -> int:
        """Groups of heads that share keys and values; as many as heads where nothing is shared."""
        return self.n_key_value_heads or self.n_heads

    @property
    def n_read_maps(self) -> int:
        """Maps of a layer that read the stream for attention: H queries, G keys, G values."""
        return self.n_heads + 2 * self.n_groups

    def has_bias(self, part: Literal["qkv", "out", "mlp"]) -> bool:
        """Whether the q, k, v maps, the heads' output map or both maps of the MLP have a bias."""
        own = {"qkv": self.qkv_bias, "out": self.out_bias, "mlp": self.mlp_bias}[part]
        return self.bias if own is None else own

    def window_of(self, layer: int) -> int | None:
        """How many tokens a query of this layer sees at most, its own included."""
        return self.window if layer in self.window_layers else None

    def rotary_of(self, layer: int) -> Rotary | None:
        """The rotary embeddings of this layer, if it has any."""
        own = self.window_rotary if layer in self.window_layers else None
        return own or self.rotary

    @classmethod
    def from_architecture(
        cls, shape: Architecture, d_vocab: int, longest: int, d_vocab_out: int | None = None
    ) -> TransformerConfig:
        """Fill in the derived sizes; n_ctx defaults to `longest`, the longest prompt in tokens.

        `d_vocab_out`: how many classes the model answers in, None where it answers in tokens.
        Raises `HarnessError` if the prompts do not fit into the stated n_ctx.
        """
        if shape.n_ctx is not None and shape.n_ctx < longest:
            raise HarnessError(
                f"architecture.n_ctx is {shape.n_ctx}, but the task's longest prompt has "
                f"{longest} tokens; raise n_ctx or leave it out"
            )
        return cls(
            n_layers=shape.n_layers,
            n_heads=shape.n_heads,
            d_model=shape.d_model,
            d_head=shape.d_head or shape.d_model // shape.n_heads,
            d_mlp=4 * shape.d_model if shape.d_mlp is None else shape.d_mlp,
            d_vocab=d_vocab,
            n_ctx=shape.n_ctx or longest,
            norm=shape.norm,
            norm_eps=shape.norm_eps,
            positions=shape.positions,
            activation=shape.activation,
            bias=shape.bias,
            unembed_bias=shape.unembed_bias,
            tied=shape.tied,
            causal=shape.causal,
            n_key_value_heads=shape.n_key_value_heads,
            parallel=shape.parallel,
            gated=shape.gated,
            rotary=Rotary(base=shape.rotary_base) if shape.positions == "rotary" else None,
            d_vocab_out=d_vocab_out,
            attention_sink=shape.attention_sink,
            bigram_table=shape.bigram_table,
            activation_sparsity=shape.activation_sparsity,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `config.json`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TransformerConfig:
        """Inverse of `to_dict`. Raises `HarnessError` on unknown, missing and unfit keys.

        A value that means something else must not load as a silently different model.
        """
        _refuse_sizes(cls, data)
        for name in ("rotary", "window_rotary"):
            if isinstance(data.get(name), dict):
                _refuse_sizes(Rotary, data[name])
        try:
            return build(cls, data)
        except DoesNotFit as error:
            text = str(error.misfits[0])
            text = text if len(text) <= 300 else f"{text[:200]}… {text[-80:]}"
            raise HarnessError(f"not a model configuration: {text}") from error


def _refuse_numbers(config: object, ranges: Mapping[str, Range]) -> None:
    """Refuse numbers outside of their ranges, and those that are none."""
    for name, (above, largest) in ranges.items():
        value = getattr(config, name)
        if value is not None and not above < value <= largest:
            raise _not(name, value, f"a number above {above:g}, up to {largest:g}")


def _not(name: str, value: object, wanted: str) -> HarnessError:
    return HarnessError(f"not a model configuration: {name} is {str(value)[:60]}, not {wanted}")


def _refuse_sizes(cls: type, data: dict[str, Any]) -> None:
    """Refuse integers below 1, which no size is but that of an MLP that is not there."""
    for name, field in spec_fields(cls).items():
        size, least = data.get(name), 0 if name == "d_mlp" else 1
        if int in members_of(field.type)[0] and type(size) is int and size < least:
            wanted = "a positive integer" if least else "0 or a positive integer"
            raise HarnessError(f"not a model configuration: {name} is {size!r}, not {wanted}")


GPT2_SMALL = TransformerConfig(
    n_layers=12,
    n_heads=12,
    d_model=768,
    d_head=64,
    d_mlp=3072,
    d_vocab=50257,
    n_ctx=1024,
    tied=True,
)

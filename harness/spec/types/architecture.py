"""The shape of a transformer that is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, get_args

from harness.spec.key import About, Key

SparseSite = Literal["a.in", "a.q", "a.k", "a.v", "a.out", "m.in", "m.hidden", "m.out"]


def _without_mlp(name: str) -> dict[str, Any]:
    """A rule: this key says something of MLPs, so that it cannot be true where there are none."""
    both = {"d_mlp": {"const": 0}, name: {"const": True}}
    return {
        "not": {"required": list(both), "properties": both},
        "x-message": f"{name} is about MLPs, and with d_mlp 0 the model has none; leave it out",
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationSparsity:
    """AbsTopK: at some sites of every layer, only the entries of largest magnitude are kept."""

    ABOUT: ClassVar = About(
        "Activation sparsity",
        "AbsTopK (Gao et al. 2025): of what lies at some sites of every layer, only the entries of "
        "largest magnitude are kept; the others become zero.",
    )

    keep: Annotated[
        float,
        Key(
            "Kept share",
            "Share of a site's entries that is kept, rounded down to a whole number, for each "
            "token: the largest of all heads together. 1 keeps all.",
            [0.25],
            above=0,
            maximum=1,
        ),
    ]
    at: Annotated[
        Annotated[str, Key(pattern="^all$(?!\n)")] | tuple[SparseSite, ...],
        Key(
            "Sites",
            "Where: attention's input, queries, keys, values and output (`a.in`, `a.q`, `a.k`, "
            "`a.v`, `a.out`), the MLP's input, hidden layer and output (`m.in`, `m.hidden`, "
            "`m.out`); `all` of these by default.",
            ["all", ["a.in", "a.out", "m.in", "m.out"]],
            min_items=1,
            unique=True,
        ),
    ] = "all"

    @property
    def sites(self) -> tuple[SparseSite, ...]:
        """The kinds of sites, written out."""
        every: tuple[SparseSite, ...] = get_args(SparseSite)
        return every if isinstance(self.at, str) else self.at


_SPARSE_MLP = {
    "d_mlp": {"const": 0},
    "activation_sparsity": {
        "type": "object",
        "required": ["at"],
        "properties": {"at": {"type": "array", "contains": {"pattern": "^m"}}},
    },
}
_NO_SPARSE_MLP = {
    "not": {"required": list(_SPARSE_MLP), "properties": _SPARSE_MLP},
    "x-message": "activation_sparsity.at names a site of MLPs, and with d_mlp 0 there are none",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """Shape of a transformer; null means d_model/n_heads, 4·d_model, and the longest prompt."""

    ABOUT: ClassVar = About(
        "Architecture",
        "Shape of a pre-norm transformer.",
        rules=(_without_mlp("gated"), _without_mlp("parallel"), _NO_SPARSE_MLP),
    )

    n_layers: Annotated[
        int,
        Key("Layers", "Number of blocks, each attention and MLP.", [2], minimum=1, maximum=256),
    ]
    n_heads: Annotated[
        int, Key("Heads", "Attention heads per layer.", [4], minimum=1, maximum=1024)
    ]
    d_model: Annotated[
        int,
        Key(
            "Residual width",
            "Width of the residual stream; must be divisible by n_heads unless d_head is given.",
            [64],
            minimum=1,
            maximum=65536,
        ),
    ]
    d_head: Annotated[
        int | None,
        Key(
            "Head width",
            "Width of one head; null means d_model / n_heads.",
            [16],
            minimum=1,
            maximum=65536,
        ),
    ] = None
    d_mlp: Annotated[
        int | None,
        Key(
            "MLP width",
            "Hidden width of an MLP; null means 4 * d_model, 0 that layers are attention alone.",
            [256, 0],
            minimum=0,
            maximum=262144,
        ),
    ] = None
    n_ctx: Annotated[
        int | None,
        Key(
            "Context length",
            "Longest prompt in tokens; null means the longest prompt of the task.",
            [64],
            minimum=1,
            maximum=1048576,
        ),
    ] = None
    norm: Annotated[
        Literal["layernorm", "rmsnorm", "none"],
        Key(
            "Norm",
            "Normalisation before each attention, MLP and the unembedding.",
            ["layernorm"],
        ),
    ] = "layernorm"
    norm_eps: Annotated[
        float,
        Key("Norm epsilon", "Added to the variance inside a norm.", [1e-5], above=0, maximum=1),
    ] = 1e-5
    positions: Annotated[
        Literal["learned", "rotary", "none"],
        Key("Positions", "How the model knows where a token stands.", ["learned"]),
    ] = "learned"
    activation: Annotated[
        Literal["gelu", "gelu_tanh", "relu", "silu"],
        Key("Activation", "Non-linearity of the MLPs.", ["gelu_tanh"]),
    ] = "gelu_tanh"
    bias: Annotated[
        bool,
        Key("Biases", "Whether linear maps and norms have biases.", [True]),
    ] = True
    unembed_bias: Annotated[
        bool, Key("Unembedding bias", "Whether the unembedding has a bias.", [False])
    ] = False
    tied: Annotated[
        bool,
        Key("Tied embedding", "Whether the unembedding is the transposed embedding.", [False]),
    ] = False
    causal: Annotated[
        bool, Key("Causal", "Whether a position sees only itself and earlier ones.", [True])
    ] = True
    n_key_value_heads: Annotated[
        int | None,
        Key(
            "Key and value heads",
            "Heads of keys and values; groups of n_heads / n_key_value_heads heads share each. "
            "null means n_heads.",
            [2],
            minimum=1,
            maximum=1024,
        ),
    ] = None
    parallel: Annotated[
        bool,
        Key(
            "Parallel",
            "Whether a block's attention and MLP read the same stream, so that its heads do not "
            "feed its MLP.",
            [False],
        ),
    ] = False
    gated: Annotated[
        bool,
        Key(
            "Gated MLP",
            "Whether an MLP's hidden layer is act(gate) times up, as in Llama; it then has three "
            "maps.",
            [False],
        ),
    ] = False
    rotary_base: Annotated[
        float,
        Key(
            "Rotary base",
            "With rotary positions: the slowest pair of coordinates turns about this many times "
            "slower than the fastest.",
            [10000.0],
            above=1,
        ),
    ] = 10000.0
    attention_sink: Annotated[
        bool,
        Key(
            "Attention sink",
            "Whether each head has a learned logit that stands in the denominator of its softmax "
            "alone, so that a query need not look anywhere.",
            [True],
            younger=True,
        ),
    ] = False
    bigram_table: Annotated[
        bool,
        Key(
            "Bigram table",
            "Whether a dense table of learned numbers, the row of the current token, is added to "
            "the logits.",
            [True],
            younger=True,
        ),
    ] = False
    activation_sparsity: Annotated[
        ActivationSparsity | None,
        Key(
            "Activation sparsity",
            "AbsTopK: where, and how many entries are kept. Without it all are.",
            [{"keep": 0.25, "at": "all"}],
            younger=True,
            absent=True,
        ),
    ] = None

"""Sites: every one passes through the tap once, and what the tap returns is what the run uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from support.slow_reference import ARCHITECTURES, SlowModel, activation, small_model
from torch import Tensor

from harness.models.config import GPT2_SMALL
from harness.models.sites import Site, Tap, sites, tapped_run
from harness.models.transformer import Transformer

pytestmark = pytest.mark.matrix
every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)

VOCABULARY, LENGTH = 11, 6


def tokens_of(seed: int, n: int = 3) -> Tensor:
    return torch.randint(VOCABULARY, (n, LENGTH), generator=torch.Generator().manual_seed(seed))


def identity(site: str, value: Tensor) -> Tensor:
    return value


def logits(model: Transformer, tokens: Tensor, tap: Tap, lengths: Tensor | None = None) -> Tensor:
    return model.to_logits(tapped_run(model, tokens, tap, lengths), tokens)


def record(model: Transformer, tokens: Tensor) -> dict[str, Tensor]:
    """The value at every site, in the order of the taps."""
    values: dict[str, Tensor] = {}

    def tap(site: str, value: Tensor) -> Tensor:
        assert site not in values
        values[site] = value
        return value

    tapped_run(model, tokens, tap)
    return values


def replacing(values: Mapping[str, Tensor]) -> Tap:
    return values.get


def adding(changes: Mapping[str, Tensor]) -> Tap:
    return lambda site, value: value + changes[site] if site in changes else value


def writes_of(model: Transformer) -> list[str]:
    """The sites whose values sum to the stream."""
    kinds = ("embed", "position", "a.out", "m.out")
    return [site.name for site in sites(model.config) if site.kind in kinds]


# ---------------------------------------------------------------- nothing changed
@every_architecture
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_tap_that_changes_nothing_gives_the_plain_logits_bit_for_bit(name, dtype):
    model, tokens = small_model(name, dtype=dtype), tokens_of(0)
    assert torch.equal(logits(model, tokens, identity), model(tokens))


def test_prompts_of_several_lengths_are_padded_as_in_the_plain_run():
    model, tokens = small_model("no-norm-bidirectional"), tokens_of(0)
    lengths = torch.tensor([3, 6, 4])
    assert torch.equal(logits(model, tokens, identity, lengths), model(tokens, lengths))
    assert not torch.equal(model(tokens, lengths), model(tokens))
    two = adding({"a0.q": torch.zeros(2, 1, 1, 1, dtype=torch.float64)})
    found = logits(model, tokens, two, lengths)
    torch.testing.assert_close(found, model(tokens, lengths).expand(2, -1, -1, -1))


# ---------------------------------------------------------------- which sites there are
@every_architecture
def test_every_site_is_tapped_once_in_order_and_has_the_stated_shape(name):
    model, tokens = small_model(name), tokens_of(0)
    values, stated = record(model, tokens), sites(model.config)
    assert list(values) == [site.name for site in stated]
    for site in stated:
        assert values[site.name].shape == (*tokens.shape, site.width), site
        if site.heads is not None:
            assert site.width == site.heads * model.config.d_head


def test_the_sites_of_a_grouped_layer_by_hand():
    config = small_model("grouped").config  # 4 heads of width 4 in 2 groups, d_model 12
    found = sites(config)
    assert found[0] == Site("embed", 12)
    assert found[1] == Site("position", 12)
    assert found[2:13] == (
        Site("a.in", 12, 0),
        Site("a.q", 16, 0, heads=4),
        Site("a.k", 8, 0, heads=2),
        Site("a.v", 8, 0, heads=2),
        Site("a.z", 16, 0, heads=4),
        Site("a.out", 12, 0),
        Site("a.stream", 12, 0),
        Site("m.in", 12, 0),
        Site("m.hidden", 20, 0),
        Site("m.out", 12, 0),
        Site("m.stream", 12, 0),
    )
    assert [site.name for site in found[13:]] == [
        *("a1.in", "a1.q", "a1.k", "a1.v", "a1.z", "a1.out", "a1.stream"),
        *("m1.in", "m1.hidden", "m1.out", "m1.stream", "final"),
    ]


def test_only_architectures_that_have_a_place_have_its_site():
    def kinds(name: str) -> set[str]:
        return {site.kind for site in sites(small_model(name).config)}

    assert "position" not in kinds("llama-like") | kinds("no-positions")
    assert kinds("gpt2-like") - kinds("parallel") == {"a.stream"}
    names = [site.name for site in sites(GPT2_SMALL)]
    assert len(set(names)) == len(names) == 2 + 12 * 11 + 1


# ---------------------------------------------------------------- what lies at a site
@every_architecture
def test_values_are_what_their_definitions_say(name):
    model = small_model(name)
    slow, config = SlowModel(model), model.config
    values = record(model, tokens_of(0))
    weights = dict(model.named_parameters())

    def close(site: str, wanted: Tensor) -> None:
        torch.testing.assert_close(values[site], wanted, rtol=1e-11, atol=1e-11)

    def linear(map_name: str, x: Tensor) -> Tensor:
        bias = weights.get(f"{map_name}.bias", torch.zeros((), dtype=x.dtype))
        return x @ weights[f"{map_name}.weight"].T + bias

    stream = values["embed"] + values.get("position", 0)
    for layer in range(config.n_layers):
        block, a, m = f"blocks.{layer}", f"a{layer}", f"m{layer}"
        close(f"{a}.in", slow.norm_of(f"{block}.attention_norm", stream))
        reads = torch.cat([values[f"{a}.{part}"] for part in "qkv"], -1)
        torch.testing.assert_close(reads, linear(f"{block}.qkv_map", values[f"{a}.in"]))
        q, k, v, z = (values[f"{a}.{part}"].unflatten(-1, (-1, config.d_head)) for part in "qkvz")
        for head in range(config.n_heads):
            group = head // (config.n_heads // config.n_groups)
            scores = slow._attention_scores(layer, q[:, :, head], k[:, :, group])
            wanted = slow.looks(layer, head, scores) @ v[:, :, group]
            torch.testing.assert_close(z[:, :, head], wanted)
        out = linear(f"{block}.out_map", values[f"{a}.z"])
        if config.post_norms:
            out = slow.norm_of(f"{block}.attention_post_norm", out)
        close(f"{a}.out", out)
        read = stream if config.parallel else stream + out
        if not config.has_mlp:
            stream = read
            close(f"{a}.stream", stream)
            assert not [site for site in values if site.startswith(f"{m}.")]
            continue
        close(f"{m}.in", slow.norm_of(f"{block}.mlp_norm", read))
        hidden = linear(f"{block}.mlp_in", values[f"{m}.in"])
        gate, *up = hidden.split(config.d_mlp, -1)
        close(f"{m}.hidden", activation(gate, config.activation) * (up[0] if up else 1))
        written = linear(f"{block}.mlp_out", values[f"{m}.hidden"])
        if config.post_norms:
            written = slow.norm_of(f"{block}.mlp_post_norm", written)
        close(f"{m}.out", written)
        if not config.parallel:
            close(f"{a}.stream", stream + out)
        stream = stream + out + written
        close(f"{m}.stream", stream)
    close("final", slow.norm_of("final_norm", stream))


# ---------------------------------------------------------------- replacing
@every_architecture
def test_writes_of_another_run_give_the_other_run(name):
    """But for the bigrams, which are the read tokens' and no write: here of equal tokens."""
    model, tokens, other = small_model(name), tokens_of(0), tokens_of(1)
    if model.config.bigram_table:
        model.bigram_table[:] = model.bigram_table[0]
    values, writes = record(model, other), writes_of(model)
    whole = logits(model, tokens, replacing({site: values[site] for site in writes}))
    torch.testing.assert_close(whole, model(other), rtol=1e-12, atol=1e-12)
    # Of these the token embeddings alone are not computed from the rest.
    tokens_alone = logits(model, tokens, replacing({"embed": values["embed"]}))
    torch.testing.assert_close(tokens_alone, model(other), rtol=1e-12, atol=1e-12)
    rest = logits(model, tokens, replacing({site: values[site] for site in writes[1:]}))
    assert writes[0] == "embed"
    assert not torch.allclose(rest, model(other))
    assert not torch.allclose(rest, model(tokens))


@every_architecture
def test_a_replaced_site_changes_all_that_is_computed_from_it_and_nothing_before(name):
    model, tokens = small_model(name), tokens_of(0)
    before, names = record(model, tokens), [site.name for site in sites(model.config)]
    draw = torch.Generator().manual_seed(2)
    for place, site in enumerate(names):
        new = torch.randn(before[site].shape, generator=draw, dtype=torch.float64)
        values: dict[str, Tensor] = {}

        def tap(at: str, value: Tensor, site=site, new=new, values=values) -> Tensor:
            values[at] = new if at == site else value
            return values[at]

        found = logits(model, tokens, tap)
        assert not torch.allclose(found, model(tokens)), site
        for earlier in names[:place]:
            assert torch.equal(values[earlier], before[earlier])
        assert not torch.allclose(values["final"], before["final"])


@every_architecture
def test_zeroing_a_head_subtracts_its_contribution(name):
    model, tokens = small_model(name), tokens_of(0)
    slow, config = SlowModel(model), model.config
    values, layer, head = record(model, tokens), config.n_layers - 1, 1
    columns = slice(head * config.d_head, (head + 1) * config.d_head)
    weight = dict(model.named_parameters())[f"blocks.{layer}.out_map.weight"]

    z = values[f"a{layer}.z"].clone()
    contribution = z[..., columns] @ weight[:, columns].T
    z[..., columns] = 0
    found = logits(model, tokens, replacing({f"a{layer}.z": z}))

    if config.post_norms:
        bias = dict(model.named_parameters()).get(f"blocks.{layer}.out_map.bias", 0)
        whole = values[f"a{layer}.z"] @ weight.T + bias
        out = slow.norm_of(f"blocks.{layer}.attention_post_norm", whole - contribution)
    else:
        out = values[f"a{layer}.out"] - contribution
    wanted = logits(model, tokens, replacing({f"a{layer}.out": out}))
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(found, model(tokens))


def test_reads_are_told_apart():
    """Other queries alone change nothing where all keys are equal; other values alone do."""
    model, tokens = small_model("gpt2-like"), tokens_of(0)
    values = record(model, tokens)
    equal_keys = {"a0.k": torch.zeros_like(values["a0.k"])}
    wanted = logits(model, tokens, replacing(equal_keys))
    for site, same in (("a0.q", True), ("a0.v", False)):
        changed = equal_keys | {site: values[site].flip(0)}
        found = logits(model, tokens, replacing(changed))
        assert torch.allclose(found, wanted) == same


# ---------------------------------------------------------------- gradients
@every_architecture
def test_gradients_through_taps_are_finite_differences(name):
    model, tokens = small_model(name), tokens_of(0)
    values, draw = record(model, tokens), torch.Generator().manual_seed(3)
    weight = torch.randn(model(tokens).shape, generator=draw, dtype=torch.float64)

    def objective(changes: Mapping[str, Tensor]) -> Tensor:
        return (logits(model, tokens, adding(changes)).log_softmax(-1) * weight).sum()

    changes = {site: torch.zeros_like(x).requires_grad_() for site, x in values.items()}
    objective(changes).backward()
    step = 1e-6
    for site, change in changes.items():
        direction = torch.randn(change.shape, generator=draw, dtype=torch.float64)
        ends = (objective({site: sign * step * direction}) for sign in (1, -1))
        above, below = (float(end) for end in ends)
        assert change.grad is not None
        gradient = float((change.grad * direction).sum())
        assert (above - below) / (2 * step) == pytest.approx(gradient, rel=1e-5, abs=1e-6), site
        assert gradient != 0


# ---------------------------------------------------------------- many masks at once
def gate_of(
    model: Transformer, masks: Mapping[str, Tensor], reference: Mapping[str, Tensor]
) -> Callable[[str, Tensor], Tensor]:
    """Each channel of a site kept by its mask [S, width], or else as in the reference run."""

    def gate(site: str, value: Tensor) -> Tensor:
        if site not in masks:
            return value
        return reference[site] + masks[site][:, None, None] * (value - reference[site])

    return gate


@every_architecture
def test_masks_in_front_are_runs_of_one_mask_each(name):
    model, tokens = small_model(name), tokens_of(0)
    reference, draw = record(model, tokens_of(1)), torch.Generator().manual_seed(4)
    masks = {
        site.name: torch.rand(4, site.width, generator=draw, dtype=torch.float64)
        for site in sites(model.config)
    }
    found = logits(model, tokens, gate_of(model, masks, reference))
    assert found.shape == (4, *model(tokens).shape)
    for row in range(4):
        one = {site: mask[row : row + 1] for site, mask in masks.items()}
        wanted = logits(model, tokens, gate_of(model, one, reference))[0]
        torch.testing.assert_close(found[row], wanted, rtol=1e-12, atol=1e-12)
        assert not torch.allclose(found[row], found[row - 1])


@every_architecture
def test_masks_at_any_one_site_are_carried_from_there_on(name):
    """Also where only queries, or only values, differ between masks; what is before is shared."""
    model, tokens = small_model(name), tokens_of(0)
    reference, names = record(model, tokens_of(1)), [site.name for site in sites(model.config)]
    draw = torch.Generator().manual_seed(5)
    for place, site in enumerate(names):
        masks = {site: torch.rand(3, reference[site].shape[-1], generator=draw).double()}
        gate, axes = gate_of(model, masks, reference), dict[str, int]()

        def tap(at: str, value: Tensor, gate=gate, axes=axes) -> Tensor:
            axes[at] = value.ndim
            return gate(at, value)

        found = logits(model, tokens, tap)
        for row in range(3):
            one = {site: masks[site][row : row + 1]}
            wanted = logits(model, tokens, gate_of(model, one, reference))[0]
            torch.testing.assert_close(found[row], wanted, rtol=1e-12, atol=1e-12)
        assert all(axes[at] == 3 for at in names[: place + 1])
        assert site == "final" or axes["final"] == 4


def test_full_and_empty_masks_are_the_two_runs():
    model, tokens, other = small_model("gpt2-like"), tokens_of(0), tokens_of(1)
    reference = record(model, other)
    masks = {site: torch.tensor([[1.0], [0.0]]).double() for site in writes_of(model)}
    found = logits(model, tokens, gate_of(model, masks, reference))
    torch.testing.assert_close(found, torch.stack([model(tokens), model(other)]))

"""True edges: equal to an independent brute force, to the published lists, and to what is wired."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from support.edge_by_edge import EdgeByEdge, weights_of
from support.other_compiler import PROGRAMS, Published
from support.problems import positions_of

from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patchable import EdgeModel
from harness.circuits.edges.space import EdgeSpace
from harness.circuits.ground_truth import NoGroundTruth, verify
from harness.datasets.batch import Batches
from harness.datasets.open import open_data
from harness.datasets.pairs import PromptPairs
from harness.datasets.program.task import checked_program
from harness.errors import HarnessError
from harness.models.compile.assemble import compile_program
from harness.models.transformer import Transformer
from harness.spec.load import Library

pytestmark = pytest.mark.matrix
TRUE_EDGES = {  # true edges: zero/split, zero/summed, interchange/split
    "reverse": (11, 10, 2),
    "xproportion": (5, 5, 3),
    "histogram": (6, 6, 4),
    "sort": (13, 12, 7),
    "most_frequent": (18, 18, 11),
    "dyck_1": (15, 15, 8),
    "copy_previous": (8, 8, 5),
}
# The lists that ACDC (zero ablation) and later work (interchange) published for these programs.
REVERSE = {
    *("tok->a0.h0<v>", "tok->m0", "a0.h0->m0", "tok->m1", "pos->m1", "m0->m1", "m1->m2"),
    *("m2->a3.h0<q>", "pos->a3.h0<k>", "tok->a3.h0<v>", "a3.h0->logits"),
}
XPROPORTION = {"tok->m0", "pos->a1.h0<q>", "pos->a1.h0<k>", "m0->a1.h0<v>", "a1.h0->logits"}
PUBLISHED = {
    ("reverse", "zero"): REVERSE,
    ("reverse", "interchange"): {"tok->a3.h0<v>", "a3.h0->logits"},
    ("xproportion", "zero"): XPROPORTION,
    ("xproportion", "interchange"): {"tok->m0", "m0->a1.h0<v>", "a1.h0->logits"},
}
SUMMED = {"tok": "input", "pos": "input"}


@cache
def compiled(name):
    return compile_program(checked_program(Library().task(name).spec.data))


@cache
def pairs_of(name):
    return open_data(Library().task(name)).pairs("train", 48, 0)


@cache
def truth(name, ablation, inputs):
    return truth_of(compiled(name).model, pairs_of(name), ablation, inputs)


def truth_of(model, pairs, ablation, inputs):
    graph = Graph.of(model.config, inputs)
    batches = list(Batches(pairs, 64))
    return verify(EdgeModel(model, graph), batches, EdgeCounterfactuals(model, graph, ablation))


WRITERS = {  # what `tok` and `pos` are called in a graph of each kind of inputs
    "token": ("input", ""),
    "summed": ("input", "input"),
    "split": ("tok", "pos"),
    "none": ("", ""),
}


def stated(edges, graph):
    """Edges named with the input writers `tok` and `pos` as edges of `graph`: bool [E].

    With one writer `input` for both, either makes its edge; what has no writer has no edge.
    """
    space, (token, position) = EdgeSpace(graph), WRITERS[graph.inputs]
    kept = torch.zeros(len(space), dtype=torch.bool)
    for edge in edges:
        writer, _, reader = edge.partition("->")
        name = {"tok": token, "pos": position}.get(writer, writer)
        if name:
            kept[space.index(f"{name}->{reader}")] = True
    return kept


def prompts_of(pairs: PromptPairs):
    """Clean, corrupted and where answers are read, by length."""
    for _, part in pairs.buckets(1024):
        read = np.zeros(part.clean.shape, dtype=bool)
        rows, columns = np.nonzero(part.positions >= 0)
        read[rows, part.positions[rows, columns]] = True
        yield part.clean, part.corrupted, read


# ---------------------------------------------------------------- compiled programs
@pytest.mark.parametrize("name", TRUE_EDGES)
@pytest.mark.parametrize(("ablation", "inputs"), [("zero", "split"), ("zero", "summed"),
                                                  ("interchange", "split")])  # fmt: skip
def test_every_program_has_a_clear_circuit(name, ablation, inputs):
    found = truth(name, ablation, inputs)
    column = [("zero", "split"), ("zero", "summed"), ("interchange", "split")]
    assert found.size == TRUE_EDGES[name][column.index((ablation, inputs))]
    assert found.smallest_effect > 0.1
    assert found.inside > 0.1
    assert found.largest_other < 1e-5
    assert found.alone < 1e-5


@pytest.mark.parametrize("name", TRUE_EDGES)
@pytest.mark.parametrize(("ablation", "inputs"), [("zero", "split"), ("interchange", "split")])
def test_no_true_edge_is_a_dead_end(name, ablation, inputs):
    """So a method that finds the true circuit is given it."""
    found = truth(name, ablation, inputs)
    assert torch.equal(found.space.prune(found.kept, ablation), found.kept)


@pytest.mark.parametrize(("name", "ablation"), PUBLISHED)
def test_published_circuits_come_out(name, ablation):
    published = PUBLISHED[name, ablation]
    assert set(truth(name, ablation, "split").elements()) == published
    summed = {SUMMED.get(e.split("->")[0], e.split("->")[0]) + "->" + e.split("->")[1]
              for e in published}  # fmt: skip
    found = truth(name, ablation, "summed")
    assert set(found.elements()) == summed
    totals = {"reverse": (94, 77), "xproportion": (32, 23)}[name]
    graphs = [Graph.of(compiled(name).model.config, inputs) for inputs in ("split", "summed")]
    assert tuple(graph.n_edges for graph in graphs) == totals


def test_prompts_decide_what_is_needed():
    """At the full length, a length that is not counted reads as the longest: two edges less."""
    pairs = pairs_of("reverse")
    longest = pairs.take(pairs.lengths == pairs.lengths.max())
    found = set(truth_of(compiled("reverse").model, longest, "zero", "split").elements())
    assert REVERSE - found == {"tok->a0.h0<v>", "a0.h0->m0"}


@pytest.mark.parametrize("name", TRUE_EDGES)
@pytest.mark.parametrize("ablation", ["zero", "interchange"])
def test_an_independent_brute_force_finds_the_same(name, ablation):
    causal, pairs = Library().task(name).spec.data.causal, pairs_of(name)
    for split in (True, False):
        slow = EdgeByEdge(weights_of(compiled(name).model), causal, split)
        edges, least, most = slow.true_edges(list(prompts_of(pairs)), ablation)
        found = truth(name, ablation, "split" if split else "summed")
        assert set(found.elements()) == edges
        assert found.smallest_effect == pytest.approx(least, abs=1e-5)
        assert found.largest_other == pytest.approx(most, abs=1e-5)


@pytest.mark.parametrize("name", ["xproportion", "histogram", "copy_previous"])
@pytest.mark.parametrize("ablation", ["zero", "interchange"])
def test_edges_of_each_position_are_those_of_an_independent_brute_force(name, ablation):
    """Of prompts of one length; some position of every shared edge is true, and of no other."""
    causal, model, pairs = (
        Library().task(name).spec.data.causal,
        compiled(name).model,
        pairs_of(name),
    )
    pairs = pairs.take(pairs.lengths == pairs.lengths.max())
    (prompts,), (batch,) = list(prompts_of(pairs)), Batches(pairs, 64)
    graph = Graph.of(model.config, "split", positions_of(model, batch))
    found = verify(EdgeModel(model, graph), [batch], EdgeCounterfactuals(model, graph, ablation))
    slow = EdgeByEdge(weights_of(model), causal, split=True)
    edges, least, most = slow.true_edges([prompts], ablation, graph.n_places)
    assert set(found.elements()) == edges
    assert found.smallest_effect == pytest.approx(least, abs=1e-5)
    assert found.largest_other == pytest.approx(most, abs=1e-5)
    shared = truth_of(model, pairs, ablation, "split")
    assert {edge.partition("@")[0] for edge in edges} == set(shared.elements())


def test_positions_that_stand_in_for_each_other_are_no_ground_truth():
    model, pairs = compiled("most_frequent").model, pairs_of("most_frequent")
    pairs = pairs.take(pairs.lengths == pairs.lengths.max())
    (batch,) = Batches(pairs, 64)
    graph = Graph.of(model.config, "split", positions_of(model, batch))
    with pytest.raises(NoGroundTruth, match=r"no ground truth: .* stand in for each other"):
        verify(EdgeModel(model, graph), [batch], EdgeCounterfactuals(model, graph, "zero"))


@pytest.mark.parametrize("name", TRUE_EDGES)
def test_what_is_wired_is_true_but_for_defaults(name):
    """All edges that the program uses are true; those that only serve a default need not be.

    A default says where to look when nothing is selected; in these programs every read position
    selects something, so no prompt shows it.
    """
    found = set(truth(name, "zero", "split").elements())
    assert found == compiled(name).edges("program")
    assert compiled(name).edges() - found <= compiled(name).edges("default")


@pytest.mark.parametrize("name", TRUE_EDGES)
def test_wires_are_named_for_every_kind_of_input(name):
    wired = compiled(name).edges("program")
    count = {"tok": 0, "pos": 0}
    for edge in wired:
        count[edge.split("->")[0]] = count.get(edge.split("->")[0], 0) + 1
    sizes = {}
    for inputs in ("split", "summed", "token", "none"):
        mask = stated(wired, Graph.of(compiled(name).model.config, inputs))
        sizes[inputs] = int(mask.sum())
        if inputs in ("split", "summed"):
            assert torch.equal(mask, truth(name, "zero", inputs).kept)
    assert sizes["token"] == len(wired) - count["pos"]
    assert sizes["none"] == len(wired) - count["pos"] - count["tok"]


def test_defaults_matter_where_nothing_is_selected():
    """Without them, a position that selects nothing would look everywhere."""
    data = replace(
        Library().task("copy_previous").spec.data,
        program={
            **Library().task("copy_previous").spec.data.program,
            "seen": replace(
                Library().task("copy_previous").spec.data.program["copied"],
                of="is_a",
            ),
            "is_a": replace(
                Library().task("dyck_1").spec.data.program["step"], map="1 if tokens == 'a' else 2"
            ),
        },
        output="seen",
    )
    program = checked_program(data)
    changed = compile_program(program)
    task = Library().task("copy_previous")
    pairs = open_data(replace(task, spec=replace(task.spec, data=data))).pairs("train", 64, 0)
    found = set(truth_of(changed.model, pairs, "zero", "split").elements())
    assert changed.edges("default") & found - changed.edges("program")


# ---------------------------------------------------------------- what is no ground truth
def test_soft_attention_needs_more_edges_than_the_program():
    program = checked_program(Library().task("xproportion").spec.data)
    soft = compile_program(program, hardness=4.0)
    found = set(truth_of(soft.model, pairs_of("xproportion"), "zero", "split").elements())
    assert found == soft.edges() > soft.edges("program")


def test_edges_that_stand_in_for_each_other_are_refused():
    """Two heads each say enough: neither is needed alone, one of them is needed."""
    config = compiled("xproportion").model.config
    model = Transformer(replace(config, n_layers=1, n_heads=2, d_mlp=2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        block = next(model.layers())
        model.embedding[:, 0] = 1
        for head in range(2):  # each adds 100 to dimension 1
            block.qkv_map.weight.view(3, 2, config.d_head, -1)[2, head, 0, 0] = 100
            block.out_map.weight[1, head * config.d_head] = 1
        # relu(x) - relu(x - 1) is 1 for 100 and for 200
        block.mlp_in.weight[:, 1] = 1
        block.mlp_in.weight[1, 0] = -1
        block.mlp_out.weight[2] = torch.tensor([1, -1])
        model.unembedding[1, 2] = 1
    with pytest.raises(NoGroundTruth, match=r"the 2 edges that matter .* stand in for each"):
        truth_of(model.requires_grad_(False), pairs_of("xproportion"), "zero", "split")


# ---------------------------------------------------------------- programs of another compiler
@pytest.fixture(params=PROGRAMS)
def published(request, reference_file):
    """Another compiler's program."""
    return Published.of(request.param, reference_file)


def test_published_weights_give_the_published_outputs(published):
    model = published.model()
    assert len(published.facts["samples"]) > 100
    for sample in published.facts["samples"]:
        outputs = np.array(sample["output"])
        logits = model(torch.tensor([sample["input_ids"]]))[0].numpy()
        np.testing.assert_allclose(logits[:, : outputs.shape[1]], outputs, atol=1e-5)


@pytest.mark.parametrize("ablation", ["zero", "interchange"])
@pytest.mark.parametrize("lengths", [(3, 4, 5), (5,)])
@pytest.mark.parametrize("inputs", ["split", "summed"])
def test_published_true_edges_are_found(published, ablation, lengths, inputs):
    found = truth_of(published.model(), published.pairs(lengths), ablation, inputs)
    data = "lengths_3_to_5" if len(lengths) == 3 else "length_5"
    form = {"split": "split_embedding", "summed": "single_input"}[inputs]
    wanted = published.facts["necessary_edges"][data][form][ablation]
    assert set(found.elements()) == set(wanted["edges"])
    assert len(found.space) == wanted["edges_total"]
    assert found.smallest_effect == pytest.approx(
        wanted["smallest_effect_of_a_necessary_edge"], abs=1e-4
    )


def test_our_compilation_needs_the_same_edges_as_theirs(published):
    for ablation in ("zero", "interchange"):
        theirs = truth_of(published.model(), published.pairs((3, 4, 5)), ablation, "split")
        assert set(truth(published.name, ablation, "split").elements()) == set(theirs.elements())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_has_no_ground_truth(dtype):
    model = compiled("reverse").model.to(dtype)
    patchable = EdgeModel(model, Graph.of(model.config, "split"))
    with pytest.raises(HarnessError, match="float16: rounding alone moves logits"):
        verify(patchable, [], EdgeCounterfactuals(model, patchable.graph, "zero"))

"""Compiled models compute what the interpreter says, exactly, with the components they name."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.datasets.program import CARRIER
from harness.datasets.program.read import read_program
from harness.datasets.program.run import run_program
from harness.datasets.program.spec import ProgramData, ProgramSelect, ProgramStep
from harness.datasets.program.task import checked_program
from harness.models.compile.assemble import compile_program
from harness.models.compile.basis import Basis
from harness.spec.load import Library

TASKS = ["reverse", "xproportion", "histogram", "sort", "most_frequent", "dyck_1", "copy_previous"]
SHAPES = {  # layers, and the components of the steps in the order of the task's file
    "reverse": (4, "length: a0.h0 m0, rest: m1, target: m2, reversed: a3.h0"),
    "xproportion": (2, "is_x: m0, share: a1.h0"),
    "histogram": (1, "count: a0.h0 m0"),
    "sort": (3, "key: m0, rank: a1.h0 m1, sorted: a2.h0"),
    "most_frequent": (4, "count: a0.h0 m0, strength: m1, beaten_by: a2.h0 m2, winner: a3.h0"),
    "dyck_1": (
        4,
        "step: m0, balance: a1.h0, is_open: m1, is_below: m1, share_below: a2.h0, was_below: m2, "
        "state: m3",
    ),
    "copy_previous": (2, "previous: a0.h0, copied: a1.h0"),
}


@cache
def program_of(name):
    return checked_program(Library().task(name).spec.data)


def a_program(steps, output, vocabulary=("a", "b", "c"), longest=4, causal=False):
    data = ProgramData(
        vocabulary=vocabulary,
        lengths=(longest,),
        causal=causal,
        output=output,
        program=steps,
    )
    program, problems = read_program(data)
    assert program is not None, problems
    return program


def select(keys, queries, predicate, which="all"):
    return ProgramStep(select=ProgramSelect(keys=keys, queries=queries, predicate=predicate,
                                            which=which))  # fmt: skip


def prompts(program, length, most=400):
    """All prompts of a length, or an even choice of them, as words."""
    count = len(program.vocabulary) ** length
    step = max(1, count // most)
    return [
        tuple(program.vocabulary[i // len(program.vocabulary) ** k % len(program.vocabulary)]
              for k in range(length))
        for i in range(0, count, step)
    ]  # fmt: skip


def expected(program, words):
    """Logits [T, V] after BOS; NaN where the output has no value."""
    values = run_program(program, words)[program.output]
    rows = np.zeros((len(words), 1 + len(program.tokens)))
    for row, value in zip(rows, values, strict=True):
        if program.numerical:
            row[CARRIER] = value
        elif value is None:
            row[:] = np.nan
        else:
            row[program.answer_ids[value]] = 1
    return rows


def worst(program, model, lengths):
    """How far logits are from what the interpreter says, at most."""
    most = 0.0
    for length in lengths:
        chosen = prompts(program, length)
        ids = {word: index for index, word in enumerate(program.vocabulary, start=1)}
        tokens = torch.tensor([[0, *(ids[word] for word in words)] for words in chosen])
        logits = model(tokens)[:, 1:].double().numpy()
        wanted = np.stack([expected(program, words) for words in chosen])
        most = max(most, np.nanmax(np.abs(logits - wanted), initial=0))
    return most


@pytest.mark.parametrize("name", TASKS)
def test_shipped_programs_are_computed_exactly(name):
    program = program_of(name)
    model = compile_program(program).model
    assert model.embedding.dtype == torch.float32
    assert worst(program, model, range(1, program.longest + 1)) < 1e-6


@pytest.mark.parametrize("name", TASKS)
def test_steps_stand_where_they_are_said_to_stand(name):
    layers, components = SHAPES[name]
    compiled = compile_program(program_of(name))
    assert (compiled.model.config.n_layers, compiled.model.config.n_heads) == (layers, 1)
    wanted = [one.split(": ") for one in components.split(", ")]
    assert compiled.components == {step: tuple(parts.split()) for step, parts in wanted}


def test_each_step_is_on_its_components_dimensions_of_the_stream():
    """Reading the stream where a component wrote gives the interpreter's value of its step."""
    program = program_of("sort")
    compiled, basis = compile_program(program), Basis.of(program)
    words = ("c", "a", "b", "a")
    values = run_program(program, words)
    ids = [0, *(program.vocabulary.index(word) + 1 for word in words)]
    stream = compiled.model.stream(torch.tensor([ids]))[0, 1:]
    for step in program.steps:
        dims = list(basis.dimensions(step))
        for row, value in zip(stream, values[step], strict=True):
            one_hot = torch.zeros(len(dims))
            one_hot[program.domains[step].values.index(value)] = 1
            torch.testing.assert_close(row[dims], one_hot, atol=1e-6, rtol=0)
        layer = int(compiled.components[step][-1][1])
        block = list(compiled.model.layers())[layer]
        part = block.mlp_out if compiled.components[step][-1][0] == "m" else block.out_map
        assert part.weight[dims].any()
        for other in compiled.model.layers():
            for weight in (other.mlp_out.weight, other.out_map.weight):
                assert weight is part.weight or not weight[dims].any()


@pytest.mark.parametrize("name", TASKS)
def test_wires_are_the_nonzero_products_of_weights(name):
    """A writer's output reaches into a reader's weights exactly where a wire is stated."""
    compiled = compile_program(program_of(name))
    model = compiled.model.double()
    outs = {"tok": model.embedding, "pos": model.position_embedding}
    found = set()

    def connect(reader, weight):
        found.update(f"{w}->{reader}" for w, out in outs.items() if (out @ weight.T).any())

    for layer, block in enumerate(model.layers()):
        readers = block.qkv_map.weight.view(3, model.config.n_heads, model.config.d_head, -1)
        heads = {}
        for head in range(model.config.n_heads):
            for part, weight in zip("qkv", readers[:, head], strict=True):
                connect(f"a{layer}.h{head}<{part}>", weight)
            heads[f"a{layer}.h{head}"] = block.out_weights()[head]
        outs |= heads
        connect(f"m{layer}", block.mlp_in.weight)
        outs[f"m{layer}"] = block.mlp_out.weight.T
    connect("logits", model.unembedding)
    assert found == compiled.edges()
    assert compiled.edges("program") | compiled.edges("default") == compiled.edges()


def test_the_order_in_the_file_does_not_matter():
    data = Library().task("dyck_1").spec.data
    turned = ProgramData(
        vocabulary=data.vocabulary,
        lengths=data.lengths,
        output=data.output,
        program=dict(reversed(data.program.items())),
    )
    one, other = (compile_program(checked_program(each)) for each in (data, turned))
    assert one.wires == other.wires
    for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_hardness_decides_how_exact_outputs_are():
    program = program_of("xproportion")
    errors = [worst(program, compile_program(program, h).model, [5]) for h in (2, 5, 10, 30)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.05
    assert errors[-1] < 1e-6


# ---------------------------------------------------------------- what shipped programs leave out
def test_two_aggregates_in_one_layer_take_two_heads():
    program = a_program(
        {
            "first": select("indices", "indices", "keys == 0"),
            "last": select("indices", "indices", "keys == 3"),
            "head": ProgramStep(aggregate="first", of="tokens"),
            "tail": ProgramStep(aggregate="last", of="tokens"),
            "same": ProgramStep(map="head == tail"),
        },
        "same",
    )
    compiled = compile_program(program)
    assert compiled.model.config.n_heads == 2
    assert compiled.components["head"] == ("a0.h0",)
    assert compiled.components["tail"] == ("a0.h1",)
    assert worst(program, compiled.model, [1, 2, 3, 4]) < 1e-6


def test_what_has_no_value_stays_without():
    """No neighbour: no value; nobody selects it, it selects nobody, and counts as zero."""
    steps = {
        "next": select("indices", "indices", "keys == queries + 1"),
        "follower": ProgramStep(aggregate="next", of="tokens"),
        "by_follower": select("follower", "follower", "=="),
        "peers": ProgramStep(selector_width="by_follower"),
        "is_a": ProgramStep(map="1 if follower == 'a' else 3", numerical=True),
        "share": ProgramStep(aggregate="by_follower", of="is_a"),
        "third": ProgramStep(map="share / 3"),
        "pair": ProgramStep(map="(peers, follower)"),
        "first": ProgramStep(map="follower if peers == 1 else None"),
    }
    for output in ("peers", "share", "third", "first"):
        program = a_program(steps, output)
        assert worst(program, compile_program(program).model, [1, 2, 3, 4]) < 1e-6, output
    values = run_program(a_program(steps, "share"), ["a", "b", "a"])
    assert values["follower"] == ["b", "a", None]
    assert values["peers"] == [1, 1, 0]
    assert values["share"] == [3, 1, 0]


def test_an_output_may_be_an_input():
    for output in ("tokens", "indices"):
        program = a_program({"double": ProgramStep(map="indices * 2")}, output)
        compiled = compile_program(program)
        assert worst(program, compiled.model, [3]) < 1e-6
        assert {"tokens": "tok->logits", "indices": "pos->logits"}[output] in compiled.edges()


def test_a_step_that_nothing_reads_changes_nothing():
    program = a_program(
        {"code": ProgramStep(map="tokens == 'a'"), "spare": ProgramStep(map="indices % 2")}, "code"
    )
    assert worst(program, compile_program(program).model, [1, 4]) < 1e-6


PREDICATES = ["==", "!=", "<", ">=", "true", "keys == 0"]
STEPS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 9), st.integers(0, 9), st.sampled_from(PREDICATES)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(STEPS, st.booleans())
def test_random_programs_are_computed_exactly(recipe, causal):
    """Selects over categories, means of numbers, look-ups of these means, in any combination."""
    steps, categories, numbers = {}, ["tokens", "indices"], []
    for index, (kind, a, b, given_predicate) in enumerate(recipe):
        name, left = f"s{index}", categories[a % len(categories)]
        right = categories[b % len(categories)]
        # Texts and numbers are never compared by size.
        mixed = "tokens" in (left, right) and left != right
        predicate = "!=" if mixed else given_predicate
        if kind == 0:
            steps[name] = ProgramStep(map=f"({left}, {right}) == ({right}, {left})")
            categories.append(name)
        elif kind == 1:
            number = f"2 if {left} == {right} else -1" if left != right else f"{left} != 'a'"
            steps[name] = ProgramStep(map=number, numerical=True)
            numbers.append(name)
        elif kind == 2 and numbers:
            steps[f"{name}_by"] = select(left, right, predicate, "latest" if b % 2 else "all")
            steps[name] = ProgramStep(aggregate=f"{name}_by", of=numbers[-1])
            numbers.append(name)
        elif kind == 3 and numbers:
            steps[name] = ProgramStep(map=f"0 if {numbers[-1]} < 0 else 1 + ({numbers[-1]} > 1)")
            categories.append(name)
        else:
            steps[f"{name}_by"] = select(left, right, predicate)
            steps[name] = ProgramStep(selector_width=f"{name}_by")
            categories.append(name)
    for output in itertools.chain(numbers, categories[2:]):
        data = ProgramData(
            vocabulary=("a", "b"), lengths=(4,), causal=causal, output=output, program=steps
        )
        program, problems = read_program(data)
        if program is None:  # a number with too many values to look up, or a constant output
            assert all("too many" in text or "same" in text for _, text in problems), problems
            continue
        assert worst(program, compile_program(program).model, [1, 3, 4]) < 1e-5

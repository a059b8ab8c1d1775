"""Stability: pairs against all permutations, circuits against games one by one."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.studies import studied

from harness.analyses.registry import analysis_of
from harness.analyses.stability import STEP, Pairs, correlations, jaccard, measured, pairs_of
from harness.dictionaries.dictionary import Dictionary, DictionarySet
from harness.errors import HarnessError
from harness.interpretation.names import FeatureNames
from harness.tracing.influence import total_influence
from harness.tracing.target import single_logit


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(5, 6))
def test_pairs_are_those_of_the_best_permutation(seed: int, few: int, more: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    one, other = (torch.randn(n, 4, generator=draw, dtype=torch.float64) for n in (few, more))
    everyone = torch.ones(few, dtype=torch.bool), torch.ones(more, dtype=torch.bool)
    pairs = pairs_of(one, other, everyone, near=-1.0)
    cosines = torch.nn.functional.cosine_similarity(one[:, None], other[None], dim=-1)
    best = max(
        sum(float(cosines[at, to]) for at, to in enumerate(order))
        for order in permutations(range(more), few)
    )
    assert float(pairs.cosine.sum()) == pytest.approx(best)
    assert len(set(pairs.other.tolist())) == few
    torch.testing.assert_close(pairs.nearest, cosines.max(1).values)
    near = pairs_of(one, other, everyone, near=0.5)
    assert near.cosine.tolist() == pytest.approx([x for x in pairs.cosine.tolist() if x >= 0.5])


def test_the_dead_are_no_pairs() -> None:
    alive = torch.tensor([True, False, True]), torch.tensor([False, True, True])
    pairs = pairs_of(torch.eye(3), torch.eye(3), alive)
    assert (pairs.one.tolist(), pairs.other.tolist()) == ([2], [2])
    assert pairs.nearest[1] == -1
    none = pairs_of(torch.eye(3), torch.eye(3), (alive[0], torch.zeros(3, dtype=torch.bool)))
    assert not len(none.one)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=12))
def test_jaccard_is_that_of_sets(rows: list[tuple[bool, bool]]) -> None:
    one, other = (torch.tensor(column) for column in zip(*rows, strict=True))
    first, second = (set(x.nonzero().flatten().tolist()) for x in (one, other))
    expected = len(first & second) / max(1, len(first | second))
    assert jaccard(one, other) == pytest.approx(expected)
    same = torch.arange(len(rows))
    pairs = Pairs(same, same, torch.ones(len(rows)), torch.ones(len(rows)))
    assert jaccard(one, other, pairs) == pytest.approx(expected)
    turned = replace_other(pairs, same.flip(0))
    assert jaccard(one, other.flip(0), turned) == pytest.approx(expected)


def replace_other(pairs: Pairs, other: torch.Tensor) -> Pairs:
    return Pairs(pairs.one, other, pairs.cosine, pairs.nearest)


def test_correlations_are_those_of_the_textbook() -> None:
    draw = torch.Generator().manual_seed(0)
    one, other = (torch.rand(20, n, generator=draw, dtype=torch.float64) for n in (3, 2))
    one[:, 2] = 1  # what does not vary follows nothing
    result = correlations(one, other)
    expected = torch.corrcoef(torch.cat([one[:, :2], other], 1).T)[:2, 2:]
    torch.testing.assert_close(result[:2], expected)
    assert not result[2].any()


def test_influences_are_those_of_each_game_traced_alone() -> None:
    subject = studied(features=8, sequences=3)
    result = measured(subject, subject.dictionaries)
    runs = [run for run, _ in subject.games("games")]
    assert sum(run.length for run in runs) == len(result.strengths["m1.out"])
    for site, rows in result.influence.items():
        wanted = []
        for run in runs:
            at = run.writer_of(site.removesuffix(".out"))
            sums, targets = torch.zeros(8, dtype=torch.float64), range(STEP - 1, run.length, STEP)
            for token in targets:
                target = single_logit(run, "logit", int(run.frozen.raw[token].argmax()), token)
                parts = total_influence(run, target).parts
                one = torch.zeros(8, dtype=torch.float64)
                for where, column in (run.writers[at].main.units >= 0).nonzero().tolist():
                    unit = int(run.writers[at].main.units[where, column])
                    one[unit] += float(parts[where, run.offsets[at] + column])
                sums += one.abs() / len(targets)
            wanted.append(sums)
        # Games of one length share a run, the shortest come first.
        order = sorted(range(len(runs)), key=lambda at: runs[at].length)
        torch.testing.assert_close(rows, torch.stack([wanted[at] for at in order]))


def permuted(one: Dictionary, order: torch.Tensor) -> Dictionary:
    """The same dictionary with its features in another order."""
    out = Dictionary(one.width, one.features, one.activation, k=one.k, pre_bias=one.pre_bias)
    out.load_state_dict(
        {
            name: value[order] if name in ("decoder", "encoder", "encoder_bias") else value
            for name, value in one.state_dict().items()
        }
    )
    return out.to(one.decoder.dtype).requires_grad_(False)


def test_a_permuted_dictionary_is_the_same() -> None:
    subject = studied(features=10, sequences=2)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(1))
    other = DictionarySet(
        {site: permuted(one, order) for site, one in subject.dictionaries.items()}
    )
    places = order.argsort().tolist()
    names = FeatureNames(
        subject.features.families,
        {
            site: {places[unit]: name for unit, name in named.items()}
            for site, named in subject.features.by_site.items()
        },
    )
    again = replace(subject, others={"again": (other, names)})
    features, circuits = analysis_of("stability")(again).tables
    for row in features.rows:
        alive, of, nearest, same, activity, best = row[2:8]
        assert alive == of
        assert [nearest, same, activity, best] == pytest.approx([1, 1, 1, 1])
        assert row[8] == 0 or row[9] == 1
    through = [row for row in circuits.rows if row[0] == "again"]
    assert [row[2] for row in through] == [1, 1, 1]
    assert [row[4] for row in through] == pytest.approx([1, 1, 1])
    assert all(0 < row[3] <= 1 for row in circuits.rows)


def test_one_game_has_no_halves() -> None:
    with pytest.raises(HarnessError, match="two games or more"):
        analysis_of("stability")(studied(sequences=1))

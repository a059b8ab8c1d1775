"""Examples of features against codes of all tokens, and names of features."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from support.studies import othello, studied

from harness.datasets.concepts import concept_source
from harness.errors import HarnessError
from harness.interpretation.asked import named_features, named_sites
from harness.interpretation.examples import EXAMPLES, examples_of
from harness.interpretation.study import SeenTokens, StudyBudget, SubjectStudy, study
from harness.interpretation.subjects import dictionary_subjects
from harness.interpretation.tokens import SEQUENCES, training_chunks

TOKENS = 2 * SEQUENCES * 31 + 1
"""Some of a third chunk."""


@cache
def small_study() -> tuple[list[SubjectStudy], SeenTokens, Any]:
    example = studied(features=20)
    budget = StudyBudget(TOKENS, 1000, 20, 300)
    subjects = dictionary_subjects(example.dictionaries)
    studies, seen, _ = study(example.model, example.data, subjects, budget)
    return studies, seen, example


def every_token(site: str) -> Any:
    """Of all tokens of a study: their code, their sequence up to them, and what is true there."""
    _, _, example = small_study()
    codes, beginnings, truths, sequences = [], [], [], []
    for number, chunk in enumerate(training_chunks(example.data, TOKENS)):
        held = chunk.held(example.model, [site])[site]
        codes.append(example.dictionaries[site].encode(held).detach().float().numpy())
        true = concept_source(example.data).concepts(chunk.tokens, chunk.lengths)
        for row, length in enumerate(chunk.lengths.tolist()):
            for end in range(length):
                beginnings.append(tuple(chunk.tokens[row, : end + 1].tolist()))
                truths.append(true[row, end])
                sequences.append((number, row))
    return np.concatenate(codes), beginnings, truths, sequences


def test_examples_are_the_strongest_tokens_of_different_sequences() -> None:
    studies, seen, example = small_study()
    for one in studies:
        code, beginnings, truths, sequences = every_token(one.subject.site)
        assert len(code) == len(seen.positions) > TOKENS - 1
        features = list(range(one.subject.size))
        asked = [(one.strongest, feature) for feature in features]
        compared = 0
        for feature, examples in zip(features, examples_of(example.data, seen, asked), strict=True):
            expected, used, shown = [], set(), set()
            for at in np.argsort(-code[:, feature], kind="stable")[:300].tolist():
                if code[at, feature] <= 0 or sequences[at] in used:
                    continue
                used.add(sequences[at])
                if beginnings[at] not in shown:
                    shown.add(beginnings[at])
                    expected.append(at)
            expected = expected[:EXAMPLES]
            assert [one.strength for one in examples] == [code[at, feature] for at in expected]
            assert [tuple(one.tokens.tolist()) for one in examples] == [
                beginnings[at] for at in expected
            ]
            assert [one.position for one in examples] == [
                len(beginnings[at]) - 1 for at in expected
            ]
            for each, at in zip(examples, expected, strict=True):
                assert each.true.tolist() == truths[at].tolist()
            compared += len(examples)
        assert compared > EXAMPLES


def test_the_examples_of_a_feature_do_not_depend_on_what_else_is_asked() -> None:
    studies, seen, example = small_study()
    asked = [(one.strongest, feature) for one in studies for feature in (3, 5)]
    together = examples_of(example.data, seen, asked)
    for one, shown in zip(asked, together, strict=True):
        (alone,) = examples_of(example.data, seen, [one], most=2)
        assert [each.tokens.tolist() for each in alone] == [
            each.tokens.tolist() for each in shown[:2]
        ]
    assert examples_of(example.data, seen, []) == []


def test_sequences_of_tokens() -> None:
    packed = np.zeros((6, 1), np.uint8)
    seen = SeenTokens(packed, np.array([0, 1, 2, 0, 0, 1], np.int16), 3)
    assert seen.sequences(np.arange(6)).tolist() == [0, 0, 0, 1, 2, 2]


def test_only_the_steps_of_wanted_tokens_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    studies, seen, _ = small_study()
    drawn = []

    class Watched:
        def training_batch(self, objective: str, size: int, step: int, seed: int) -> Any:
            drawn.append(step)
            return othello().training_batch(objective, size, step, seed)

    one = studies[0]
    feature = int(np.argmax(one.strongest.counts))
    strengths, tokens = one.strongest.of(feature)
    late = np.where(seen.sequences(tokens) >= SEQUENCES)[0]
    kept = type(one.strongest)(
        strengths[late][None],
        tokens[late][None],
        np.array([len(late)]),
        one.strongest.active[:1],
        one.strongest.seen,
    )
    ((first, *_),) = examples_of(Watched(), seen, [(kept, 0)])
    assert first.strength == strengths[late[0]]
    assert 0 not in drawn
    assert len(drawn) == len(set(drawn)) > 0


def test_features_by_name() -> None:
    sizes = {"a0.out": 4, "m0.out": 16, "m0.in": 2}
    names = ["m0.15", "m0.out.3", "m0.in.1", "m0.3"]
    assert named_features(names, sizes) == [("m0.out", 15), ("m0.out", 3), ("m0.in", 1)]
    assert named_features([], sizes) == []
    for name in ("m1.3", "m0.x", "m0.-1", "m0.", "m0", "3", "", "m0.²", "m0.in.out.1"):
        with pytest.raises(HarnessError, match=r"no feature '.*'; there are a0\.out\.0 to a0"):
            named_features(["m0.1", name], sizes)
    with pytest.raises(HarnessError, match=r"no feature 'm0\.16'; of m0\.out there are .*\.15"):
        named_features(["m0.16"], sizes)


def test_sites_by_name() -> None:
    every = ["a0.out", "m0.out", "m0.in"]
    assert named_sites(every, []) == every
    assert named_sites(every, ["m0.in", "a0"]) == ["a0.out", "m0.in"]
    with pytest.raises(HarnessError, match=r"no dictionary of site 'a7'; there are a0\.out, m0"):
        named_sites(every, ["a0", "a7"])

"""Analyses of random models against loops that follow their definitions, and sums that hold."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections import defaultdict
from dataclasses import replace
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.elsewhere import devices_apart, moved
from support.studies import FEATURES, names_of, studied

from harness.analyses.concentration import MASS, concentration
from harness.analyses.distance import attention, parity, positions
from harness.analyses.distance.evenness import GROUPS, ParityCounter, parity_groups
from harness.analyses.distance.signs import OppositeConcepts, count_signs
from harness.analyses.flow import LOGITS, masses
from harness.analyses.groups import PartGroups
from harness.analyses.local.contributions import strongest_feature
from harness.analyses.probes import explained
from harness.analyses.registry import ANALYSES, analysis_of
from harness.analyses.report import Analysis, AnalysisTable
from harness.analyses.rules import KINDS, ruled_mass
from harness.analyses.splits import families_of
from harness.analyses.studied import SOURCES
from harness.analyses.sufficiency import sufficiency
from harness.datasets.concepts import concept_names
from harness.datasets.generators.othello.boards import OthelloBoard
from harness.errors import HarnessError, NotFound
from harness.interpretation.names import OTHER, FeatureName, FeatureNames
from harness.reports.screens.analyses import analysis_text
from harness.reports.screens.pictures import picture_svg
from harness.tracing.influence import total_influence
from harness.tracing.run import FrozenRun, Place
from harness.tracing.target import part_target, score_target, single_logit


def family_of_part(subject, run: FrozenRun, token: int, column: int) -> str:
    """The group of a part, by its name."""
    name = run.name(run.place(column, token)).partition("@")[0]
    writer, _, unit = name.partition(".")
    if unit.isdecimal():
        return subject.features.family(f"{writer}.out", int(unit))
    kind = run.kind(run.place(column, token))
    return SOURCES[kind]


def table_of(analysis: Analysis, title: str) -> AnalysisTable:
    (table,) = [one for one in analysis.tables if title in one.title]
    return table


# ---------------------------------------------------------------- groups and flows
def test_every_part_is_in_its_group() -> None:
    subject = studied()
    run, _ = next(subject.games("games"))
    groups = PartGroups(subject)
    numbers, concepts = groups.of_parts(run), groups.concepts_of_parts(run)
    assert numbers.shape == run.units.shape == concepts.shape
    for token in (0, 7, 30):
        for column in range(numbers.shape[1]):
            if run.units[token, column] < 0:
                assert numbers[token, column] == len(groups)
                continue
            family = family_of_part(subject, run, token, column)
            assert groups.names[numbers[token, column]] == family
            concept = int(concepts[token, column])
            assert (concept >= 0) == (family not in (*SOURCES.values(), OTHER))
            if concept >= 0:
                text = subject.text_of(run, column, token)
                assert concept_names(subject.features.families)[concept] in text


@pytest.mark.slow
def test_flows_are_those_of_each_target_and_sum_to_their_number() -> None:
    subject = studied(features=8, sequences=1)
    names, total = masses(subject)
    ((run, _),) = subject.games("games")
    expected: dict[tuple[str, str, str], float] = defaultdict(float)
    targets: dict[str, int] = defaultdict(int)
    for at, writer in enumerate(run.writers):
        if writer.kind != "feature":
            continue
        for token, column in (writer.main.units >= 0).nonzero().tolist():
            one = part_target(run, Place(at, token, column))
            into = subject.features.family(f"{writer.name}.out", one.unit)
            add_shares(subject, run, one, (writer.name, into), expected)
            targets[writer.name] += 1
    for token in range(run.length):
        largest = int(run.frozen.raw[token].argmax())
        one = single_logit(run, "logit", largest, token)
        add_shares(subject, run, one, (LOGITS, names[0]), expected)
        targets[LOGITS] += 1
    assert set(total) == set(targets)
    for module, mass in total.items():
        assert float(mass.sum()) == pytest.approx(targets[module])
        for source, row in zip(names, mass.tolist(), strict=True):
            for into, amount in zip(names, row, strict=True):
                assert amount == pytest.approx(expected[module, into, source], abs=1e-9)


def add_shares(subject, run, target, key, expected) -> None:
    every = run.influence(target.stream[None], target.below)[0]
    whole = float(every.abs().sum())
    for token, column in (every != 0).nonzero().tolist():
        source = family_of_part(subject, run, token, column)
        expected[(*key, source)] += abs(float(every[token, column])) / whole


# ---------------------------------------------------------------- one prompt
@pytest.mark.parametrize(
    ("name", "target"), [("logit", "logit:#5"), ("logit", None), ("mlp", None), ("ov", None)]
)
def test_contributions_sum_to_the_target(name: str, target: str | None) -> None:
    subject = studied(target=target)
    analysis = analysis_of(name)(subject)
    assert analysis.data is not None
    families, parts = table_of(analysis, "By family"), table_of(analysis, "largest")
    whole = analysis.data["value"] - analysis.data["constant"]
    assert sum(row[1] + row[2] for row in families.rows) == pytest.approx(whole)
    assert sum(row[3] for row in families.rows) == pytest.approx(1)
    assert sum(row[3] for row in parts.rows) == pytest.approx(whole)
    assert sum(row[4] for row in parts.rows) == pytest.approx(1)
    assert [abs(row[3]) for row in parts.rows] == sorted(
        (abs(row[3]) for row in parts.rows), reverse=True
    )


def test_the_feature_is_of_the_family_that_is_asked_for() -> None:
    notes = analysis_of("ov")(studied(family="theirs")).notes
    assert "theirs" in notes[1]
    with pytest.raises(HarnessError, match="no named feature of family 'nonsense' of MLP"):
        analysis_of("mlp")(studied(family="nonsense"))
    with pytest.raises(HarnessError, match="prompts 0 to 3"):
        analysis_of("logit")(studied(prompt=9))


def test_attention_is_asked_about_the_first_token_last() -> None:
    """Of a feature that is strongest there, the strongest later token; that one where asked for."""
    subject = studied()
    run = subject.prompt(0)
    at, main = next(
        (at, one.main) for at, one in enumerate(run.writers) if one.kind == "feature" and at > 1
    )
    activity = torch.zeros(run.length, FEATURES, dtype=main.values.dtype)
    rows, columns = (main.units >= 0).nonzero(as_tuple=True)
    activity[rows, main.units[rows, columns]] = main.values[rows, columns]
    first = (activity.argmax(0) == 0) & (activity[0] > 0) & (activity[1:] > 0).any(0)
    unit = int(first.nonzero()[0])
    names = FeatureNames(
        subject.features.families, {subject.site_of(run, at): {unit: FeatureName(0, 0.6, True)}}
    )
    subject = replace(subject, features=names)
    found = strongest_feature(subject, run, "a")
    assert found is not None
    assert found[:2] == (at, 1 + int(activity[1:, unit].argmax()))
    asked = replace(subject, choices=replace(subject.choices, token=0))
    assert (strongest_feature(asked, run, "a") or ())[:2] == (at, 0)


def test_unknown_families_are_refused_with_those_that_there_are() -> None:
    subject = studied(family="mien")
    with pytest.raises(HarnessError, match="'mien'; did you mean 'mine'"):
        subject.choices.refuse_unknown_family(subject.features.families)
    known = replace(subject.choices, family="mine")
    known.refuse_unknown_family(subject.features.families)
    replace(known, family=None).refuse_unknown_family(subject.features.families)


def test_pairs_of_a_score_sum_to_it_by_family_too() -> None:
    subject = studied(target="attention:a1.h1:6:2")
    analysis = analysis_of("qk")(subject)
    run = subject.prompt(0)
    score = score_target(run, 1, 1, 6, 2).value
    assert analysis.data == {"score": pytest.approx(score)}
    for title in ("largest pairs", "By families"):
        assert sum(row[2] for row in table_of(analysis, title).rows) == pytest.approx(score)
    with pytest.raises(HarnessError, match="is no attention score"):
        analysis_of("qk")(studied(target="logit:#3"))


def test_a_circuit_is_drawn_with_all_its_parts() -> None:
    analysis = analysis_of("circuit")(studied())
    (picture,) = analysis.pictures
    modules = table_of(analysis, "By module")
    assert sum(row[1] for row in modules.rows) == len(picture.data["nodes"]) - 1
    text = picture_svg({"kind": picture.kind, **picture.data})
    assert text.count("<circle") == len(picture.data["nodes"])
    assert text.count("<path") == len(picture.data["edges"])


def test_large_maps_show_every_value_by_its_shade() -> None:
    size = 40
    draw = torch.Generator().manual_seed(0)
    values = (2 * torch.rand(size, size, generator=draw) - 1).tril().tolist()
    panel = {"title": "a head", "values": values, "rows": [], "columns": []}
    drawn = ET.fromstring(picture_svg({"kind": "heat", "panels": [panel]}))
    colours = {}
    for path in (one for one in drawn if one.tag.endswith("path")):
        for x, y in re.findall(r"M([\d.]+) ([\d.]+)h4v4h-4z", path.attrib["d"]):
            colours[float(y), float(x)] = path.attrib["fill"]
    frame = next(one.attrib for one in drawn if one.attrib.get("fill") == "none")
    first = float(frame["y"]), float(frame["x"])
    largest = max(abs(one) for row in values for one in row)
    for at, row in enumerate(values):
        for to, value in enumerate(row):
            colour = colours.get((first[0] + 4 * at, first[1] + 4 * to), "#ffffff")
            red, _, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
            paler, end = (blue, 43) if value > 0 else (red, 33)
            shown = (255 - paler) / (255 - end)
            # Half of a shade of 24, and half of a step of the blue that pales.
            assert shown == pytest.approx(abs(value) / largest, abs=0.5 / 24 + 0.5 / (255 - 43))


# ---------------------------------------------------------------- concentration
@given(st.lists(st.lists(st.integers(-5, 9), min_size=6, max_size=6), min_size=1, max_size=4))
def test_concentration_by_its_definition(rows: list[list[int]]) -> None:
    result = concentration(torch.tensor(rows, dtype=torch.float64))
    for at, row in enumerate(rows):
        positive = sorted((one for one in row if one > 0), reverse=True)
        assert result.parts[at] == sum(one != 0 for one in row)
        if not positive:
            assert result.top[at] == result.fewest[at] == 0
            continue
        assert result.top[at] == pytest.approx(positive[0] / sum(positive))
        count = next(
            n
            for n in range(1, len(positive) + 1)
            if sum(positive[:n]) >= MASS * sum(positive) - 1e-12
        )
        assert result.fewest[at] == count


# ---------------------------------------------------------------- attention and parity
def test_parity_scores_of_patterns_by_hand() -> None:
    uniform = torch.ones(4, 4).tril() / torch.arange(1, 5)[:, None]
    other = torch.zeros(4, 4)
    other[range(1, 4), range(3)] = 1  # each looks at the one before
    other[0, 0] = 1
    scores = attention.parity_scores([torch.stack([uniform, other, torch.eye(4)])])
    # Even keys of queries 1, 2, 3: 1 of 2, 2 of 3, 2 of 4.
    expected = (1 / 2 + 2 / 3 + 1 / 2) / 3
    assert scores[0].tolist() == pytest.approx([0, -expected, 1 - expected], abs=1e-7)


@pytest.mark.parametrize("name", ["gpt2-like", "grouped", "sinks-bigrams"])
def test_scores_of_a_head_are_the_sum_over_groups(name: str) -> None:
    subject = studied(name)
    run, _ = next(subject.games("games"))
    counter = ParityCounter(subject)
    counter.add(run)
    groups = parity_groups(subject, run, counter.signs())
    for layer, scores in enumerate(run.frozen.scores):
        stream = parity.grouped_stream(run, layer, groups)
        below = run.writers[run.writer_of(f"a{layer}")].below
        torch.testing.assert_close(stream.sum(1), run.stream(below))
        for head in range(len(scores.pattern)):
            parts = parity.HeadParts(run, layer, head, stream)
            keys = scores.keys.final[head // scores.shared_by]
            torch.testing.assert_close(parts.queries.sum(1), scores.queries.final[head])
            torch.testing.assert_close(parts.keys.sum(1), keys)
            whole = scores.queries.final[head] @ keys.T * scores.scale
            contrast = parts.contrast()
            for query in range(1, run.length):
                odd = whole[query, [key for key in range(query + 1) if (query - key) % 2]]
                even = whole[query, [key for key in range(query + 1) if (query - key) % 2 == 0]]
                value = float(odd.mean() - even.mean())
                assert float(contrast[query - 1].sum()) == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("name", ["gpt2-like", "sinks-bigrams"])
def test_patterns_follow_when_keys_lack_parts(name: str) -> None:
    subject = studied(name)
    run, _ = next(subject.games("games"))
    counter = ParityCounter(subject)
    counter.add(run)
    groups = parity_groups(subject, run, counter.signs())
    scores = run.frozen.scores[1]
    parts = parity.HeadParts(run, 1, 1, parity.grouped_stream(run, 1, groups))
    torch.testing.assert_close(parts.without(()), scores.pattern[1])
    chosen = (0, 2)
    lacking = parts.keys[:, [at for at in range(len(GROUPS)) if at not in chosen]].sum(1)
    raised = (scores.queries.final[1] @ lacking.T * scores.scale).masked_fill(
        ~scores.seen, -torch.inf
    )
    if subject.model.config.attention_sink:
        sink = list(run.model.layers())[1].sink_logit[1].expand(run.length, 1)
        raised = torch.cat([raised, sink], -1)
    expected = raised.softmax(-1)[:, : run.length]
    torch.testing.assert_close(parts.without(chosen), expected)


def test_parity_features_are_three_times_as_active() -> None:
    subject = studied()
    counter = ParityCounter(subject)
    sums: dict[str, torch.Tensor] = {}
    tokens = [0, 0]
    for run, _ in subject.games("games"):
        counter.add(run)
        tokens = [tokens[0] + (run.length + 1) // 2, tokens[1] + run.length // 2]
        for at, writer in enumerate(run.writers):
            if writer.kind == "feature":
                site = subject.site_of(run, at)
                own = sums.setdefault(site, torch.zeros(3, subject.dictionaries[site].features))
                for token, column in (writer.main.units >= 0).nonzero().tolist():
                    unit = int(writer.main.units[token, column])
                    own[token % 2, unit] += float(writer.main.values[token, column])
                    own[2, unit] += 1
    some = 0
    for site, signs in counter.signs().items():
        for unit, sign in enumerate(signs.tolist()):
            even, odd = (float(sums[site][at, unit]) / tokens[at] for at in (0, 1))
            enough = sums[site][2, unit] >= 10
            expected = 0 if not enough else (even >= 3 * odd) - (odd >= 3 * even)
            assert sign == expected
            some += sign != 0
    assert some


def test_parity_of_vectors() -> None:
    base = torch.randn(3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    signs = torch.tensor([1.0, -1.0]).repeat(5).double()
    clear = signs[:, None] * base
    assert positions.between(clear) == pytest.approx(1)
    assert positions.told_apart(clear) == 1
    draw = torch.Generator().manual_seed(1)
    noise = torch.randn(400, 3, generator=draw, dtype=torch.float64)
    assert positions.between(noise) < 0.03
    assert 0.3 < positions.told_apart(noise) < 0.7


def test_positions_that_are_not_learned_are_refused() -> None:
    with pytest.raises(HarnessError, match="no learned positions"):
        analysis_of("positions")(studied("llama-like"))


# ---------------------------------------------------------------- signs
@pytest.mark.slow
def test_signs_against_loops() -> None:
    subject = studied(sequences=1)
    (game,) = subject.games("games")
    run, truth = game
    groups, opposites = PartGroups(subject), OppositeConcepts(subject)
    names = concept_names(subject.features.families)
    concepts = groups.concepts_of_parts(run)
    expected: dict[tuple[bool, bool, bool], list[float]] = defaultdict(list)
    for at, writer in enumerate(run.writers):
        if writer.kind != "feature" or not writer.name.startswith("a"):
            continue
        for token, column in (writer.main.units >= 0).nonzero().tolist():
            cell, _, family = (
                subject.text_of(run, run.offsets[at] + column, token).strip("~").partition(" ")
            )
            family = family.partition(" (")[0]
            if family not in ("mine", "theirs"):
                continue
            target = part_target(run, Place(at, token, column))
            every = run.influence(target.stream[None], target.below)[0]
            for source in range(token):
                turned = truth[source + 1 : token + 1, names.index(f"{cell} flipped")].any()
                for part in every[source].nonzero().flatten().tolist():
                    concept = int(concepts[source, part])
                    if concept < 0:
                        continue
                    for other in ("mine", "theirs"):
                        if names[concept] == f"{cell} {other}":
                            kind = other == family, (token - source) % 2 == 0, bool(turned)
                            expected[kind].append(float(every[source, part]))
    counted = count_signs(game, groups, opposites)
    assert sum(map(len, expected.values())) > 5
    for kind, weights in counted.items():
        assert sorted(weights.tolist()) == pytest.approx(sorted(expected[kind]))


def test_signs_need_concepts_with_an_opposite() -> None:
    subject = studied()
    families = tuple(replace(one, opposite=None) for one in subject.features.families)
    other = replace(subject, features=replace(subject.features, families=families))
    with pytest.raises(HarnessError, match="have an opposite"):
        analysis_of("signs")(other)


# ---------------------------------------------------------------- sufficiency, probes, splits
@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.booleans(), st.booleans(), st.booleans(), st.integers(0, 2)),
        min_size=1,
        max_size=25,
    )
)
def test_sufficiency_by_its_definition(rows: list[tuple[bool, bool, bool, int]]) -> None:
    target, one, other, place = (torch.tensor(column) for column in zip(*rows, strict=True))
    result = sufficiency(target, torch.stack([one, other], 1), place)
    on = [row for row in rows if row[1] and row[2]]
    assert result.n == len(on)
    if not on:
        assert result.chance is None
        return
    assert result.chance == pytest.approx(sum(row[0] for row in on) / len(on))
    rates = []
    for *_, at in on:
        here = [row[0] for row in rows if row[3] == at]
        rates.append(sum(here) / len(here))
    assert result.base == pytest.approx(sum(rates) / len(rates))
    true = [row for row in rows if row[0]]
    both = sum(row[1] and row[2] for row in true)
    assert result.recall == (pytest.approx(both / len(true)) if true else None)


def test_what_directions_explain() -> None:
    draw = torch.Generator().manual_seed(0)
    directions = torch.randn(20, 12, generator=draw, dtype=torch.float64)
    inside = (directions[3] * 2 - directions[7])[None]
    assert float(explained(inside, directions[[3, 7]], 2)) == pytest.approx(1)
    apart = torch.eye(12, dtype=torch.float64)
    assert float(explained(apart[:1], apart[1:], 8)) == pytest.approx(0)
    wanted = torch.randn(3, 12, generator=draw, dtype=torch.float64)
    cosines = torch.nn.functional.cosine_similarity(wanted[:, None], directions[None], dim=-1)
    one = explained(wanted, directions, 1)
    torch.testing.assert_close(one, cosines.square().max(1).values)
    shares = torch.stack([explained(wanted, directions, n) for n in range(1, 13)])
    assert (shares.diff(dim=0) > -1e-9).all()
    torch.testing.assert_close(shares[-1], torch.ones(3, dtype=torch.float64))
    assert explained(wanted[:0], directions).shape == (0,)


def test_families_of_split_features() -> None:
    smaller = torch.eye(4)
    larger = torch.tensor(
        [[1.0, 0, 0, 0], [1, 0.9, 0, 0], [0, 0, 1, 0.1], [-1, -1, 1, -1], [0, 0, 0, 5.0]]
    )
    alive = torch.tensor([True, True, True, False]), torch.ones(5, dtype=torch.bool)
    families = families_of(smaller, larger, alive)
    assert families.owner.tolist() == [0, 0, 2, 2, -1]  # the last is near one that is never active
    assert families.sizes.tolist() == [2, 0, 2, 0]
    assert families.parts(0) == [0, 1]
    near = families_of(smaller, larger, alive, near=0.7)
    assert near.owner.tolist() == [0, 0, 2, -1, -1]


def test_counts_of_splits_add_up() -> None:
    table = analysis_of("splits")(studied()).tables[0]
    assert [row[1] for row in table.rows] == ["a0.out", "m0.out", "a1.out", "m1.out"]
    for row in table.rows:
        assert row[3] == sum(row[4:7])  # every feature is kept, splits, or is lost


# ---------------------------------------------------------------- all of them
LONGER = ("concentration", "probes", "signs", "sufficiency")


@pytest.mark.parametrize(
    "name",
    [pytest.param(x, marks=[pytest.mark.slow] if x in LONGER else []) for x in ANALYSES],
)
def test_every_analysis_is_plain_data_and_can_be_shown(name: str) -> None:
    subject = studied(sequences=2 if name == "stability" else 1, rows=5, label_tokens=300)
    analysis = analysis_of(name)(subject)
    assert analysis.tables
    for table in analysis.tables:
        assert all(len(row) == len(table.columns) for row in table.rows)
        assert set(table.shares) <= set(table.columns)
    report = {
        "dictionaries": [{"name": "small"}],
        "model": "m",
        "task": "t",
        "title": ANALYSES[name].title,
        "named": {"in_all": 1, "features": 2, "confirmed": 0},
        "notes": list(analysis.notes),
        "tables": [table.data() for table in analysis.tables],
        "pictures": [{"name": one.name, "kind": one.kind, **one.data} for one in analysis.pictures],
    }
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    text = analysis_text(report)
    assert all(table.title in text for table in analysis.tables)
    for picture in report["pictures"]:
        assert ET.fromstring(picture_svg(picture)).tag.endswith("svg")


def test_an_unknown_analysis_is_refused() -> None:
    with pytest.raises(NotFound, match="did you mean 'signs'"):
        analysis_of("sign")


def test_names_are_labels_first() -> None:
    subject = studied()
    names = names_of(subject.dictionaries)
    for site, named in names.by_site.items():
        for unit, one in named.items():
            text = names.text(site, unit)
            assert text.startswith("~") != one.confirmed
            family = names.family_of(one.concept)
            assert family.name == names.family(site, unit)
            assert family.concepts[names.place_in_family(one.concept)] in text
    assert names.text("a0.out", 0) == ""
    assert names.family("a0.out", 0) == OTHER


# ---------------------------------------------------------------- devices
@pytest.mark.parametrize(
    "name",
    [
        "signs",
        *(pytest.param(one, marks=pytest.mark.slow) for one in ("sufficiency", "concentration")),
    ],
)
def test_analyses_of_a_model_elsewhere_are_those_of_the_model_here(name: str) -> None:
    subject = studied(features=12, sequences=1, label_tokens=400)
    expected = analysis_of(name)(subject)
    moved(subject.model)
    for one in subject.dictionaries.values():
        moved(one)
    with devices_apart():
        there = replace(subject)
        tables = analysis_of(name)(there).tables
    for table, other in zip(tables, expected.tables, strict=True):
        assert table.rows == other.rows


# ---------------------------------------------------------------- rules
def test_cells_on_lines_are_those_that_can_be_flipped_towards() -> None:
    """Of 8×8 and 6×6: where a queen on the cell could go."""
    for size in (6, 8):
        board = OthelloBoard(size)
        for cell in board.playable.tolist():
            expected = set()
            for down, right in product((-1, 0, 1), repeat=2):
                row, column = cell // 8 + down, cell % 8 + right
                while (down, right) != (0, 0) and 0 <= row < size and 0 <= column < size:
                    expected.add(8 * row + column)
                    row, column = row + down, column + right
            assert set(board.lines_through(cell)) == expected


def test_mass_by_rules_against_loops() -> None:
    subject = studied(features=8, sequences=1)
    ((run, truth),) = subject.games("games")
    families, names = subject.features.families, concept_names(subject.features.families)
    legal = next(one for one in families if one.name == "legal")
    expected: dict[tuple[str, str, str], float] = defaultdict(float)
    every: dict[str, float] = defaultdict(float)
    n = 0
    for token in range(run.length):
        output = int(run.frozen.raw[token].argmax())
        right = [at for at in range(32) if truth[token, names.index(legal.concepts[at])]]
        if output not in right or len(right) < 2:
            continue
        n += 1
        parts = total_influence(run, single_logit(run, "logit", output, token)).parts.abs()
        masses: dict[tuple[str, int, int], float] = {}
        for at, column in parts.nonzero().tolist():
            place = run.place(column, at)
            if run.kind(place) == "feature":
                writer = run.writers[place.writer]
                unit = int(writer.units[at, place.column])
                masses[writer.name, unit, at] = float(parts[at, column])
        whole = sum(masses.values())
        for (writer, unit, _), mass in masses.items():
            every[writer] += mass / whole
            name = subject.features.by_site[f"{writer}.out"].get(unit)
            if name is None:
                continue
            family = subject.features.family_of(name.concept)
            if family.cells is None:
                continue
            cell = family.cells[subject.features.place_in_family(name.concept)]
            kind = "elsewhere"
            if cell == legal.cells[output]:
                kind = "own cell"
            elif cell in legal.depends_on[output]:
                kind = "cells it depends on"
            expected[writer, family.name, kind] += mass / whole
            others = [one for one in right if one != output]
            hit = [cell == legal.cells[one] or cell in legal.depends_on[one] for one in others]
            expected[writer, family.name, "of others"] += mass / whole * sum(hit) / len(others)
    total = ruled_mass(subject)
    assert total.n == n > 0
    for row, kind in enumerate(KINDS):
        for at, writer in enumerate(total.modules):
            for column, family in enumerate(families):
                value = float(total.named[row, at, column])
                assert value == pytest.approx(expected[writer, family.name, kind], abs=1e-9)
    assert total.every.tolist() == pytest.approx([every[one] for one in total.modules])
    assert float(total.every.sum()) == pytest.approx(n)


def test_rules_need_outputs_that_depend_on_cells() -> None:
    subject = studied()
    families = tuple(replace(one, depends_on=None) for one in subject.features.families)
    other = replace(subject, features=replace(subject.features, families=families))
    with pytest.raises(HarnessError, match="which cells its outputs depend on"):
        analysis_of("rules")(other)

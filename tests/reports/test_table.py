"""Tables as text: golden for a tiny results folder, and harmless whatever the names hold."""

import csv
import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from math import comb, log2
from pathlib import Path

import pytest
from support.fake_cells import a_cell, a_method, a_task, output
from support.stored_cells import cell_of, save, stored

from harness.errors import NotFound
from harness.metrics import MEASURES
from harness.metrics.registry import names
from harness.reports.columns import NAMES, Layout, columns_for
from harness.reports.leaderboard import Leaderboard, leaderboard
from harness.reports.records import as_data
from harness.reports.rows import COLUMNS
from harness.reports.screens.side_by_side import side_by_side
from harness.reports.table import WIDE, caption, render, render_rows
from harness.reports.text import FORMATS, columns_wide, elided, grid, latex, markdown, plus_minus
from harness.runs.plan import Plan
from harness.runs.store import CellStore
from harness.runs.store.record import load_cells, record
from harness.spec.identity import identity_fields
from harness.spec.load import Library

GOLDEN = """\
### toy

n = 40 test pairs, 200 edges, metric logit_diff; accuracy of the model: test 1.000 ±0.000.
Circuits: ablation interchange, positions all.

| # | method | CMD ↓ | CPR ↑ | CMD log ↓ | edges f≥.85/.95/.99 ↓ | edges @10% | bits @10% ↓ | \
f @10% ↑ | KL @10% ↓ | accuracy @10% ↑ | cost | seeds |
| 1 | worse | 0.297 ±0.004 | 0.693 ±0.004 | 0.530 ±0.004 | ≤ 200 / 200 / 200 | 20 | 90.4 | \
0.394 ±0.009 | 0.602 ±0.000 | 0.875 ±0.100 | 1.05 | 1/1 |
| – | best | 0.053 ±0.004 | 0.937 ±0.004 | 0.108 ±0.004 | ≤ 20 / 100 / 200 | 20 | 90.4 | \
0.888 ±0.007 | 0.109 ±0.000 | 0.975 ±0.038 | 1.05 | 1/2 (1 failed) |
| | whole model | | | | | 200 | 0.0 | 1.000 ±0.000 | 0.000 ±0.000 | 1.000 ±0.000 | | |
| | empty circuit | | | | | 0 | 0.0 | 0.000 ±0.000 | 1.000 ±0.000 | 0.000 ±0.000 | | |
| | control (control) | 0.466 ±0.004 | 0.524 ±0.004 | 0.734 ±0.004 | ≤ 200 / 200 / 200 | 20 \
| 90.4 | 0.125 ±0.008 | 0.874 ±0.000 | 0.050 ±0.062 | 1.05 | 1/1 |
"""


def beside(tmp_path: Path) -> Leaderboard:
    """Edges of a task's model, and channels of another model that are fewer and more in all."""
    board = leaderboard(stored(tmp_path / "run", [cell_of("worse"), cell_of("best")]))
    (edges,) = board.boards
    choices = {**edges.facts["choices"], "granularity": "channel", "ablation": "mean_training"}
    facts = {**edges.facts, "unit": "channels", "total": 1472, "choices": choices}
    lines = tuple(
        replace(one, reach={**one.reach, "0.95": size}, reach_from="ranking") if one.reach else one
        for one, size in zip(edges.lines, (12, 1400, 0, 0), strict=True)
    )
    channels = replace(edges, model="sparse", facts=facts, lines=lines)
    other = replace(edges, task="other")
    return replace(board, boards=(edges, channels, other))


def test_circuits_of_other_elements_stand_side_by_side_by_bits(tmp_path: Path) -> None:
    tables = side_by_side(beside(tmp_path).boards)
    assert [table.title for table in tables] == ["toy: edges and channels"]
    (table,) = tables
    rows = [dict(zip(table.headers, line, strict=True)) for line in table.lines]
    by_place = {(row["circuits of"], row["method"]): row for row in rows}
    best = by_place["edges of toy", "best"]
    assert (best["elements"], best["reaches"]) == ("≤ 100", "f≥0.95")
    assert best["bits ↓"] == f"≤ {log2(comb(200, 100)):.1f}"
    sparse = by_place["channels of sparse", "best"]
    assert (sparse["elements"], sparse["bits ↓"]) == ("12", f"{log2(comb(1472, 12)):.1f}")
    assert (best["ablation"], sparse["ablation"]) == ("interchange", "mean_training")
    assert "f ↑" not in table.headers  # not at this size, on a grid
    # The whole model is no small circuit, although it takes no bits to name.
    assert [row["method"] for row in rows[:2]] == ["best", "worse"]
    assert (rows[1]["elements"], rows[1]["bits ↓"]) == ("all 200", "–")
    # Nor is one that is named in few bits by the few elements that it lacks.
    assert [(row["elements"], row["bits ↓"]) for row in rows[3:]] == [("1400", "–")]
    assert "weights" not in table.headers  # nothing has any


def test_what_tells_circuits_of_the_same_elements_apart_is_said(tmp_path: Path) -> None:
    edges, channels, _ = beside(tmp_path).boards
    start = "granularity feature, dictionary "
    variants = [f"{start}wide, counts (1, 2)", f"{start}wide, ablation zero, counts (1, 2)"]
    variants += [f"{start}wide, component without_errors, ablation zero", f"{start}small"]
    same = [replace(channels, variant=one) for one in variants]
    (table,) = side_by_side([edges, *same])
    assert list(dict.fromkeys(line[0] for line in table.lines)) == [
        "edges of toy",
        "channels of sparse: wide",
        "channels of sparse: wide, zero",
        "channels of sparse: wide, without_errors, zero",
        "channels of sparse: small",
    ]
    # What they share tells nothing.
    (table,) = side_by_side([edges, *same[:2]])
    names = {"edges of toy", "channels of sparse", "channels of sparse: zero"}
    assert {line[0] for line in table.lines} == names


@pytest.mark.parametrize("width", [80, 100, 200])
def test_the_table_of_both_fits_the_window(tmp_path: Path, width: int) -> None:
    board = beside(tmp_path)
    text = render(board, "github", Layout(width=width))
    lines = text[text.index("### toy: edges and channels") :].splitlines()
    assert max(map(columns_wide, lines)) <= width
    assert ("| ablation" in text) == (width > 80)
    assert "compared by bits" in " ".join(lines)
    alone = replace(board, boards=board.boards[:1])
    assert "compared by bits" not in render(alone, "github", Layout(width=width))


USUAL = """\
### toy

n = 40 test pairs, 200 edges, metric logit_diff; accuracy of the model: test 1.000 ±0.000.
Circuits: ablation interchange, positions all.

| # | method            |       CMD ↓ | f≥.95 ↓ |    f @10% ↑ |   KL @10% ↓ | cost | seeds |
|---|-------------------|------------:|--------:|------------:|------------:|-----:|-------|
| 1 | worse             | 0.297 ±.004 |   ≤ 200 | 0.394 ±.009 | 0.602 ±.000 | 1.05 | 1/1   |
| – | best              | 0.053 ±.004 |   ≤ 100 | 0.888 ±.007 | 0.109 ±.000 | 1.05 | 1/2   |
|   | whole model       |             |         | 1.000 ±.000 | 0.000 ±.000 |      |       |
|   | empty circuit     |             |         | 0.000 ±.000 | 1.000 ±.000 |      |       |
|   | control (control) | 0.466 ±.004 |   ≤ 200 | 0.125 ±.008 | 0.874 ±.000 | 1.05 | 1/1   |

best: 1 failed.

± is half the width of the 95 % bootstrap interval over examples (and seeds, where there are
several); ≈ marks methods whose CMD intervals overlap that of the best of their group; f is
faithfulness; f≥x is the size of the smallest circuit that reaches it (– if none does; ≤ if it is
only the smallest measured one, where a method has no single ranking); @ is the share of elements
asked for; cost is in plain forward+backward passes of the same model, by processor time. More
columns: --wide, or --columns with names.
"""


@pytest.fixture
def board(tmp_path: Path) -> Leaderboard:
    done = [cell_of(m) for m in ("best", "worse", "control")]
    return leaderboard(stored(tmp_path / "run", done, [cell_of("best", seed=1)]))


def squeezed(text: str) -> str:
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return "\n".join(line for line in lines if not line.startswith(("|--", "|:-", "± is")))


def test_github_table_is_golden(board: Leaderboard) -> None:
    assert squeezed(render(board, "github")).strip() == GOLDEN.strip()


def test_the_usual_table_is_golden(board: Leaderboard) -> None:
    assert render(board, "github", Layout()) == USUAL


def widest(text: str) -> int:
    return max(len(line) for line in text.splitlines())


@pytest.mark.parametrize("width", [100, 80, 60])
@pytest.mark.parametrize("method", ["eap", "uniform_gradient_sampling", "m" * 63])
def test_the_usual_table_fits(tmp_path: Path, width: int, method: str) -> None:
    cell = cell_of("best")
    cells = stored(tmp_path / "run", [replace(cell, method=replace(cell.method, name=method))])
    text = render(leaderboard(cells), "github", Layout(width=width))
    assert widest(text) <= width
    assert ("Left out to fit" in text) == (width < 100 or len(method) > 25)
    columns = next(line for line in text.splitlines() if line.startswith("| #"))
    assert "CMD ↓" in columns
    assert "f @10% ↑" in columns


def test_the_table_of_the_headline_methods_keeps_every_usual_column(tmp_path: Path) -> None:
    cells = [replace(cell_of("best"), method=a_method("activation_patching", good=0.9))]
    cells += [replace(cell_of("control"), method=a_method("random_paths", good=0.1))]
    text = render(leaderboard(stored(tmp_path / "run", cells)), "github", Layout())
    assert "Left out" not in text
    assert "random_paths (control)" in text
    assert widest(text) <= 100


def test_columns_are_those_asked_for(board: Leaderboard) -> None:
    layout = Layout(columns=("method", "cpr_log", "size_at_0.85", "seeds", "prob_diff"))
    head = render(board, "github", layout).split("\n\n")[2].splitlines()[0]
    assert [cell.strip() for cell in head.strip("|").split("|")] == [
        "method",
        "CPR log ↑",
        "f≥.85 ↓",
        "seeds",
    ]
    with pytest.raises(NotFound, match="no column 'cdm'; columns are rank, method, cmd"):
        Layout(columns=("cdm",))


def test_every_name_of_a_column_is_one(board: Leaderboard) -> None:
    one = board.boards[0]
    assert one.facts is not None
    evaluation = {"measures": [n for n in NAMES if n in MEASURES and MEASURES[n].roles]}
    identity = {**one.facts["identity"], "task": {"evaluation": evaluation}}
    rich = replace(one, facts={**one.facts, "identity": identity})
    extra = set(names("extra")) & set(evaluation["measures"])
    columns, _ = columns_for(rich, Layout(columns=NAMES))
    assert {column.name for column in columns} == set(NAMES)
    assert extra == set(names("extra"))


def test_choices_that_are_defaults_are_not_repeated(board: Leaderboard) -> None:
    one = board.boards[0]
    assert one.facts is not None
    other = {**one.facts["choices"], "inputs": "none"}
    changed = replace(one, facts={**one.facts, "choices": other})
    text = render(replace(board, boards=(changed,)), "github", Layout())
    assert "Circuits: ablation interchange, positions all, inputs none." in text
    older = {name: x for name, x in other.items() if name in ("ablation", "positions")}
    changed = replace(one, facts={**one.facts, "choices": older})  # stored before the others were
    assert "Circuits: ablation interchange, positions all." in caption(changed)


def test_sizes_that_ask_for_nothing_are_said_and_not_shown(tmp_path: Path) -> None:
    """Ten sizes of eight edges: eight ask for none, so that 10 % would show empty circuits."""
    sizes = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.12, 0.5, 1.0)
    cell = a_cell(a_task(evaluation=replace(a_task().evaluation, sizes=sizes)))
    computed = output(cell)
    curve = [
        {**point, "requested": int(8 * size)}
        for size, point in zip(sizes, computed.result["curve"], strict=True)
    ]
    record(tmp_path, Plan("run", (cell,)))
    CellStore(tmp_path).publish(
        cell.id, replace(computed, result=computed.result | {"curve": curve}), {}
    )
    (board,) = leaderboard(load_cells(tmp_path), size=0.1).boards
    assert board.at_size == 0.5
    assert "8 of 10 sizes ask for none of the edges; CMD counts their empty circuits." in (
        caption(board)
    )


def test_wall_time_stands_beside_processor_time(board: Leaderboard) -> None:
    one = board.boards[0]
    measured = [
        replace(line, cost_fb=2.37, cost_fb_wall=23.0, busy=True) if line.method == "best" else line
        for line in one.lines
    ]
    both = replace(board, boards=(replace(one, lines=tuple(measured)),))
    usual, wide = (render(both, "github", layout) for layout in (Layout(), WIDE))
    assert "| 2.37† |" in usual
    assert "| 23.00 |" in " ".join(wide.split())
    for text in (usual, wide):
        assert "† marks costs for which wall time says something else" in " ".join(text.split())
        assert "Cost of worse, control is wall time" in text
    assert "†" not in render(board, "github", Layout())


def test_a_cost_below_what_can_be_measured_is_zero(board: Leaderboard) -> None:
    one = board.boards[0]
    lines = tuple(replace(line, cost_fb=-0.002, cost_fb_wall=None) for line in one.lines)
    text = render(replace(board, boards=(replace(one, lines=lines),)), "github", Layout())
    assert "-0.00" not in text
    assert "| 0.00 |" in " ".join(text.split())


def test_a_task_that_the_model_does_not_solve_is_marked(board: Leaderboard) -> None:
    one = board.boards[0]
    assert one.facts is not None
    weak = {"accuracy": {"value": 0.4, "low": 0.3, "high": 0.5}}
    facts = {**one.facts, "model_quality": {"test": weak}}
    text = render(replace(board, boards=(replace(one, facts=facts),)), "github")
    assert "does not solve this task" in text
    assert "does not solve this task" not in render(board, "github")


@pytest.mark.parametrize(("name", "numbers"), [("xproportion", True), ("reverse", False)])
def test_accuracy_says_nothing_about_answers_that_are_numbers(
    board: Leaderboard, name: str, numbers: bool
) -> None:
    """A stored task says itself what its answers are; its accuracy is no lack of the model."""
    one = board.boards[0]
    assert one.facts is not None
    identity = one.facts["identity"]
    data = identity_fields(Library().task(name).spec.data)
    facts = {
        **one.facts,
        "identity": {**identity, "task": {**identity["task"], "data": data}},
        "model_quality": {"test": {"accuracy": {"value": 0.7, "low": 0.6, "high": 0.8}}},
    }
    text = render(replace(board, boards=(replace(one, facts=facts),)), "github")
    assert ("does not solve this task" in text) is not numbers
    assert ("accuracy of the model: test 0.700" in text) is not numbers
    assert ("the answers are numbers, so accuracies mean nothing." in text) is numbers


def test_json_and_csv_keep_every_digit(board: Leaderboard) -> None:
    line = board.boards[0].lines[0]
    assert line.areas is not None
    data = json.loads(render(board, "json"))
    assert data["boards"][0]["lines"][0]["cmd"] == line.areas["cmd"].value
    records = list(csv.DictReader(io.StringIO(render(board, "csv"))))
    assert float(records[0]["cmd"]) == line.areas["cmd"].value
    assert float(records[0]["cmd_low"]) == line.areas["cmd"].low
    assert [r["kind"] for r in records] == ["method", "method", "whole", "empty", "control"]
    assert data == json.loads(json.dumps(as_data(board)))


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_results_give_the_same_bytes(tmp_path: Path, form: str) -> None:
    save(tmp_path / "run", [cell_of("best"), cell_of("worse", task="other")])
    texts = {render(leaderboard(load_cells(tmp_path / "run")), form) for _ in range(2)}  # type: ignore[arg-type]
    assert len(texts) == 1
    assert texts.pop().endswith("\n")


@pytest.mark.parametrize("form", FORMATS)
def test_no_results_is_no_crash(form: str) -> None:
    assert render(leaderboard([]), form)  # type: ignore[arg-type]


def test_rows_have_the_contracts_columns(tmp_path: Path) -> None:
    cells = stored(tmp_path / "run", [cell_of("best")], [cell_of("worse")])
    assert list(json.loads(render_rows(cells, "json"))[0]) == list(COLUMNS)
    records = list(csv.DictReader(io.StringIO(render_rows(cells, "csv"))))
    assert list(records[0]) == list(COLUMNS)
    assert records[-1]["status"] == "failed"
    assert records[-1]["cmd"] == ""
    assert render_rows(cells, "github").startswith("| task")


def test_mean_rank_is_shown_for_several_tasks(tmp_path: Path) -> None:
    done = [cell_of(m, task=t) for t in ("one", "two") for m in ("best", "worse")]
    text = render(leaderboard(stored(tmp_path / "run", done)), "github")
    assert "### Mean rank" in text
    assert "| best     | 1.00          | 2/2     |" in text


def test_smoke_and_model_stand_in_the_title(tmp_path: Path) -> None:
    done = [cell_of("best", limit=8), replace(cell_of("best"), model_name="gpt")]
    text = render(leaderboard(stored(tmp_path / "run", done)), "github")
    assert "### toy (smoke run, limit 8: not ranked)" in text
    assert "### toy on gpt" in text


# ---------------------------------------------------------------- names that mean harm
EVIL = "<script>alert(1)</script>|`*\x1b[31m\u202e&\\_%\r\n"


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def evil(tmp_path: Path) -> Leaderboard:
    cell = cell_of("best")
    method = replace(cell.method, name=EVIL)
    return leaderboard(stored(tmp_path / "run", [replace(cell, method=method, model_name=EVIL)]))


@pytest.mark.parametrize("form", FORMATS)
def test_control_characters_never_reach_the_terminal(evil: Leaderboard, form: str) -> None:
    text = render(evil, form)  # type: ignore[arg-type]
    assert not {"\x1b", "\r", "\u202e"} & set(text)


def test_names_are_text_in_html(evil: Leaderboard) -> None:
    page = Tags()
    page.feed(render(evil, "html"))
    assert "script" not in page.tags
    assert "<script>alert(1)</script>" in page.text


def test_names_do_not_break_a_markdown_table(evil: Leaderboard) -> None:
    text = render(evil, "github")
    assert "<script>" not in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    bars = {line.replace("\\|", "").count("|") for line in lines}
    assert bars == {14}


def test_latex_escapes_and_signs() -> None:
    assert latex("50% of a_b & {c} ↑") == r"50\% of a\_b \& \{c\} $\uparrow$"
    assert latex("\\") == r"\textbackslash{}"


def test_markdown_leaves_plain_names_alone() -> None:
    assert markdown("eap_ig 10% ≥0.9") == "eap_ig 10% ≥0.9"


def test_grid_of_nothing() -> None:
    assert grid(["a", "b"], [], "github").startswith("| a")


def test_plus_minus() -> None:
    assert plus_minus(0.1234, 0.005) == "0.123 ±0.005"
    assert plus_minus(0.1234, None) == "0.123"
    assert plus_minus(None, None) == ""
    assert plus_minus(0.1234, 0.005, compact=True) == "0.123 ±.005"
    assert plus_minus(10.176, 0.206, compact=True) == "10.18 ±.21"
    assert plus_minus(-1234.5, 99.6, compact=True) == "-1234 ±100"


def test_names_are_cut_in_the_middle() -> None:
    assert elided("eap_ig", 6) == "eap_ig"
    assert elided("activation_patching", 10) == "activ…hing"
    assert columns_wide("漢字 e\u0301") == 6

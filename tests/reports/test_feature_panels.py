"""Panels of features as SVG, of tasks with other boards than Othello's, and with none."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import asdict
from typing import Any

from harness.datasets.concepts import ConceptFamily
from harness.reports.screens.boards import panel_svg
from harness.reports.screens.examples import BoardSigns, last_tokens

SVG = "{http://www.w3.org/2000/svg}"
CELLS = (0, 1, 2, 3)
BOARD = (
    ConceptFamily("ours", ("p ours", "q ours", "r ours", "s ours"), CELLS, True, "others"),
    ConceptFamily("others", ("p others", "q others", "r others", "s others"), CELLS, True, "ours"),
    ConceptFamily("free", ("p free", "q free", "r free", "s free"), CELLS),
    ConceptFamily("latest", ("q latest", "r latest"), (1, 2)),
    ConceptFamily("next", ("p next", "s next"), (0, 3), board=True),
    ConceptFamily("time", ("early", "late")),
)
SPOKEN = (ConceptFamily("depth", ("depth <1>", "depth 2")), ConceptFamily("time", ("early",)))


def example(families: Any, true: set[str], tokens: list[str]) -> dict[str, Any]:
    concepts = {one.name: [each for each in one.concepts if each in true] for one in families}
    position = len(tokens) - 1
    return {"strength": 2.5, "position": position, "tokens": tokens, "concepts": concepts}


def panel(families: Any, examples: list[Any], **more: Any) -> dict[str, Any]:
    return {
        "site": "m1.out",
        "feature": 7,
        "label": None,
        "name": "",
        "tokens": 40,
        "mean_strength": 1.5,
        "active": 0.25,
        "share": {one.name: [0.75] * len(one.concepts) for one in families},
        "base": {one.name: [0.25] * (len(one.concepts) - 1) + [0.0] for one in families},
        "positions": [10, 30],
        "examples": examples,
        **more,
    }


def drawn(families: Any, size: int | None, examples: list[Any], **more: Any) -> ET.Element:
    report = {"families": [asdict(one) for one in families], "board_size": size}
    return ET.fromstring(panel_svg(panel(families, examples, **more), report))


def texts(drawing: ET.Element) -> list[str]:
    return ["".join(one.itertext()) for one in drawing.iter(f"{SVG}text")]


def titles(drawing: ET.Element) -> list[str]:
    return [one.text or "" for one in drawing.iter(f"{SVG}title")]


def places(marks: list[ET.Element], top: float) -> list[int]:
    """Of 2 by 2 cells of 18 pixels, from `top` down, those that hold each mark."""
    corners = [(one.get("cx") or one.get("x"), one.get("cy") or one.get("y")) for one in marks]
    return [
        int((float(x or 0) - 22) // 18) + 2 * int((float(y or 0) - top) // 18) for x, y in corners
    ]


def test_a_board_shows_discs_the_move_and_what_comes_next() -> None:
    true = {"q ours", "r others", "s free", "p free", "q latest", "p next", "s next", "late"}
    drawing = drawn(BOARD, 2, [example(BOARD, true, ["p", "q"])])
    (group,) = drawing.findall(f"{SVG}g[@class='example']")
    squares = [one for one in group.findall(f"{SVG}rect") if one.get("fill") == "#eee"]
    assert len(squares) == 4
    top = float(squares[0].get("y", 0))
    assert places(squares, top) == [0, 1, 2, 3]
    circles = group.findall(f"{SVG}circle")
    assert places(circles, top) == [0, 1, 2, 3]
    assert [one.get("fill") for one in circles] == ["#777", "#333", "white", "#777"]
    frames = [one for one in group.findall(f"{SVG}rect") if one.get("fill") == "none"]
    assert places(frames, top) == [1]
    assert texts(group) == ["2.50 at 1", "p q", "late"]
    legend = "strongest tokens of sequences (filled: ours, open: others, dot: next, framed: latest)"
    assert legend in texts(drawing)
    assert any(one.startswith("2.50 at 1: p q; q ours, r others, p free") for one in titles(group))


def test_cells_that_were_overturned_are_not_framed() -> None:
    turned = ConceptFamily("turned", ("p turned",), (0,))
    changing = ConceptFamily("ours", ("p ours",), (0,), True, "others", "turned")
    signs = BoardSigns([asdict(one) for one in (turned, changing, BOARD[1], BOARD[3])])
    assert (signs.filled, signs.open, signs.framed) == (["ours"], ["others"], ["latest"])


def test_a_board_without_discs_has_dots_and_frames() -> None:
    families = (BOARD[4], BOARD[3])
    drawing = drawn(families, 2, [example(families, {"p next", "r latest"}, ["x"])])
    (group,) = drawing.findall(f"{SVG}g[@class='example']")
    assert len(group.findall(f"{SVG}circle")) == 1
    assert len([one for one in group.findall(f"{SVG}rect") if one.get("fill") == "none"]) == 1


def test_without_a_board_there_are_lines_of_text() -> None:
    tokens = [f"word{at}" for at in range(80)] + ["<a>\x00", "&"]
    examples = [example(SPOKEN, {"depth <1>"}, tokens), example(SPOKEN, set(), ["a"])]
    drawing = drawn(SPOKEN, None, examples, name="~depth 2 (0.40)")
    groups = drawing.findall(f"{SVG}g[@class='example']")
    assert len(groups) == 2
    assert not any(list(one.iter(f"{SVG}rect")) for one in groups)
    first, true = texts(groups[0])
    assert first.startswith("2.50 at 81: … word")
    assert first.endswith("<a>\\x00 &")
    assert true == "depth <1>"
    assert texts(groups[1]) == ["2.50 at 0: a", "no concept is true"]
    assert "word0 " in titles(groups[0])[0]
    assert "m1.out.7: ~depth 2 (0.40)" in texts(drawing)
    lowest = max(float(one.get("y", 0)) for one in groups[1].iter(f"{SVG}text"))
    assert lowest < float(drawing.get("height", 0))


def test_what_is_true_of_no_cell_is_written_with_its_lift() -> None:
    drawing = drawn(SPOKEN, None, [])
    (line,) = [one for one in drawing.iter(f"{SVG}text") if (one[0:] and "depth" in one[0].tail)]
    assert line[0].tail == "depth: depth 2 75% (of all 0%), depth <1> 75% (of all 25%)"
    assert line[0].text == "depth 2: 75%, of all 0%; depth <1>: 75%, of all 25%, lift 3.00"
    board = drawn(BOARD, 2, [])
    assert "p ours: 75%, of all 25%, lift 3.00" in titles(board)
    assert any(one.endswith("late 75% (of all 0%), early 75% (of all 25%)") for one in texts(board))


def test_a_feature_that_is_never_active_has_no_boards() -> None:
    drawing = drawn(BOARD, 2, [], tokens=0, positions=[])
    assert len(list(drawing.iter(f"{SVG}rect"))) == 1
    assert "m1.out.7" in texts(drawing)


def test_the_last_tokens_of_a_sequence() -> None:
    one = {"tokens": ["aa", "bb", "cc"]}
    assert last_tokens(one, 8) == "aa bb cc"
    assert last_tokens(one, 7) == "… bb cc"
    assert last_tokens(one, 1) == "… cc"

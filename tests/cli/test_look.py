"""`harness look`: prompts token by token, and what the model expects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import harness as api
from harness.datasets.tokenizers.file import FileTokenizer
from harness.models.checkpoint import load_model
from harness.reports.screens.columns import LONGEST, blocks, cells, token
from harness.runs.prompts.words import token_text

FILE_TASK = """\
spec_version: 1
name: said
title: Rows of one's own
tokenizer: {kind: characters}
data: {kind: file, path: said.jsonl, columns: {good: good, bad: bad}}
evaluation: {ablation: interchange, positions: all, discovery_pairs: 2, test_pairs: 2}
model:
  kind: train
  architecture: {n_layers: 1, n_heads: 1, d_model: 8}
  training: {objective: answer, steps: 1}
"""


def report(harness: Any, *arguments: str) -> Any:
    return json.loads(harness("look", *arguments, "--json").stdout)


def test_pairs_are_shown_as_they_are_measured(harness: Any) -> None:
    shown = report(harness, "toy", "--pairs", "4")
    task = api.load_task("toy")
    pairs, tokens = api.prompt_pairs(task), task.data.tokenizer.tokens
    assert shown["n_pairs"] == len(pairs) == 40
    assert [pair["row"] for pair in shown["pairs"]] == [0, 1, 2, 3]
    for row, pair in enumerate(shown["pairs"]):
        length = int(pairs.lengths[row])
        for name in ("clean", "corrupted"):
            ids = getattr(pairs, name)[row]
            assert pair[name] == [tokens[int(ids[at])] for at in range(length)]
        apart = [at for at in range(length) if pairs.clean[row, at] != pairs.corrupted[row, at]]
        assert pair["differ"] == apart != []
        (read,) = pair["reads"]
        assert read["at"] == int(pairs.positions[row, 0])
        for name in ("good", "bad"):
            answers = getattr(pairs, name)[row, 0]
            assert read[name] == [tokens[int(one)] for one in answers if one >= 0]


def test_marks_stand_under_their_tokens(harness: Any) -> None:
    text = harness("look", "toy", "--pairs", "1").stdout
    (pair,) = report(harness, "toy", "--pairs", "1")["pairs"]
    lines = text.splitlines()
    at = next(line for line in lines if line.startswith("  at "))
    clean, corrupted, marks = lines[lines.index(at) + 1 : lines.index(at) + 4]
    starts = [at.index(f" {place} ") + 1 for place in range(len(pair["clean"]) - 1)]
    starts.append(at.rindex(" ") + 1)
    for place, start in enumerate(starts):
        assert clean[start:].startswith(pair["clean"][place])
        assert corrupted[start:].startswith(pair["corrupted"][place])
        mark = marks[start : start + 2].split(" ")[0]
        assert ("≠" in mark) == (place in pair["differ"])
        assert ("▲" in mark) == (place == pair["reads"][0]["at"])


def test_a_model_that_is_not_there_is_said_and_not_trained(harness: Any) -> None:
    result = harness("look", "toy")
    assert "model model-toy is not trained yet" in result.stderr
    assert "--train" in result.stderr
    assert not list(Path().glob("results/models/*/config.json"))
    assert "rank" not in result.stdout


def test_guesses_are_those_of_the_model(harness: Any) -> None:
    shown = report(harness, "toy", "--train")
    task = api.load_task("toy")
    pairs, tokens = api.prompt_pairs(task), task.data.tokenizer.tokens
    (folder,) = (path.parent for path in Path("results/models").glob("*/config.json"))
    model = load_model(folder)
    for row, pair in enumerate(shown["pairs"]):
        (read,) = pair["reads"]
        for name in ("clean", "corrupted"):
            ids = torch.from_numpy(
                getattr(pairs, name)[row : row + 1, : pairs.lengths[row]].astype(int)
            )
            shares = model(ids)[0, read["at"]].double().softmax(-1)
            order = shares.argsort(descending=True).tolist()
            assert [one["token"] for one in read[name]["top"]] == [tokens[i] for i in order[:5]]
            right = int(pairs.good[row, 0, 0])
            assert read[name]["rank"] == order.index(right) + 1
            assert read[name]["probability"] == pytest.approx(float(shares[right]), abs=1e-6)
            said = {one["token"]: one["answer"] for one in read[name]["top"]}
            for text, answer in said.items():
                wanted = "right" if text in read["good"] else None
                assert answer == ("wrong" if text in read["bad"] else wanted)
    text = harness("look", "toy").stdout  # now it is there
    assert "corruption moves logit_diff by" in text
    assert shown["verdict"]["text"] in " ".join(text.split())
    assert "rank" in text


def test_control_characters_do_not_reach_the_terminal(harness: Any) -> None:
    harness.write("tasks/said.yaml", FILE_TASK)
    rows = [
        {"clean": f"a\x1b[2J{i}", "corrupted": f"b\x1b[2J{i}", "good": "a", "bad": "\u202e"}
        for i in range(120)
    ]
    harness.write("tasks/said.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    text = harness("look", "said", "--split", "train", "--pairs", "1").stdout
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\\x1b" in text
    assert "\\u202e" in text


def test_what_is_left_of_a_sparse_model(harness: Any) -> None:
    sparsity = "  sparsity: {nonzero_fraction: 0.25, anneal: {start: 0, end: 0.5}}\n"
    harness.write("tasks/said.yaml", FILE_TASK.replace("steps: 1", "steps: 4") + sparsity)
    rows = [{"clean": f"a{i:03}", "corrupted": f"b{i:03}", "good": "a"} for i in range(120)]
    harness.write(
        "tasks/said.jsonl", "".join(json.dumps(row | {"bad": "b"}) + "\n" for row in rows)
    )
    training = report(harness, "said", "--train", "--pairs", "1")["training"]
    (folder,) = (path.parent for path in Path("results/models").glob("*/config.json"))
    weights = dict(load_model(folder).named_parameters())
    sparse = {n: w for n, w in weights.items() if w.ndim == 2}
    left = {name: int(weight.count_nonzero()) for name, weight in sparse.items()}
    assert training["step"] == 4
    assert training["entries"] == sum(weight.numel() for weight in sparse.values())
    assert training["nonzeros"] == sum(left.values())
    assert all(left[name] <= weight.numel() // 4 for name, weight in sparse.items())
    note = json.loads((folder / "training.json").read_text())
    assert note["history"][-1]["tensors"] == left
    assert {name: budget["nonzeros"] for name, budget in note["budgets"].items()} == {
        name: weight.numel() // 4 for name, weight in sparse.items()
    }
    said = harness("look", "said", "--pairs", "1").stdout
    wanted = f"{training['nonzeros']:,} of {training['entries']:,} weights are not zero"
    assert f"trained for 4 steps, held-out loss {training['loss']:.4f}, " in said
    assert wanted in said.replace("\n", " ")


def test_answers_that_are_classes(harness: Any) -> None:
    """Their ids are places in the task's `answers`, not tokens; and they may be read first."""
    classes = 'answers: ["one", "other"]\n'
    text = FILE_TASK.replace("tokenizer:", f"{classes}tokenizer:").replace(
        "name: said", "name: classed"
    )
    columns = "columns: {good: good, bad: bad, position: at}"
    text = text.replace("columns: {good: good, bad: bad}", columns)
    harness.write("tasks/classed.yaml", text)
    rows = [
        {"clean": f"a{i:03}", "corrupted": f"b{i:03}", "good": "one", "bad": "other", "at": 0}
        for i in range(120)
    ]
    harness.write("tasks/said.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    shown = report(harness, "classed", "--train", "--pairs", "2")
    for pair in shown["pairs"]:
        (read,) = pair["reads"]
        assert (read["at"], read["good"], read["bad"]) == (0, ["one"], ["other"])
        for name in ("clean", "corrupted"):
            said = {one["token"]: one["answer"] for one in read[name]["top"]}
            assert said == {"one": "right", "other": "wrong"}
            assert sum(one["probability"] for one in read[name]["top"]) == pytest.approx(1)
    assert shown["verdict"] is not None


def test_answers_that_are_numbers(harness: Any) -> None:
    """A compiled program needs no training, and its one logit is the answer."""
    shown = report(harness, "known/xproportion", "--pairs", "2")
    assert shown["answers_are_numbers"]
    for pair in shown["pairs"]:
        for read in pair["reads"]:
            for name in ("clean", "corrupted"):
                before = pair[name][1 : read["at"] + 1]  # after BOS
                share = before.count("x") / len(before)
                assert read[name]["number"] == pytest.approx(share, abs=1e-4)
    assert "rank" not in harness("look", "known/xproportion", "--pairs", "1").stdout


@pytest.mark.parametrize("width", [80, 100, 200])
def test_no_line_is_wider_than_the_window(
    harness: Any, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setattr("harness.cli.options.window", lambda: width)
    for task in ("greater_than", "boolean_few_shot"):
        text = harness("look", task, "--pairs", "2").stdout
        assert max(map(cells, text.splitlines())) <= width


def test_what_is_not_there_is_refused(harness: Any) -> None:
    assert "unknown split 'tset'" in harness("look", "toy", "--split", "tset", code=2).stderr
    assert "toyy" in harness("look", "toyy", code=2).stderr


def test_tokens_of_a_file_read_as_text(tmp_path: Path) -> None:
    """With the space before them, whichever sign the file has for it."""
    import tokenizers as library
    from tokenizers import decoders, models, pre_tokenizers

    for sign, pre, decoder in (
        ("Ġ", pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()),
        ("▁", pre_tokenizers.Metaspace(), decoders.Metaspace()),
    ):
        words = {"<s>": 0, "to": 1, f"{sign}Mary": 2, "Ċ": 3, "Ã": 4}
        made = library.Tokenizer(models.WordLevel(words, unk_token="<s>"))
        made.pre_tokenizer, made.decoder = pre, decoder
        path = tmp_path / f"{ord(sign)}.json"
        made.save(str(path))
        tokenizer = FileTokenizer(path, False)
        assert [token_text(tokenizer, one) for one in range(3)] == ["<s>", "to", " Mary"]
        if sign == "Ġ":
            assert token_text(tokenizer, 3) == "\n"
            assert token_text(tokenizer, 4) == "Ã"  # half of a letter: as in the file
    assert [token(text) for text in (" Mary", "to", "\n", "  ", "")] == [
        "␣Mary",
        "to",
        "\\n",
        "␣␣",
        "''",
    ]


# ---------------------------------------------------------------- columns
texts = st.text(max_size=40)


@settings(max_examples=50)
@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=30), st.integers(20, 120))
def test_blocks_hold_all_columns_in_order(columns: list[tuple[str, str]], width: int) -> None:
    rows = [[token(text).replace(" ", "_") for text in row] for row in zip(*columns, strict=True)]
    heads = ["one", "two"]
    seen: list[list[str]] = [[], []]
    widest = max(cells(text) for row in rows for text in row)
    for block in blocks(rows, heads, width):
        for place, line in enumerate(block):
            assert line.startswith(heads[place])
            assert cells(line) <= max(width, widest + 6)
            seen[place] += line[5:].split()
    assert seen == rows


@given(texts)
def test_a_token_is_one_visible_short_word(text: str) -> None:
    shown = token(text)
    assert shown
    assert cells(shown) <= LONGEST
    assert not shown.startswith(" ")
    assert not shown.endswith(" ")
    assert all(ord(character) >= 32 for character in shown)


def test_whole_games_are_measured(measuring: Any) -> None:
    text = measuring.task("games").read_text()
    data = "data: {kind: generator, generator: othello, seed: 0, params: {min_ply: 8}}\n"
    start, end = text.index("data:"), text.index("evaluation:")
    text = f"{text[:start]}{data}{text[end:]}".replace("characters, bos: true", "moves")
    measuring.write("tasks/games.yaml", text)
    asked = ("look", "games", "--train", "--pairs", "1", "--sequences", "20")
    report = json.loads(measuring(*asked, "--json").stdout)["sequences"]
    assert report["n"] == 20
    assert 0 < report["parts"]["all"]["allowed_mass"]["value"] < 1
    assert len(report["curve"]) == 31
    assert "the last 10" in measuring(*asked).stdout
    refused = measuring("look", "toy", "--train", "--sequences", "5", code=2).stderr
    assert "has no sequences with every right next token" in refused

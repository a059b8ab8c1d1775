"""The suite `mib`, with small random models in place of those that a user brings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support.word_tokenizer import BOS, write_tokenizer

from harness.circuits.edges.graph import Graph
from harness.circuits.edges.space import EdgeSpace
from harness.circuits.files import load_circuit
from harness.datasets.locate import VARIABLE
from harness.models.checkpoint import save_model
from harness.models.config import TransformerConfig
from harness.models.transformer import random_model
from harness.runs.services.export import MIB_LIMITS
from harness.spec.load import shipped_root

FOLDERS = {"ioi_gpt2", "ioi_qwen2.5", "mcqa_qwen2.5"}


@pytest.fixture
def brought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GPT-2 and Qwen in full, of Gemma the tokenizer alone, of Llama nothing."""
    folder = tmp_path / "files"
    for name in ("gpt2", "Qwen2.5-0.5B", "gemma-2-2b"):
        bos = "<|endoftext|>" if name.startswith("Qwen") else BOS
        size = write_tokenizer(folder / "models" / name / "tokenizer.json", words(), bos=bos)
    for name, groups in (("gpt2", None), ("Qwen2.5-0.5B", 2)):
        config = TransformerConfig(
            n_layers=2,
            n_heads=4,
            n_key_value_heads=groups,
            d_model=16,
            d_head=4,
            d_mlp=16,
            d_vocab=size,
            n_ctx=80,
        )
        save_model(random_model(config, seed=0), folder / "models" / name)
    monkeypatch.setenv(VARIABLE, str(folder))
    monkeypatch.setattr("harness.runs.compute.cell.QUALITY_PAIRS", 16)


def words() -> list[str]:
    """All words of the tasks, and more."""
    folder = shipped_root() / "tasks" / "mib"
    text = " ".join(path.read_text() for path in sorted(folder.iterdir()))
    return "".join(letter if letter.isalpha() else " " for letter in text).split()


def small_suite(harness: Any) -> None:
    """The shipped suite with few pairs and no controls."""
    text = (shipped_root() / "specs" / "suites" / "mib.yaml").read_text()
    text = text.replace("name: mib\n", "name: little\n")
    text = text.replace("controls: [random, random_paths]\n", "controls: []\n")
    few = "evaluations: [{discovery_pairs: 12, test_pairs: 12}]\n"
    harness.write("specs/suites/little.yaml", text + few)


def notes(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if line.startswith("left out ")]


@pytest.mark.slow
@pytest.mark.usefixtures("brought")
def test_the_suite_runs_what_has_files_and_becomes_a_submission(measuring: Any) -> None:
    harness = measuring
    small_suite(harness)
    run = harness("run", "little", "--methods", "eap,eap_signed")
    assert "6 computed" in run.stderr
    names_the_rest(run.stderr)
    assert notes(harness("table", "little").stderr) == notes(run.stderr)
    for name in ("eap", "eap_signed"):
        written = harness("export", "little", "--method", name, "--to", name)
        assert written.stderr == ""  # two tasks, two models, names of the board
        assert {path.name for path in Path(name).iterdir()} == FOLDERS
    rows = json.loads(harness("table", "little", "--full", "--format", "json").stdout)
    one_ranking_by_score_the_other_by_magnitude(rows)
    text = harness("export", "little", "--method", "eap", "--to", "nine", "--circuits").stderr
    nine_circuits(Path("nine"), text)
    arguments = ("--method", "eap", "--to", "x", "--circuits", "--size", "0.1")
    assert "give one of them" in harness("export", "little", *arguments, code=2).stderr


def names_the_rest(stderr: str) -> None:
    rest = notes(stderr)
    assert len(rest) == 6  # three of the nine pairs of task and model have all their files
    for line in rest:
        model = line.split(" on ")[1].split(":")[0]
        if model == "gemma2-2b":
            assert line.endswith("gemma-2-2b has no config.json and no model.safetensors")
        else:
            assert model == "llama3_1-8b"
            assert "needs models/Llama-3.1-8B/tokenizer.json, which is not below" in line


def one_ranking_by_score_the_other_by_magnitude(rows: list[dict[str, Any]]) -> None:
    """Both methods have the same scores; they differ in what circuits are made of."""
    pairs = {(row["task"], row["model"]) for row in rows}
    assert len(pairs) == len(FOLDERS)
    for pair in pairs:
        cpr = {row["method"]: row["cpr"] for row in rows if (row["task"], row["model"]) == pair}
        assert cpr["eap"] != cpr["eap_signed"]
    for board in FOLDERS:
        plain, signed = (
            load_circuit(Path(name) / board / "importances.pt").scores
            for name in ("eap", "eap_signed")
        )
        assert plain is not None
        assert signed is not None
        assert torch.allclose(plain, signed, atol=1e-6)
        assert (plain < 0).any()


def nine_circuits(target: Path, stderr: str) -> None:
    assert {path.name for path in target.iterdir()} == FOLDERS
    for folder in target.iterdir():
        files = sorted(folder.iterdir())
        assert len(files) == len(MIB_LIMITS)
        for path in files:
            circuit = load_circuit(path)
            assert circuit.space == EdgeSpace(
                Graph(2, 4)
            )  # of Qwen too, whose heads share keys and values
            share = float(path.stem.removeprefix("circuit_")) / 100
            assert circuit.size <= share * len(circuit.space)
            assert f"{path}: {circuit.size} of {len(circuit.space)} edges" in stderr

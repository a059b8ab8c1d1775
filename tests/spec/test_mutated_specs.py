"""Mutated specs: validation answers with a spec or with issues, in time and in little memory."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.mutate import all_obey, bytes_of, data_of

from harness.cli.check import issues_of
from harness.errors import SpecError
from harness.spec.build import normalise
from harness.spec.issues import render, spec_error
from harness.spec.load import Library, spec_kind
from harness.spec.schema import SpecKind, check
from harness.spec.yaml.source import parse_text, read_source, read_text

ROOT = Path(__file__).parents[2]
VALID = Path(__file__).parent / "valid"
FILES = [
    *sorted(VALID.rglob("*.yaml")),
    ROOT / "tasks/greater_than.yaml",
    *(ROOT / "specs" / name for name in ("suites/quickstart.yaml", "methods/edge_pruning.yaml")),
]
SPECS = [(path, path.read_bytes(), read_source(path).data, spec_kind(path)) for path in FILES]

FEW, MANY = 500, 20_000


def mutant(seed: int, specs: list[Any]) -> tuple[Path, bytes, SpecKind]:
    rng = random.Random(seed)
    path, raw, data, kind = rng.choice(specs)
    if rng.random() < 0.4:
        return path, bytes_of(raw, rng), kind
    changed = json.dumps(data_of(data, rng), ensure_ascii=rng.random() < 0.5)
    raw = changed.encode("utf-8", "surrogatepass")
    return path, bytes_of(raw, rng) if rng.random() < 0.1 else raw, kind


def checked(file: Path, path: Path, raw: bytes, kind: SpecKind) -> None:
    """What a library does with a file, without the files that it refers to."""
    file.write_bytes(raw)
    source = parse_text(read_text(file), path)
    if issues := check(source, kind):
        assert json.loads(render(issues, "json"))
        assert render(issues, "github").count("::error") == len(issues)
        raise spec_error(issues)
    normalise(source.data, kind)


def mutants(seeds: range, file: Path) -> Iterator[tuple[int, bytes, Callable[[], object]]]:
    for seed in seeds:
        path, raw, kind = mutant(seed, SPECS)
        yield seed, raw, partial(checked, file, path, raw, kind)


@pytest.mark.parametrize(
    "seeds",
    [
        range(FEW),
        # 20,000 in all: 75 s of processor time
        *(
            pytest.param(range(start, min(MANY, start + 5_000)), marks=pytest.mark.slow)
            for start in range(FEW, MANY, 5_000)
        ),
    ],
    ids=lambda seeds: f"from_{seeds.start}",
)
def test_every_mutated_spec_is_a_spec_or_a_mistake(
    seeds: range, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Looking for installed packages takes longer than all the rest.
    monkeypatch.setattr("harness.spec.granularity._plug_ins", dict)
    read, refused = all_obey(mutants(seeds, tmp_path / "spec.yaml"), (SpecError,))
    assert read + refused == len(seeds)
    assert min(read, refused) > len(seeds) // 20  # both happen, or the mutations are useless


SMALL = {
    **read_source(ROOT / "tasks/greater_than.yaml").data,
    "name": "spec",
    "evaluation": {
        "ablation": "interchange",
        "positions": "all",
        "discovery_pairs": 8,
        "test_pairs": 8,
    },
}


def opened_mutants(seeds: range, file: Path) -> Iterator[tuple[int, bytes, Callable[[], object]]]:
    """What is said of the data is mutated, and all is checked that `validate` checks."""

    def validated() -> None:
        if issues := issues_of(Library(), file, "task"):
            raise spec_error(issues)

    for seed in seeds:
        rng = random.Random(seed)
        part = rng.choice(("data", "data", "data", "tokenizer", "evaluation"))
        data = {**SMALL, part: data_of(SMALL[part], rng, deepest=60)}
        raw = json.dumps(data).encode("utf-8", "surrogatepass")
        file.write_bytes(raw)
        yield seed, raw, validated


@pytest.mark.parametrize(
    "seeds", [range(12), pytest.param(range(12, 200), marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_every_mutated_task_is_checked_to_the_end(
    seeds: range, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slow ones take ten seconds."""
    monkeypatch.setattr("harness.spec.granularity._plug_ins", dict)
    monkeypatch.chdir(tmp_path)
    read, refused = all_obey(opened_mutants(seeds, tmp_path / "spec.yaml"), (SpecError,))
    assert read + refused == len(seeds)
    assert min(read, refused) >= 1

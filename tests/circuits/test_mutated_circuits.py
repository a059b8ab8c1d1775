"""Mutated circuit files: each is read or refused, in time and in little memory."""

from __future__ import annotations

import gzip
import io
import json
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from support.mutate import all_obey, bytes_of, data_of

from harness.circuits.circuit import Circuit
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.mib import to_mib, to_mib_tensors
from harness.circuits.edges.positions import Positions
from harness.circuits.edges.space import EdgeSpace
from harness.circuits.files import load_circuit, to_json, to_safetensors
from harness.errors import HarnessError


def circuit(graph: Graph) -> Circuit:
    space = EdgeSpace(graph)
    scores = torch.linspace(-1, 1, len(space))
    return Circuit(space, scores > 0.2, scores, 12, {"task": "toy"})


PLAIN = circuit(Graph(2, 2))
OURS = [PLAIN, circuit(Graph(1, 2, n_groups=1, positions=Positions(2, (1,))))]


def ours(rng: random.Random) -> bytes:
    return _json(to_json(rng.choice(OURS)), rng)


def mib(rng: random.Random) -> bytes:
    return _json(to_mib(PLAIN), rng)


def _json(data: dict[str, Any], rng: random.Random) -> bytes:
    if rng.random() < 0.3:
        return bytes_of(json.dumps(data).encode(), rng)
    return json.dumps(data_of(data, rng)).encode()


def zipped(rng: random.Random) -> bytes:
    if rng.random() < 0.5:
        return gzip.compress(ours(rng), compresslevel=1)
    return bytes_of(gzip.compress(json.dumps(to_mib(PLAIN)).encode()), rng)


def safetensors(rng: random.Random) -> bytes:
    one = rng.choice(OURS)
    if rng.random() < 0.5:
        return bytes_of(to_safetensors(one), rng)
    header = {name: value for name, value in to_json(one).items() if name != "elements"}
    note = json.dumps(data_of(header, rng))
    tensors = {"kept": one.kept.to(torch.uint8), "scores": one.scores}
    return save(tensors, metadata={"circuit": note})


def pt(rng: random.Random) -> bytes:
    data = to_mib_tensors(PLAIN)
    if rng.random() < 0.6:
        data = {**data, "cfg": data_of(data["cfg"], rng, deepest=70)}
    if rng.random() < 0.3:
        name = rng.choice(list(data))
        data[name] = rng.choice([None, 1, "a", [], {}, torch.ones(2, 2), torch.tensor(1)])
    if rng.random() < 0.1:
        del data[rng.choice(list(data))]
    buffer = io.BytesIO()
    torch.save(data, buffer)
    raw = buffer.getvalue()
    return raw if rng.random() < 0.5 else bytes_of(raw, rng)


FORMS: dict[str, tuple[str, Callable[[random.Random], bytes]]] = {
    "ours": ("c.json", ours),
    "mib": ("c.json", mib),
    "zipped": ("c.json.gz", zipped),
    "safetensors": ("c.safetensors", safetensors),
    "pt": ("c.pt", pt),
}


def loaded(path: Path, raw: bytes) -> None:
    path.write_bytes(raw)
    circuit = load_circuit(path)
    assert 0 <= circuit.size <= len(circuit.space)
    assert len(list(circuit.elements())) == circuit.size


def mutants(
    form: str, seeds: range, folder: Path
) -> Iterator[tuple[int, bytes, Callable[[], object]]]:
    name, mutated = FORMS[form]
    for seed in seeds:
        raw = mutated(random.Random(seed))
        yield seed, raw, partial(loaded, folder / name, raw)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "seeds",
    # the slow ones take seconds each
    [range(120), pytest.param(range(120, 500), marks=pytest.mark.slow)],
    ids=["few", "many"],
)
def test_every_mutated_circuit_is_read_or_refused(form: str, seeds: range, tmp_path: Path) -> None:
    read, refused = all_obey(mutants(form, seeds, tmp_path), (HarnessError,))
    assert read + refused == len(seeds)
    assert min(read, refused) > len(seeds) // 50

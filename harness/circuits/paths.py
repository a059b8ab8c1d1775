"""Random paths from the input to the logits: what connected random circuits are made of."""

from __future__ import annotations

import torch

from harness.circuits.graph import Graph


def random_path(graph: Graph, generator: torch.Generator) -> list[tuple[int, int]]:
    """Edges (row, column) of one walk from an input, each step to a uniformly drawn reader.

    It ends at `logits`. Without input writers it starts at any writer. Not uniform over paths.
    """

    def pick(choices: list[int]) -> int:
        if len(choices) == 1:
            return choices[0]
        return choices[int(torch.randint(len(choices), (), generator=generator))]

    row, path = pick(list(range(graph.n_inputs or graph.n_writers))), []
    while row < graph.n_writers:
        column = pick(graph.allowed[row].nonzero().flatten().tolist())
        path.append((row, column))
        row = pick(graph.owners[column].nonzero().flatten().tolist())
    return path

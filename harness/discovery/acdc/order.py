"""The order in which ACDC visits readers, and for one reader its writers.

Readers from the last to the first: logits; then by layer from the last, its MLP, then its heads
from the last, of each q, k, v (keys and values that heads share come with the first of these
heads). For one reader, writers of the latest layer first, its MLP before its heads 0 to H-1; the
inputs last. So does the published code.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.circuits.edges.graph import Graph


def readers_in_order(graph: Graph) -> Iterator[int]:
    """Columns in the order in which ACDC visits them."""
    yield graph.logits_column
    shared = graph.n_heads // graph.groups
    for layer in reversed(range(graph.n_layers)):
        if graph.mlps:
            yield graph.mlp_column(layer)
        first = graph.qkv_columns(layer).start
        for head in reversed(range(graph.n_heads)):
            yield first + head
            if head % shared == 0:
                key = first + graph.n_heads + head // shared
                yield from (key, key + graph.groups)


def writers_in_order(graph: Graph, column: int) -> list[int]:
    """Rows of a reader's writers in the order in which ACDC tries to remove them."""
    order = []
    for layer in reversed(range(graph.n_layers)):
        heads = graph.head_rows(layer)
        order += [graph.mlp_row(layer)] if graph.mlps else []
        order += range(heads.start, heads.stop)
    order += range(graph.n_inputs)
    return [row for row in order if graph.allowed[row, column]]

"""A prompt's circuit: from a logit through features to embeddings, drawn over tokens and modules.

Nodes are the parts of largest total influence, edges their contributions (`harness trace`).
"""

from __future__ import annotations

from collections import Counter

from harness.analyses.local.contributions import prompt_line, token_texts
from harness.analyses.report import Analysis, AnalysisTable, Picture
from harness.analyses.studied import SOURCES, Studied
from harness.tracing.keep import KeepRule
from harness.tracing.parse import parse_target
from harness.tracing.run import FrozenRun
from harness.tracing.scores import graph_scores
from harness.tracing.trace import PromptTrace, TraceNode, trace

NODES = 60
"""Parts of a circuit: as many as a picture shows."""

KEEP = KeepRule("rel", 0.01)


def analyse(studied: Studied) -> Analysis:
    """The circuit of the largest logit where the prompt is read, or of the target."""
    row = studied.choices.prompt or 0
    run = studied.prompt(row)
    target = parse_target(run, studied.choices.target, studied.asked_of(row))
    graph = trace(run, target, keep=KEEP, nodes=NODES)
    scores = graph_scores(graph)
    notes = [
        prompt_line(studied, row, run),
        f"{target.name} = {target.value:.3f}: {len(graph.nodes)} parts, {len(graph.edges)} "
        f"contributions; along all paths "
        + ", ".join(f"{name} {one:+.2f}" for name, one in graph.budget.items() if one),
    ]
    if scores.replacement is not None and scores.completeness is not None:
        notes.append(
            f"replacement {scores.replacement:.2f}, completeness {scores.completeness:.2f}"
        )
    return Analysis(
        [_largest(studied, graph), _modules(studied, graph)],
        notes,
        (Picture(f"circuit-{row}", "graph", _drawn(studied, graph)),),
        {"prompt": row, "budget": dict(graph.budget)},
    )


def _text(studied: Studied, run: FrozenRun, node: TraceNode) -> str:
    return studied.text_of(
        run, run.offsets[node.place.writer] + node.place.column, node.place.token
    )


def _group(studied: Studied, run: FrozenRun, node: TraceNode) -> str:
    if node.kind != "feature" or node.unit is None:
        return SOURCES[node.kind]
    return studied.features.family(studied.site_of(run, node.place.writer), node.unit)


def _largest(studied: Studied, graph: PromptTrace) -> AnalysisTable:
    nodes = sorted(graph.nodes, key=lambda node: -abs(node.influence))[: studied.choices.rows]
    rows = tuple(
        (node.name, node.activity, node.influence, _text(studied, graph.run, node))
        for node in nodes
    )
    columns = ("part", "activity", "influence", "stands for")
    return AnalysisTable("Parts of largest total influence", columns, rows)


def _modules(studied: Studied, graph: PromptTrace) -> AnalysisTable:
    """How many parts of which families are in the circuit, module by module."""
    run, rows = graph.run, []
    for at, writer in enumerate(run.writers):
        own = [node for node in graph.nodes if node.place.writer == at]
        if not own:
            continue
        counts = Counter(_group(studied, run, node) for node in own)
        text = ", ".join(f"{n} {name}" for name, n in counts.most_common())
        tokens = len({node.place.token for node in own})
        rows.append((writer.name, len(own), tokens, sum(abs(n.influence) for n in own), text))
    columns = ("module", "parts", "tokens", "influence", "families")
    return AnalysisTable("By module", columns, tuple(rows))


def _drawn(studied: Studied, graph: PromptTrace) -> dict[str, object]:
    """The picture: a column for each token, a row for each module, the target on top."""
    run = graph.run
    size = max((abs(node.influence) for node in graph.nodes), default=1.0) or 1.0
    nodes = [
        {
            "name": node.name,
            "text": _text(studied, run, node),
            "column": node.place.token,
            "row": node.place.writer,
            "weight": node.influence,
            "tint": node.influence / size,
        }
        for node in graph.nodes
    ]
    top = len(run.writers)
    nodes.append(
        {
            "name": graph.target.name,
            "text": "",
            "column": graph.target.token,
            "row": top,
            "weight": graph.target.value,
            "tint": 1.0,
        }
    )
    last = len(graph.nodes)
    edges = [
        [edge.source, last if edge.into is None else edge.into, edge.weight] for edge in graph.edges
    ]
    return {
        "nodes": nodes,
        "edges": edges,
        "columns": list(token_texts(studied, run)),
        "rows": [*(writer.name for writer in run.writers), "target"],
    }

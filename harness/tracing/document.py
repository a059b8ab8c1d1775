"""A traced graph as plain JSON data: the harness's own form, and that of circuit-tracer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from harness.errors import HarnessError
from harness.tracing.query_key import ScorePairs
from harness.tracing.scores import GraphScores
from harness.tracing.trace import PromptTrace, Sums, TraceNode

SCHEMA_VERSION = 1


def trace_data(graph: PromptTrace, scores: GraphScores, meanings: Sequence[str]) -> dict[str, Any]:
    """Target, nodes, edges, sums, leaf budget and scores.

    Edges name their ends by number: `source` and `into` count nodes, `into` null is the target.
    `meanings`: what each node stands for, "" where that is not known.
    """
    return {
        "target": {"name": graph.target.name, **_sums(graph.sums)},
        "budget": dict(graph.budget),
        "replacement": scores.replacement,
        "completeness": scores.completeness,
        "nodes": [
            {
                "name": node.name,
                "kind": node.kind,
                "writer": graph.run.writers[node.place.writer].name,
                "token": node.place.token,
                "unit": node.unit,
                "stands_for": meanings[at],
                "activity": node.activity,
                "influence": node.influence,
                "graph_influence": scores.influence[at],
                "sums": None if node.sums is None else _sums(node.sums),
            }
            for at, node in enumerate(graph.nodes)
        ],
        "edges": [
            {
                "source": edge.source,
                "into": edge.into,
                "kind": edge_kind(graph, edge.into),
                "weight": edge.weight,
                "heads": {f"h{head}": weight for head, weight in edge.heads.items()},
            }
            for edge in graph.edges
        ],
    }


def pairs_data(pairs: ScorePairs, largest: int) -> dict[str, Any]:
    """The largest pairs of an attention score, and the largest parts of either side."""
    sides = {"queries": (pairs.queries, pairs.of_queries), "keys": (pairs.keys, pairs.of_keys)}
    return {
        "score": pairs.score,
        "pairs": [
            {"query": query, "key": key, "weight": weight}
            for query, key, weight in pairs.largest(largest)
        ],
        **{
            side: [
                {"part": names[at], "weight": float(weights[at])}
                for at in weights.abs().topk(min(largest, len(names))).indices.tolist()
            ]
            for side, (names, weights) in sides.items()
        },
    }


def edge_kind(graph: PromptTrace, into: int | None) -> str:
    """What computes a contribution: `logit`, `ov`, `mlp` or `score`."""
    if into is None:
        return graph.target.kind
    name = graph.run.writers[graph.nodes[into].place.writer].name
    return "ov" if name.startswith("a") else "mlp"


def _sums(sums: Sums) -> dict[str, float]:
    return {
        "value": sums.value,
        "positive": sums.positive,
        "negative": sums.negative,
        "constant": sums.constant,
        "kept": sums.kept,
    }


# ---------------------------------------------------------------- circuit-tracer
def circuit_tracer_data(
    graph: PromptTrace,
    scores: GraphScores,
    meanings: Sequence[str],
    slug: str,
    texts: Sequence[str],
) -> dict[str, Any]:
    """The graph as circuit-tracer's front ends read it; `texts`: each token as text, `meanings`:
    what each node stands for.

    A layer there has one site; here attention of layer l is layer 2l, its MLP 2l + 1, and the
    target layer 2L. Raises `HarnessError` if two nodes would have one id.
    """
    ids = [_node_id(graph, node) for node in graph.nodes]
    last = 2 * graph.run.model.config.n_layers
    target = f"{last}_{graph.target.unit}_{graph.target.token}"
    twice = [name for name, count in Counter([*ids, target]).items() if count > 1]
    if twice:
        raise HarnessError(f"two nodes of the graph would be called {twice[0]}")
    shares = _cumulative(scores.influence)
    nodes = [_node(graph, at, ids[at], shares[at], meanings[at]) for at in range(len(ids))]
    nodes.append(
        {
            **blank(target, str(last), graph.target.token, "logit", graph.target.unit),
            "token_prob": graph.target.probability or 0.0,
            "is_target_logit": True,
            "clerp": graph.target.name,
            "activation": graph.target.value,
        }
    )
    links = [
        {
            "source": ids[edge.source],
            "target": target if edge.into is None else ids[edge.into],
            "weight": edge.weight,
        }
        for edge in graph.edges
    ]
    return frame(slug, texts, " ".join(texts), nodes, links)


def frame(
    slug: str,
    texts: Sequence[str],
    prompt: str,
    nodes: list[dict[str, Any]],
    links: list[dict[str, Any]],
) -> dict[str, Any]:
    """Nodes and links with what the front ends want to know of the graph."""
    return {
        "metadata": {
            "slug": slug,
            "scan": f"harness-{slug}",
            "transcoder_list": [],
            "prompt_tokens": list(texts),
            "prompt": prompt,
            "node_threshold": None,
            "schema_version": 1,
        },
        "qParams": {
            "pinnedIds": [],
            "supernodes": [],
            "linkType": "both",
            "clickedId": "",
            "sg_pos": "",
        },
        "nodes": nodes,
        "links": links,
    }


_TYPES: Mapping[str, str] = {
    "embed": "embedding",
    "position": "embedding",
    "error": "mlp reconstruction error",
}
"""Types of nodes that are not drawn as features."""


def _site(graph: PromptTrace, node: TraceNode) -> str:
    name = graph.run.writers[node.place.writer].name
    if node.kind in ("embed", "position"):
        return "E"
    return str(2 * int(name[1:]) + (name[0] == "m"))


def _feature(graph: PromptTrace, node: TraceNode) -> int:
    """A number that no other node of the site and token has: not negative for units."""
    if node.kind == "embed":
        return int(graph.run.tokens[node.place.token])
    if node.unit is not None:
        return node.unit
    if node.kind == "module":
        return 0
    own = graph.run.writers[node.place.writer].own
    return -1 if node.kind in ("position", "error") else own - node.place.column - 2


def _node_id(graph: PromptTrace, node: TraceNode) -> str:
    return f"{_site(graph, node)}_{_feature(graph, node)}_{node.place.token}"


def _node(graph: PromptTrace, at: int, name: str, share: float, meaning: str) -> dict[str, Any]:
    node = graph.nodes[at]
    kind = _TYPES.get(node.kind, "cross layer transcoder")
    return {
        **blank(name, _site(graph, node), node.place.token, kind, _feature(graph, node)),
        "clerp": f"{node.name} {meaning}".rstrip(),
        "influence": share,
        "activation": node.activity,
    }


def blank(name: str, layer: str, token: int, kind: str, feature: int) -> dict[str, Any]:
    """A node with all keys that the front ends read, and nothing said."""
    return {
        "node_id": name,
        "feature": feature,
        "layer": layer,
        "ctx_idx": token,
        "feature_type": kind,
        "token_prob": 0.0,
        "is_target_logit": False,
        "run_idx": 0,
        "reverse_ctx_idx": 0,
        "jsNodeId": name,
        "clerp": "",
        "influence": None,
        "activation": None,
    }


def _cumulative(influence: Sequence[float]) -> list[float]:
    """The share of all influence that a node and those above it have together."""
    total, running = sum(influence) or 1.0, 0.0
    shares = [0.0] * len(influence)
    for at in sorted(range(len(influence)), key=lambda one: -influence[one]):
        running += influence[at]
        shares[at] = running / total
    return shares

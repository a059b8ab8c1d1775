"""A traced circuit on a terminal: the target, its sums and budget, and a tree of contributions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.reports.screens.columns import token as token_shown
from harness.spec.printable import printable

Data = Mapping[str, Any]

_BUDGET = {
    "embed": "embeddings",
    "position": "positions",
    "error": "errors of dictionaries",
    "bias": "biases of modules and dictionaries",
    "constant": "constants on the way",
    "cut": "not traced further",
}


def trace_text(report: Data, width: int, branches: int, depth: int) -> str:
    """The report of `harness.runs.services.trace` as lines at most `width` wide.

    Of each part the `branches` largest contributions are shown, `depth` steps from the target.
    """
    target = report["target"]
    nodes, edges = report["nodes"], report["edges"]
    lines = [
        f"{report['task']}, {report['split']} prompt {report['prompt']} ({report['twin']}), model "
        f"{report['model']}{_coded(report)}: {len(nodes)} parts, {len(edges)} contributions",
        *_prompt(report),
        "",
        f"{target['name']} = {target['value']:.3f}   {_sums(target)}",
        *_Tree(nodes, edges, branches, depth).lines(),
        "",
        "what it is made of, along all paths:",
        *(
            f"  {amount:+8.3f}  {_BUDGET[name]}"
            for name, amount in report["budget"].items()
            if amount
        ),
        *_scores(report),
        *_pairs(report["pairs"]),
        *_validity(report["validity"] or ()),
    ]
    return "\n".join(printable(line)[:width] for line in lines)


def _coded(report: Data) -> str:
    return f", dictionaries {report['dictionary']}" if report["dictionary"] else ""


def _prompt(report: Data) -> Iterator[str]:
    board = report["board"]
    if board is None:
        yield "  " + " ".join(
            f"{at}:{token_shown(text)}" for at, text in enumerate(report["tokens"])
        )
        return
    yield f"  moves {' '.join(report['tokens'])}"
    columns = range(1, len(board["rows"]) + 1)
    yield "    " + " ".join(map(str, columns))
    legal = set(board["legal"])
    for letter, row in zip("abcdefgh", board["rows"], strict=False):
        cells = (
            "∙" if f"{letter}{at}" not in legal and disc == "·" else "×" if disc == "·" else disc
            for at, disc in enumerate(row, 1)
        )
        yield f"  {letter} {' '.join(cells)}"
    yield f"  last move {board['last']}; {board['turn']} to move, × is legal"


def _sums(sums: Data) -> str:
    return (
        f"{sums['positive']:+.3f} {sums['negative']:+.3f}, constant {sums['constant']:+.3f}; "
        f"{sums['kept']:.0%} on edges"
    )


def _scores(report: Data) -> Iterator[str]:
    for name in ("replacement", "completeness"):
        if report[name] is not None:
            yield f"{name} {report[name]:.3f}"


_SHOWN_PAIRS = 8


def _pairs(pairs: Data | None) -> Iterator[str]:
    """The largest products of a part of the query and one of the keys."""
    if pairs is None:
        return
    yield ""
    yield f"largest of the pairs that sum to {pairs['score']:.3f}, keys less their mean:"
    for one in pairs["pairs"][:_SHOWN_PAIRS]:
        yield f"  {one['weight']:+8.3f}  {one['query']} × {one['key']}"


_REMOVALS = {
    "logit": "before the last norm",
    "mlp": "before an MLP",
    "ov": "before attention, pattern held",
    "ov_pattern": "before attention",
    "query": "before a query, keys held",
    "key": "before keys, their query held",
    "total": "where it is written",
}


def _validity(rows: Sequence[Data]) -> Iterator[str]:
    """A table of what contributions predict, and what happens."""
    if not rows:
        return
    yield ""
    heads = zip(("n", "Pearson", "Spearman", "true/said", "blind"), (6, 10, 10, 11, 8), strict=True)
    yield f"{'a part is taken out':<32}" + "".join(f"{head:>{width}}" for head, width in heads)
    for row in rows:
        numbers = (row[name] for name in ("pearson", "spearman", "coefficient"))
        shown = ("–" if one is None else f"{one:.3f}" for one in numbers)
        cells = "".join(f"{text:>{width}}" for text, width in zip(shown, (10, 10, 11), strict=True))
        blind = "" if row["blind"] is None else f"{row['blind']:>8.3f}"
        yield f"  {_REMOVALS[row['kind']]:<30}{row['n']:>6}{cells}{blind}"


class _Tree:
    def __init__(
        self, nodes: Sequence[Data], edges: Sequence[Data], branches: int, depth: int
    ) -> None:
        self.nodes, self.branches, self.depth = nodes, branches, depth
        self.into: dict[int | None, list[Data]] = defaultdict(list)
        for edge in edges:
            self.into[edge["into"]].append(edge)
        for some in self.into.values():
            some.sort(key=lambda edge: -abs(edge["weight"]))
        self.shown: set[int] = set()

    def lines(self) -> Iterator[str]:
        yield from self._below(None, "", 1)

    def _below(self, into: int | None, indent: str, level: int) -> Iterator[str]:
        edges = self.into[into]
        shown, more = edges[: self.branches], len(edges) - self.branches
        for at, edge in enumerate(shown):
            last = at == len(shown) - 1 and more <= 0
            node = self.nodes[edge["source"]]
            again = edge["source"] in self.shown and self.into[edge["source"]]
            yield (
                f"{indent}{'└─' if last else '├─'} {edge['weight']:+.3f} {_named(node)}"
                f"{_heads(edge)}{'  (above)' if again else _of_node(node)}"
            )
            self.shown.add(edge["source"])
            if level < self.depth and not again:
                yield from self._below(
                    edge["source"], indent + ("   " if last else "│  "), level + 1
                )
        if more > 0:
            rest = sum(edge["weight"] for edge in edges[self.branches :])
            yield f"{indent}└─ {rest:+.3f} in {more} more"


def _named(node: Data) -> str:
    activity, meaning = node["activity"], node["stands_for"]
    name = f"{node['name']} {meaning}" if meaning else node["name"]
    return name if activity is None else f"{name} ({activity:.2f})"


def _of_node(node: Data) -> str:
    """All that speaks for a node that is taken apart, and all that speaks against it."""
    sums = node["sums"]
    return "" if sums is None else f"  {sums['positive']:+.3f} {sums['negative']:+.3f}"


def _heads(edge: Data) -> str:
    """The heads that carry most of an edge, up to two."""
    heads = sorted(edge["heads"].items(), key=lambda item: -abs(item[1]))[:2]
    return "  by " + ", ".join(f"{name} {weight:+.3f}" for name, weight in heads) if heads else ""

"""Columns of a leaderboard for people: their names, headings and fields, and which ones fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from harness.errors import NotFound
from harness.metrics import MEASURES
from harness.metrics.registry import names as measures_with_role
from harness.metrics.statistics import geometric_mean
from harness.reports.ground_truth import COLUMNS as TRUTH
from harness.reports.ground_truth import NAMES as TRUTH_NAMES
from harness.reports.leaderboard import LEVELS, Board, Line
from harness.reports.resample import Estimate
from harness.reports.results import has_targets, unit_of
from harness.reports.text import columns_wide, elided, number, plus_minus

AREAS = ("cmd", "cpr", "cmd_log", "cpr_log")

USUAL = ("rank", "method", "cmd", "size_at_0.95", "faithfulness", "kl", "cost", "seeds")
OF_TARGETS = ("rank", "method", "size", "bits", "faithfulness", "kl", "cost", "seeds")
"""The usual ones where circuits were searched for targets, so that there are no areas."""

EXPENDABLE = ("seeds", "kl", "cost")
"""What a narrow window does without, first the first; the caption has the seeds."""

SHORTEST_NAME = 12

BUSY_MARK = "†"


@dataclass(frozen=True)
class Column:
    """A column by the name that `--columns` takes."""

    name: str
    heading: str
    text: Callable[[Line], str] = field(repr=False)
    left: bool = False


@dataclass(frozen=True)
class Layout:
    """Which columns a table shows, and how wide it may be (None: as wide as it gets).

    `columns`: these, in this order; None for the usual ones. `wide`: many more.
    """

    columns: tuple[str, ...] | None = None
    wide: bool = False
    width: int | None = 100

    @property
    def unbounded(self) -> Layout:
        """The same without a limit."""
        return replace(self, width=None)

    def __post_init__(self) -> None:
        """Refuse unknown columns: raises `NotFound` naming all."""
        unknown = [name for name in self.columns or () if name not in NAMES]
        if unknown:
            raise NotFound(f"no column {unknown[0]!r}; columns are {', '.join(NAMES)}")


def columns_for(board: Board, layout: Layout) -> tuple[list[Column], list[str]]:
    """The columns of a board under a layout, and the names of those that were too much for it."""
    every = {column.name: column for column in _all(board, compact=not layout.wide)}
    if layout.columns is not None:
        return [every[name] for name in layout.columns if name in every], []
    if layout.wide:
        return [every[name] for name in _wide(board)], []
    targets = board.facts is not None and has_targets(board.facts)
    names = list(OF_TARGETS if targets else USUAL)
    if targets and any(line.searched for line in board.lines):
        names[names.index("bits") : names.index("faithfulness")] = ["reached", "times_own"]
    if _counts_weights(board):
        names.insert(names.index("faithfulness"), "weights")
    columns = [every[name] for name in names]
    left_out: list[str] = []
    for name in EXPENDABLE:
        if layout.width is None or _width(columns, board.lines) <= layout.width:
            break
        columns = [column for column in columns if column.name != name]
        left_out.append(name)
    return _with_short_names(columns, board.lines, layout.width), left_out


def _wide(board: Board) -> list[str]:
    return [
        *("rank", "method", "cmd", "cpr", "cmd_log", "size_at", "size", "bits"),
        *(["weights"] if _counts_weights(board) else []),
        *("faithfulness", "kl", "accuracy", *board.chosen),
        *(TRUTH_NAMES if any(line.recovery for line in board.lines) else ()),
        *("cost", *(["wall"] if any(x.cost_fb_wall is not None for x in board.lines) else [])),
        "seeds",
    ]


def _counts_weights(board: Board) -> bool:
    """Whether circuits have a second size, the weights between their channels."""
    return any(line.weights is not None for line in board.lines)


def _width(columns: Sequence[Column], lines: Sequence[Line]) -> int:
    """Characters of the widest row, with bars and spaces."""
    return 1 + sum(3 + _column_width(column, lines) for column in columns)


def _column_width(column: Column, lines: Sequence[Line]) -> int:
    texts = [column.heading, *map(column.text, lines)]
    return max(map(columns_wide, texts))


def _with_short_names(
    columns: list[Column], lines: Sequence[Line], width: int | None
) -> list[Column]:
    """The same columns, names of methods cut in the middle where nothing else helps."""
    if width is None or (excess := _width(columns, lines) - width) <= 0:
        return columns
    method = next(column for column in columns if column.name == "method")
    most = max(SHORTEST_NAME, _column_width(method, lines) - excess)
    short = replace(method, text=lambda line: elided(method.text(line), most))
    return [short if column is method else column for column in columns]


# ---------------------------------------------------------------- the columns
def _all(board: Board, *, compact: bool) -> list[Column]:
    at = f" @{board.at}" if board.at else ""
    unit = "edges" if board.facts is None else unit_of(board.facts)

    def estimate(value: Estimate | None) -> str:
        return "" if value is None else plus_minus(value.value, value.half_width, compact=compact)

    def area(name: str) -> Column:
        return Column(
            name,
            MEASURES[name].heading(),
            lambda line: estimate(None if line.areas is None else line.areas[name]),
        )

    def reach(level: str) -> Column:
        heading = f"f≥{level[1:]} ↓" if compact else f"{unit} f≥{level[1:]} ↓"
        return Column(f"size_at_{level}", heading, lambda line: _reach(line, (level,)))

    def chosen(name: str) -> Column:
        return Column(
            name, MEASURES[name].heading(at), lambda line: estimate(line.chosen.get(name))
        )

    def truth(place: int) -> Column:
        return Column(TRUTH_NAMES[place], TRUTH[place], lambda line: _truth(line, place))

    levels = "/".join(level[1:] for level in LEVELS)
    alone = sum(line.kind == "method" for line in board.lines) == 1
    return [
        Column("rank", "#", _rank, left=True),
        Column("method", "method", lambda line: _method(line, alone), left=True),
        *map(area, AREAS),
        Column("size_at", f"{unit} f≥{levels} ↓", lambda line: _reach(line, LEVELS)),
        *map(reach, LEVELS),
        Column("size", f"{unit}{at}", lambda line: "" if line.size is None else str(line.size)),
        Column("bits", MEASURES["bits"].heading(at), lambda line: number(line.bits, 1)),
        Column("weights", f"weights{at}", lambda line: number(line.weights, 0)),
        Column("reached", f"reached{at}", _reached),
        Column("times_own", "× own size", lambda line: _times_own(board, line)),
        Column("faithfulness", f"f{at} ↑", lambda line: estimate(line.faithfulness)),
        Column("kl", MEASURES["kl"].heading(at), lambda line: estimate(line.kl)),
        Column("accuracy", MEASURES["accuracy"].heading(at), lambda line: estimate(line.accuracy)),
        *map(chosen, board.chosen),
        *map(truth, range(len(TRUTH))),
        Column("cost", "cost", lambda line: _cost(line, compact=compact)),
        Column("wall", "wall", lambda line: number(line.cost_fb_wall, 2)),
        Column("seconds", "seconds", lambda line: number(line.seconds, 2)),
        Column("peak_mib", "peak MiB", lambda line: number(line.peak_mib, 0)),
        Column("seeds", "seeds", lambda line: _seeds(line, notes=not compact), left=True),
    ]


NAMES = (
    *("rank", "method", *AREAS, "size_at", *(f"size_at_{level}" for level in LEVELS)),
    *(
        "size",
        "bits",
        "weights",
        "reached",
        "times_own",
        "faithfulness",
        "kl",
        "accuracy",
        *measures_with_role("extra"),
    ),
    *(*TRUTH_NAMES, "cost", "wall", "seconds", "peak_mib", "seeds"),
)
"""All columns that a table for people can have; measures only where the task has chosen them."""


def _rank(line: Line) -> str:
    if line.kind != "method":
        return ""
    if line.rank is None:
        return "–"
    return f"{line.rank}≈" if line.tied else str(line.rank)


def _method(line: Line, alone: bool) -> str:
    """Control searches without the name of the method if it is the only one of its table."""
    if line.kind != "control":
        return line.method
    name = line.method.rpartition(", ")[2] if line.searched and alone else line.method
    return f"{name} (control)"


def _reach(line: Line, levels: Sequence[str]) -> str:
    if line.reach is None:
        return ""
    sizes = [line.reach[level] for level in levels]
    if len(sizes) == 1 and sizes[0] is None:
        return "–"
    bound = "≤ " if line.reach_from == "grid" else ""
    return bound + " / ".join("–" if size is None else str(size) for size in sizes)


def _reached(line: Line) -> str:
    """Of how many seeds the circuits reach the target."""
    return "" if line.held is None else f"{line.held}/{line.seeds_done}"


def times_own(board: Board, line: Line) -> float | None:
    """How many times as large the circuits of a control search are as the task's own.

    In the finest unit (weights, else elements), seed by seed: the geometric mean over the seeds in
    which both reach their target. None where there are none, and for other lines.
    """
    if not line.searched:
        return None
    own_name = line.method.rpartition(", ")[0]
    own = next((x.by_seed for x in board.lines if x.method == own_name), {})
    pairs = [(size, own.get(seed)) for seed, size in line.by_seed.items()]
    ratios = [size / beside for size, beside in pairs if size and beside]
    return geometric_mean(ratios).value if ratios else None


def _times_own(board: Board, line: Line) -> str:
    ratio = times_own(board, line)
    if ratio is not None:
        return number(ratio, 1)
    missed = line.searched and line.by_seed and not any(line.by_seed.values())
    return "missed" if missed else ""


def _truth(line: Line, place: int) -> str:
    return "" if line.recovery is None else line.recovery.fields()[place]


def _cost(line: Line, *, compact: bool) -> str:
    cost = line.cost_fb
    if cost is None:
        return ""
    digits = 2 if not compact or cost < 9.995 else 1 if cost < 99.95 else 0
    return number(cost, digits) + (BUSY_MARK if line.busy else "")


def _seeds(line: Line, *, notes: bool) -> str:
    if line.kind in ("whole", "empty"):
        return ""
    text = f" ({', '.join(line.notes)})" if notes and line.notes else ""
    return f"{line.seeds_done}/{line.seeds_all}{text}"

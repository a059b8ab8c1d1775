"""Line charts as shapes with their places in pixels; the page's template draws them as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.reports.page.axes import Axis, log_axis

WIDTH, HEIGHT = 640, 340
LEFT, TOP, BOTTOM = 56, 12, 44
LABEL = 13
"""Pixels between two labels at the ends of lines."""

LETTER, SWATCH, NARROWEST, WIDEST = 6.3, 38, 130, 250
"""Width of a letter of a label, of what stands before it, and of the room for labels in all."""


@dataclass(frozen=True)
class Series:
    """One method's values: `low` and `high` are the ends of intervals, None where not defined.

    `unmarked`: a line without marks at its points, which lies below all others.
    """

    name: str
    style: int
    control: bool
    x: Sequence[float]
    y: Sequence[float | None]
    low: Sequence[float | None]
    high: Sequence[float | None]
    unmarked: bool = False


@dataclass(frozen=True)
class Mark:
    """A measured value; `text` says it in words."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class DrawnLine:
    """A series with its places: `path` and `band` are points of SVG.

    Its label stands at the mean height of its points: lines often end in one point. `short`: as
    much of the name as there is room for.
    """

    name: str
    style: int
    control: bool
    path: str
    band: str
    marks: Sequence[Mark]
    label_y: float
    end: Mark
    short: str
    unmarked: bool


@dataclass(frozen=True)
class Level:
    """A horizontal line that a measure has by definition or in a whole run."""

    y: float
    name: str


@dataclass(frozen=True)
class Chart:
    """All shapes of a chart."""

    title: str
    x: Axis
    y: Axis
    lines: Sequence[DrawnLine]
    levels: Sequence[Level]
    right: int
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM

    @property
    def painted(self) -> Sequence[DrawnLine]:
        """The lines in the order in which they are painted."""
        return sorted(self.lines, key=lambda line: not line.unmarked)


def chart(
    title: str,
    x_name: str,
    y_name: str,
    series: Sequence[Series],
    levels: Sequence[tuple[float, str]] = (),
    span: tuple[float, float] | None = None,
    floor: float = 0.0,
) -> Chart | None:
    """A chart with a logarithmic x axis; None where there is nothing to draw.

    `span`: the linear y axis, beyond which values stay at its ends; None for a logarithmic one.
    Values that a logarithmic axis cannot hold are left out, those below `floor` are drawn at it.
    """
    shown = [cut for one in series if (cut := _drawable(one, log=span is None)).x]
    if not shown:
        return None
    right = WIDTH - _room(shown)
    x = log_axis(x_name, [value for one in shown for value in one.x], LEFT, right)
    ends = (HEIGHT - BOTTOM, TOP)
    if span is None:
        values = [max(v, floor) for one in shown for v in one.y if v is not None]
        y = log_axis(y_name, values, *ends)
    else:
        y = Axis(y_name, *span, *ends)
    drawn = [_line(one, x, y) for one in shown]
    inside = [(value, name) for value, name in levels if y.low <= value <= y.high]
    drawn_levels = [Level(y.place(value), name) for value, name in inside]
    return Chart(title, x, y, _apart(drawn), drawn_levels, right)


def _room(shown: Sequence[Series]) -> int:
    """For the labels at the ends of lines."""
    longest = max(len(_label(one)) for one in shown)
    return round(min(WIDEST, max(NARROWEST, SWATCH + LETTER * longest)))


def _label(one: Series) -> str:
    return f"{one.name} (control)" if one.control else one.name


def _shortened(text: str) -> str:
    most = int((WIDEST - SWATCH) / LETTER)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _drawable(series: Series, *, log: bool) -> Series:
    """The points of a series that have a place."""

    def fits(x: float, y: float | None) -> bool:
        return x > 0 and y is not None and (y > 0 or not log)

    at = [place for place, xy in enumerate(zip(series.x, series.y, strict=True)) if fits(*xy)]
    x, y, low, high = (
        [values[place] for place in at] for values in (series.x, series.y, series.low, series.high)
    )
    return replace(series, x=[v for v in x if v], y=y, low=low, high=high)


def _line(series: Series, x: Axis, y: Axis) -> DrawnLine:
    marks = [
        Mark(x.place(a), y.place(b), _said(series.name, x, y, a, b, low, high))
        for a, b, low, high in zip(series.x, series.y, series.low, series.high, strict=True)
        if b is not None
    ]
    lower, upper = [], []
    for a, low, high in zip(series.x, series.low, series.high, strict=True):
        if low is not None and high is not None:
            lower.append((x.place(a), y.place(max(low, y.low))))
            upper.append((x.place(a), y.place(max(high, y.low))))
    return DrawnLine(
        series.name,
        series.style,
        series.control,
        _points([(one.x, one.y) for one in marks]),
        _points([*lower, *reversed(upper)]),
        marks,
        sum(one.y for one in marks) / len(marks),
        marks[-1],
        _shortened(_label(series)),
        series.unmarked,
    )


def _said(
    name: str, x: Axis, y: Axis, a: float, b: float, low: float | None, high: float | None
) -> str:
    interval = "" if low is None or high is None else f" ({low:.4g} to {high:.4g})"
    return f"{name}: {y.name} {b:.4g}{interval} at {x.name} {a:.4g}"


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{a:g},{b:g}" for a, b in places)


def _apart(lines: Sequence[DrawnLine]) -> list[DrawnLine]:
    """The same lines with labels that do not lie on each other, from top to bottom."""
    ordered = sorted(lines, key=lambda line: (line.label_y, line.name))
    room = min(LABEL, (HEIGHT - TOP) / max(len(ordered), 1))
    places = [line.label_y for line in ordered]
    for at in range(1, len(places)):
        places[at] = max(places[at], places[at - 1] + room)
    over = max(0.0, places[-1] - (HEIGHT - 6)) if places else 0.0
    for at in range(len(places) - 1, -1, -1):  # push back what has left the chart
        most = HEIGHT - 6 - room * (len(places) - 1 - at)
        places[at] = min(places[at], most) if over else places[at]
    return [
        replace(line, label_y=round(place, 1)) for line, place in zip(ordered, places, strict=True)
    ]

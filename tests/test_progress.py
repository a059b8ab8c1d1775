"""Stages: what they say, when it is shown, and that a display chosen outside is used inside."""

import io
import re
from typing import Any

import pytest
from support.problems import problem_of
from support.shown import Recorder
from support.slow_reference import small_model

from harness import progress
from harness.discovery.registry import make_method
from harness.progress import Bars, Lines, Moment, display_on, duration, shown_by, stage, through


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.6, "60 s"),
        (99.4, "99 s"),
        (99.6, "2 min"),
        (720, "12 min"),
        (5900, "98 min"),
        (6100, "1 h 40 min"),
        (7190, "2 h"),
        (90000, "25 h"),
    ],
)
def test_durations_are_as_precise_as_a_forecast(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_time_left_is_that_of_the_speed_since_the_start() -> None:
    assert Moment("x", "step", 100, 0).left is None
    assert Moment("x", "step", 100, 25, seconds=5.0).left == pytest.approx(15.0)
    # Steps of an earlier run, before a stop, took none of these seconds.
    resumed = Moment("training", "step", 2000, 640, first=600, seconds=4.0, note="loss 0.3")
    assert resumed.left == pytest.approx(136.0)
    assert resumed.text() == "training: step 640 of 2,000, loss 0.3, about 2 min left"


def test_a_line_every_thirty_seconds_without_a_terminal(clock: Clock) -> None:
    stream = io.StringIO()
    with shown_by(Lines(stream)), stage("search", 100, "edge") as search:
        for _ in range(100):
            clock.now += 1.0
            search.advance()
    lines = stream.getvalue().splitlines()
    assert lines == [
        "search: edge 30 of 100, about 70 s left",
        "search: edge 60 of 100, about 40 s left",
        "search: edge 90 of 100, about 10 s left",
    ]


def test_short_work_says_nothing(clock: Clock) -> None:
    stream = io.StringIO()
    with shown_by(Lines(stream)):
        assert list(through(range(3), "short", "item")) == [0, 1, 2]
    assert stream.getvalue() == ""


def test_bars_on_a_terminal_nested_and_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bars, "DELAY", 0.0)
    monkeypatch.setattr(progress, "_MOVE_SECONDS", 0.0)
    stream = Terminal()
    display = display_on(stream)
    assert isinstance(display, Bars)
    with shown_by(display), stage("judge", 2, "test") as outer:
        with stage("evaluation", 10, "run") as inner:
            inner.advance(4, "note")
        outer.advance()
    text = stream.getvalue()
    assert re.search(r"judge: +0%", text)
    assert "evaluation" in text
    assert not display._open
    assert isinstance(display_on(io.StringIO()), Lines)


def test_what_a_broken_stage_was_at_stays_told() -> None:
    def work() -> None:
        with shown_by(display), stage("training", 10) as training:
            training.advance(6)
            training.saved()
            training.advance(2)
            raise KeyboardInterrupt

    display = Recorder()
    with pytest.raises(KeyboardInterrupt):
        work()
    assert display.ended == []
    assert (display.told[-1].done, display.told[-1].saved) == (6, 6)


def test_a_display_is_used_until_its_block_ends() -> None:
    outer, inner = Recorder(), Recorder()
    with shown_by(outer):
        with shown_by(inner):
            list(through("ab", "inside", "letter"))
        list(through("abc", "outside", "letter"))
    assert [(one.title, one.done) for one in inner.ended] == [("inside", 2)]
    assert [(one.title, one.done) for one in outer.ended] == [("outside", 3)]


@pytest.mark.parametrize(
    ("kind", "title", "count"),
    [
        ("activation_patching", "activation patching", "n_edges"),
        ("node_patching", "node patching", "n_writers"),
    ],
)
def test_patching_counts_every_element_once(
    kind: str, title: str, count: str, random_batch: Any
) -> None:
    problem = problem_of(small_model("gpt2-like"), random_batch())
    with shown_by(display := Recorder()):
        make_method(kind, {}).discover(problem)
    (patching,) = display.ended
    wanted = getattr(problem.edges.graph, count) * len(problem.batches)
    assert (patching.title, patching.done, patching.total) == (title, wanted, wanted)

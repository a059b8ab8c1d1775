"""The way in: fast, and every end has its exit code."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from harness.cli import main as cli
from harness.errors import HarnessError, StoreCorrupt

ROOT = Path(cli.__file__).parents[2]
RUN = """\
import sys
from harness.cli.main import main
try:
    main({arguments!r})
except SystemExit as e:
    {check}
"""


def python(code: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["list", "tasks"],
        ["list", "methods", "--json"],
        ["list", "metrics"],
        ["show", "ioi"],
        ["show", "ioi", "--resolved"],
        ["validate", "tasks/greater_than.yaml"],
        ["run", "--help"],
        ["table", "--help"],
        ["new", "--help"],
        ["help"],
        ["help", "methods"],
    ],
    ids=" ".join,
)
def test_looking_around_imports_neither_torch_nor_polars(arguments: list[str]) -> None:
    check = "print([m for m in ('torch', 'polars') if m in sys.modules], e.code)"
    done = python(RUN.format(arguments=arguments, check=check))
    assert done.stdout.splitlines()[-1:] == ["[] 0"], done.stderr


@pytest.mark.parametrize("verb", list(cli.VERBS))
def test_every_verb_has_help_of_its_own(verb: str) -> None:
    result = CliRunner().invoke(cli.main, [verb, "--help"])
    assert result.exit_code == 0
    assert f"harness {verb}" in result.stdout


def test_help_lists_every_verb_without_importing_it() -> None:
    done = python(
        "import sys; from harness.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print([m for m in sys.modules if m.startswith('harness.cli.')])"
    )
    assert done.stdout.splitlines()[-1] == "['harness.cli.main']"
    assert all(verb in done.stdout for verb in cli.VERBS)


def test_a_mistyped_verb_gets_a_hint() -> None:
    result = CliRunner().invoke(cli.main, ["tabel"])
    assert result.exit_code == 2
    assert "Did you mean 'table'?" in result.stderr
    assert result.stdout == ""


def test_options_can_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_LIST_TAG", "no-such-tag")
    result = CliRunner().invoke(cli.main, ["list", "tasks"])
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (HarnessError("mend it"), 2, "error: mend it"),
        (StoreCorrupt("broken file"), 3, "broken file"),
        (click.UsageError("no such thing"), 2, "no such thing"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ZeroDivisionError("oh"), 70, "ZeroDivisionError: oh"),
    ],
)
def test_every_end_has_its_code(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    @click.command("list")
    def command() -> None:
        raise error

    monkeypatch.setattr("harness.cli.list.command", command)
    result = CliRunner().invoke(cli.main, ["list"])
    assert result.exit_code == code
    assert said in result.stderr
    assert result.stdout == ""
    assert ("Traceback" in result.stderr) is (code == 70)


def test_a_reader_that_stops_early_is_no_bug() -> None:
    code = "from harness.cli.main import main; main(['list', 'metrics', '--json'])"
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=ROOT,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(60) == cli.BROKEN_PIPE
    assert process.stderr is not None
    assert process.stderr.read() == b""


def test_a_file_that_cannot_be_written_is_the_users_to_mend() -> None:
    def denied() -> None:
        raise PermissionError(13, "Permission denied", "results")

    def bug() -> None:
        raise OSError("no file to blame")

    assert cli._exit_code(denied) == cli.USAGE
    assert cli._exit_code(bug) == cli.BUG


def test_help_promises_no_more_than_the_suite_has() -> None:
    for arguments in (["--help"], ["run", "--help"]):
        text = CliRunner().invoke(cli.main, arguments).output
        assert "quickstart" in text
        assert "every method" not in " ".join(text.split())

"""The served page: this machine alone, two addresses, and the page of what is stored now."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.fake_cells import output
from support.served import serving
from support.stored_cells import cell_of
from support.stored_pages import PROVENANCE

from harness.errors import HarnessError
from harness.reports.live.runs import LiveRuns, mark_of
from harness.reports.live.server import ADDRESS, Server
from harness.reports.page.document import page
from harness.runs.plan import Cell, Plan
from harness.runs.store import CellStore
from harness.runs.store.record import load_cells, record

DONE, LEFT = cell_of("best"), cell_of("worse")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    record(folder, Plan("run", (DONE, LEFT)))
    finish(folder, DONE)
    return folder


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    with serving(LiveRuns(lambda: [folder], 0.1)) as server:
        yield server


def asked(
    server: Server, target: str, verb: str = "GET", **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    """Status, content and headers; the target is sent as it is."""
    connection = http.client.HTTPConnection(ADDRESS, server.server_port, timeout=20)
    connection.putrequest(verb, target, skip_host=True)
    for name, value in {"Host": f"{ADDRESS}:{server.server_port}", **headers}.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content, dict(answer.getheaders())


def finish(folder: Path, cell: Cell = LEFT) -> None:
    CellStore(folder).publish(cell.id, output(cell), PROVENANCE)


def test_the_page_is_that_of_the_stored_cells(server: Server, folder: Path) -> None:
    status, content, headers = asked(server, "/")
    assert status == 200
    assert content.decode() == page(load_cells(folder), live=mark_of([folder]))
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cache-Control"] == "no-store"
    assert b"connect-src 'self'" in content
    assert b"connect-src" not in page(load_cells(folder)).encode()
    assert asked(server, "/", "HEAD")[:2] == (200, b"")


def test_it_is_built_again_only_when_a_cell_finished(server: Server, folder: Path) -> None:
    first = asked(server, "/")[1]
    assert asked(server, "/")[1] == first
    assert server.runs.builds == 1
    finish(folder)
    second = asked(server, "/")[1]
    assert second.decode() == page(load_cells(folder), live=mark_of([folder])) != first.decode()
    assert server.runs.builds == 2


def test_the_state_says_how_far_the_run_is(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.reports.live.runs.LOOK_SECONDS", 0.0)
    (folder / "run.log").write_text("2026-01-01T00:00:00 old\n2026-01-01T00:00:01 step 3\x1b[2J\n")
    state = json.loads(asked(server, "/state")[1])
    line = "step 3\\x1b[2J"
    run = {"name": "run", "done": 1, "failed": 0, "left": 1, "line": line}
    assert state["runs"] == [run]
    assert state["mark"] == mark_of([folder])
    CellStore(folder).fail(LEFT.id, LEFT.labels(), "why")
    failed = json.loads(asked(server, "/state")[1])
    assert failed["runs"] == [{**run, "failed": 1, "left": 0}]
    finish(folder)
    done = json.loads(asked(server, "/state")[1])
    assert done["runs"] == [{**run, "done": 2, "left": 0}]
    assert len({state["mark"], failed["mark"], done["mark"]}) == 3


def test_many_looks_are_one(folder: Path) -> None:
    looks = 0

    def folders() -> list[Path]:
        nonlocal looks
        looks += 1
        return [folder]

    live = LiveRuns(folders, 0.1)
    assert live.state() == live.state()
    assert looks == 1


ESCAPES = (
    "/plan.json",
    "/run.log",
    "/run/plan.json",
    "/../plan.json",
    "/%2e%2e/plan.json",
    "/..%2fplan.json",
    "/%252e%252e/plan.json",
    "/..\\plan.json",
    "//etc/passwd",
    "/etc/passwd",
    "/state/../plan.json",
    "/link",
    "/?",
    "/state?x",
    "file:///etc/passwd",
    "http://127.0.0.1/",
    "*",
)


@pytest.mark.parametrize("target", ESCAPES)
def test_no_file_is_served(server: Server, folder: Path, target: str) -> None:
    (folder / "link").symlink_to("/etc/passwd")
    status, content, _ = asked(server, target)
    assert (status, content) == (404, b"only / is served\n")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "localhost:1", "", "[::1]"]
)
def test_other_names_of_this_machine_are_refused(server: Server, host: str) -> None:
    for target in ("/", "/state"):
        status, content, _ = asked(server, target, Host=host.format(port=server.server_port))
        assert status == 403
        assert b"run" not in content.replace(b"server", b"")
    assert asked(server, "/", Host=f"LOCALHOST:{server.server_port}")[0] == 200


def test_two_hosts_and_none_are_refused(server: Server) -> None:
    own = f"Host: {ADDRESS}:{server.server_port}\r\n"
    for hosts in (own + "Host: evil.example\r\n", ""):
        with socket.create_connection((ADDRESS, server.server_port), timeout=20) as link:
            link.sendall(f"GET / HTTP/1.0\r\n{hosts}\r\n".encode())
            assert b" 403 " in link.makefile("rb").readline()


@pytest.mark.parametrize("verb", ["POST", "PUT", "DELETE", "OPTIONS", "<script>"])
def test_nothing_can_be_changed(server: Server, folder: Path, verb: str) -> None:
    before = mark_of([folder])
    status, content, _ = asked(server, "/", verb)
    assert status == 501
    assert b"<script>" not in content
    assert mark_of([folder]) == before


def test_it_listens_on_this_machine_alone(server: Server) -> None:
    assert server.socket.getsockname()[0] == ADDRESS


def test_a_taken_port_is_one_clear_error(server: Server, folder: Path) -> None:
    port = server.server_port
    with pytest.raises(HarnessError, match=f"port {port} is taken.*--port"):
        Server(LiveRuns(lambda: [folder], 0.1), port)


def test_a_damaged_record_is_said_and_looked_at_again(server: Server, folder: Path) -> None:
    plan = folder / "plan.json"
    text = plan.read_text()
    plan.write_text(text.replace("toy", "\x1b<b>"))
    status, content, headers = asked(server, "/")
    assert status == 500
    assert headers["Content-Type"].startswith("text/plain")
    assert b"plan.json" in content
    assert b"\x1b" not in content
    assert int(headers["Refresh"]) > 0
    assert "plan.json" in json.loads(asked(server, "/state")[1])["error"]
    plan.write_text(text)
    assert asked(server, "/")[0] == 200


def test_a_run_that_goes_is_said(
    server: Server, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As when results are moved below an open page, after the server has listed them."""
    plan, away = folder / "plan.json", folder / "away"
    plan.rename(away)
    status, content, _ = asked(server, "/")
    assert (status, content) == (500, f"error: {plan} is gone\n".encode())
    assert json.loads(asked(server, "/state")[1])["error"] == f"{plan} is gone"
    away.rename(plan)
    assert asked(server, "/")[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_a_cell_that_goes_while_it_is_read_is_damaged_for_a_moment(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells, away, read = folder / "cells", folder / "away", CellStore.read

    def removing(store: CellStore, cell_id: str) -> Any:
        if cells.exists():
            cells.rename(away)
        return read(store, cell_id)

    monkeypatch.setattr(CellStore, "read", removing)
    status, content, _ = asked(server, "/")
    assert status == 200
    assert b"1 damaged" in content
    monkeypatch.undo()
    away.rename(cells)
    assert asked(server, "/")[1].decode() == page(load_cells(folder), live=mark_of([folder]))

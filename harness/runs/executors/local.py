"""The executor for one machine: workers in processes of their own, or in this one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from harness.runs.executors.session import RunSummary, Session, Settings
from harness.runs.executors.worker import Event, work, worker_process
from harness.runs.plan import Plan
from harness.runs.store import CellStore


@dataclass(frozen=True)
class LocalExecutor:
    """Workers on this machine: this process for one job, else `jobs` processes."""

    jobs: int = 1

    def run(self, plan: Plan, store: CellStore, settings: Settings) -> RunSummary:
        """Compute the plan's cells; an interrupt stops the workers and leaves a clean store."""
        session = Session(plan, store, settings)
        todo = len(session.open_cells())
        if todo:
            try:
                if min(self.jobs, todo) == 1:
                    work(session.job(), session.tell, session.stopped)
                else:
                    _Pool(session, min(self.jobs, todo)).run()
            finally:
                store.clean()
        return session.summary()


@dataclass
class _Member:
    process: SpawnProcess
    pipe: Connection
    cell_id: str | None = None  # being computed
    ended: bool = False


class _Pool:
    """A pool of worker processes: a worker that dies fails its cell, never the run."""

    def __init__(self, session: Session, size: int) -> None:
        self.session = session
        self.size = size
        self.members: list[_Member] = []
        self.idle_deaths = 0
        self.told_stop = False

    def run(self) -> None:
        try:
            for share in range(self.size):
                self._start(share)
            while self.members:
                self._step()
        finally:
            self._end_all()

    def _start(self, share: int) -> None:
        # As `harness/__init__.py` does, also where torch was imported before the harness.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        context = get_context("spawn")
        mine, theirs = context.Pipe()
        job = self.session.job(share, self.size)
        process = context.Process(target=worker_process, args=(job, theirs), daemon=True)
        process.start()
        theirs.close()
        self.members.append(_Member(process, mine))

    def _step(self) -> None:
        waitable: list[Connection | int] = []
        for member in self.members:
            waitable += [member.pipe, member.process.sentinel]
        ready = set(wait(waitable))
        for member in list(self.members):
            if member.pipe in ready or member.process.sentinel in ready:
                self._listen(member)
        if self.session.stopped() and not self.told_stop:
            self.told_stop = True
            for member in self.members:
                self._ask_to_stop(member)

    def _listen(self, member: _Member) -> None:
        alive = member.process.is_alive()  # asked first: what it sent before dying is read below
        try:
            while member.pipe.poll():
                self._take(member, member.pipe.recv())
        except (EOFError, OSError):
            # Its end of the pipe is closed: it has ended or is about to.
            member.process.join()
            alive = False
        if not alive:
            self.members.remove(member)
            member.process.join()
            member.pipe.close()
            if not member.ended:
                self._mourn(member)

    def _take(self, member: _Member, event: Event) -> None:
        if event.kind == "end":
            member.ended = True
            return
        if event.kind == "start":
            member.cell_id = event.cell_id
        elif event.kind in ("done", "failed"):
            member.cell_id = None
        self.session.tell(event)

    def _mourn(self, member: _Member) -> None:
        """Record the cell that died with its worker, and put another worker in its place."""
        code = member.process.exitcode
        died = f"killed by signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        if member.cell_id is None:
            self.idle_deaths += 1
            if self.idle_deaths > self.size:
                raise RuntimeError(f"worker processes keep ending before they compute ({died})")
        else:
            self._record_death(member.cell_id, f"its worker process died: {died}")
        if self.session.open_cells() and not self.session.stopped():
            self._start(len(self.members))

    def _record_death(self, cell_id: str, reason: str) -> None:
        store = self.session.store
        with store.claim(cell_id) as held:
            # Not held: another worker is already computing it anew.
            if held and not store.has(cell_id):
                store.fail(cell_id, self.session.titles[cell_id].labels(), reason)
                self.session.tell(Event("failed", cell_id, reason))

    def _ask_to_stop(self, member: _Member) -> None:
        try:
            member.pipe.send("stop")
        except OSError:
            member.ended = True  # it has just finished

    def _end_all(self) -> None:
        for member in self.members:
            member.process.terminate()
        for member in self.members:
            member.process.join(5)
            if member.process.is_alive():
                member.process.kill()
                member.process.join()
            member.pipe.close()

"""All that is asked of Ray: a connection, tasks with their resources, and what becomes of them.

Ray tries a task again whose worker or node died, never one that raised an error.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import harness
from harness.errors import HarnessError
from harness.runs.executors.ray.remote import Broken, Desk
from harness.runs.executors.worker import Event
from harness.runs.plan import Cell
from harness.runs.store.cells import error_note

Ref = Any
"""A handle on a value of the cluster that may not exist yet."""

ENDING_SECONDS = 10.0
"""How long nodes are waited for that remove their folders of a run."""

ANSWER_SECONDS = 10.0
"""How long an address may take to answer."""

_PASSED_ON = ("OMP_WAIT_POLICY", "OPENBLAS_NUM_THREADS")


@contextmanager
def connected(address: str | None, retries: int) -> Iterator[Cluster]:
    """Connect to the cluster at an address; None: that of RAY_ADDRESS, else one of this machine.

    The package goes with the connection, so that nodes need not have it. `retries`: how often a
    task is tried again whose worker died. Raises `HarnessError` without Ray or a cluster.
    """
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    # Both are read when Ray is imported.
    os.environ.setdefault("RAY_task_oom_retries", str(retries))
    if address.startswith("ray://") and has_token():
        # On a machine of the cluster Ray looks for a token by itself.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
    except ImportError as error:
        raise HarnessError(
            "the executor ray needs the `ray` package; install it with: "
            "pip install 'circuit-harness[ray]'"
        ) from error
    logging.getLogger("ray").setLevel(logging.ERROR)
    _refuse_silent(address)
    own: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(
            address=address,
            runtime_env=_environment(),
            log_to_driver=False,
            logging_level=logging.ERROR,
            **own,
        )
    except (OSError, RuntimeError, ValueError) as error:
        first = str(error).strip().partition("\n")[0]
        raise HarnessError(f"cannot connect to a Ray cluster at {address!r}: {first}") from error
    try:
        cluster = Cluster(retries)
        try:
            yield cluster
        finally:
            cluster.leave()
    finally:
        ray.shutdown()


def has_token() -> bool:
    """Whether there is a token where Ray looks for one."""
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    file = Path(named) if named else Path.home() / ".ray" / "auth_token"
    return "RAY_AUTH_TOKEN" in os.environ or file.is_file()


def _refuse_silent(address: str) -> None:
    """Refuse an address where nobody answers (`HarnessError`): Ray would try for minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon:
        return  # `local` and `auto`
    try:
        socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        raise HarnessError(
            f"cannot connect to a Ray cluster at {address!r}: {error}; give ray://HOST:PORT of its "
            "client server, or set RAY_ADDRESS to HOST:PORT on a machine of the cluster"
        ) from error


def _environment() -> dict[str, Any]:
    """What workers get: this package, and the variables that are read when numpy is imported."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return {
        "py_modules": [str(Path(harness.__file__).parent)],
        "excludes": ["__pycache__", "*.pyc"],
        "env_vars": {name: os.environ[name] for name in _PASSED_ON if name in os.environ},
    }


class _Mailbox:
    """Holds the events of workers until the driver asks for them."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def put(self, event: Event) -> None:
        self.events.append(event)

    def take(self) -> list[Event]:
        events, self.events = self.events, []
        return events


@dataclass(frozen=True)
class Died:
    """A task whose worker died too often; `text` says how."""

    text: str


class Cluster:
    """A connection to a cluster, for one run."""

    def __init__(self, retries: int) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._ray: Any = ray
        self._on = NodeAffinitySchedulingStrategy
        self.retries = retries
        self.run = uuid4().hex[:12]
        here = ray.get_runtime_context().get_node_id()
        box = ray.remote(_Mailbox).options(num_cpus=0, scheduling_strategy=self._on(here, False))
        self._mailbox: Any = box.remote()
        self._task = ray.remote(_perform)

    def refuse_unable(self, cells: Sequence[Cell]) -> None:
        """Refuse cells that no node can compute, for which Ray would wait (`HarnessError`)."""
        nodes = self._nodes()
        cpus = max((int(one.get("CPU", 0)) for one in nodes.values()), default=0)
        has_gpu = any(one.get("GPU") for one in nodes.values())
        for cell in cells:
            if cell.runtime.device == "cuda" and not has_gpu:
                raise HarnessError(f"{cell.title()} needs a GPU; no node of the cluster has one")
            if cell.runtime.threads > cpus:
                raise HarnessError(
                    f"{cell.title()} has {cell.runtime.threads} threads, and no node of the "
                    f"cluster has more than {cpus} CPUs; give fewer with --threads"
                )

    def cpus(self) -> int:
        """CPUs of all nodes at this moment."""
        return int(sum(one.get("CPU", 0) for one in self._nodes().values()))

    def put(self, value: Any) -> Ref:
        """Hand a value to the cluster once, for any number of tasks."""
        return self._ray.put(value)

    def submit(self, function: Callable[..., Any], desk: Desk, cell: Cell, *values: Any) -> Ref:
        """Have a function of `remote` called with a cell and values, some of which may be refs."""
        gpus = 1 if cell.runtime.device == "cuda" else 0
        task = self._task.options(
            num_cpus=cell.runtime.threads, num_gpus=gpus, max_retries=self.retries
        )
        return task.remote(self.run, self._mailbox, function, desk, cell, *values)

    def finished(self, refs: Sequence[Ref], seconds: float) -> list[Ref]:
        """Those whose task has ended; waits until one has, or the seconds are over."""
        done, _ = self._ray.wait(list(refs), timeout=seconds)
        return list(done)

    def result(self, ref: Ref) -> Any:
        """What a finished task returned: `Died` if its workers did, `Broken` if it never began."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(ref)
        except errors.RayTaskError as error:
            cause = error.as_instanceof_cause()
            return Broken(error_note(cause), str(error).strip().rpartition("\n")[2])
        except errors.RayError as error:
            kind, first = type(error).__name__, str(error).strip().partition("\n")[0]
            return Died(f"its worker died {self.retries + 1} times: {kind}: {first}")

    def events(self) -> list[Event]:
        """What workers have said since the last call."""
        events: list[Event] = self._ray.get(self._mailbox.take.remote())
        return events

    def cancel(self, refs: Sequence[Ref], *, force: bool) -> None:
        """Take back tasks that have not begun; with `force`, also end those that have."""
        for ref in refs:
            self._ray.cancel(ref, force=force)

    def leave(self) -> None:
        """Have the folders of this run removed from all nodes that are there."""
        clean = self._ray.remote(_clean)
        asked = [
            clean.options(num_cpus=0, scheduling_strategy=self._on(node, False)).remote(self.run)
            for node in self._nodes()
        ]
        self._ray.wait(asked, num_returns=len(asked), timeout=ENDING_SECONDS)

    def _nodes(self) -> Mapping[str, Mapping[str, float]]:
        """Resources of all nodes that are alive, by id."""
        return {one["NodeID"]: one["Resources"] for one in self._ray.nodes() if one["Alive"]}


def _place(run: str) -> Path:
    """The folder of a run on this node; nodes may share a disk."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    return Path(tempfile.gettempdir()) / f"harness-ray-{run}-{node[:12]}"


def _perform(run: str, mailbox: Any, function: Callable[..., Any], desk: Desk, *values: Any) -> Any:
    """On a worker: call a function at a desk, and send what it tells to the mailbox."""

    def tell(event: Event) -> None:
        mailbox.put.remote(event)

    return function(desk.at(_place(run)), tell, *values)


def _clean(run: str) -> None:
    shutil.rmtree(_place(run), ignore_errors=True)

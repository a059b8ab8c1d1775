"""The processes that share the prompts of one run, and everything they say to each other.

`torchrun -m harness run …` starts several processes. Each computes its share of the rows of every
batch; sums over prompts are then added up over all of them, so that all hold the same numbers and
take the same decisions. Process 0 alone locks, stores and prints. Until `joined()`, and in a run of
one process, every function here is that of one process and changes no number.

Before each exchange the processes compare in a few bytes what they are about to do. So a process
that fails is an error in all of them (`agreed`), and two that do different things are told apart
from two that compute; neither waits for ever.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, TypeVar
from zlib import crc32

from harness.errors import HarnessError
from harness.launcher import is_restarted, launched

if TYPE_CHECKING:
    from torch import Tensor

PATIENCE = timedelta(days=30)
"""How long a process waits for the others: process 0 may train a model meanwhile. One that dies is
noticed at once, by its closed connection."""

Value = TypeVar("Value")


class RankLost(BaseException):
    """Another process of the run is gone, so that this one cannot go on; no failure of a cell."""

    exit_code = 1


class _FailedElsewhere(BaseException):
    """Another process failed in what all are doing (`agreed` says what)."""


@dataclass
class _Joined:
    rank: int = 0
    world: int = 1
    is_alone: bool = False  # inside `turns`, where the others are not listening
    has_threads: bool = False  # of torch's process groups, which may live as long as the process


_group = _Joined()


# ---------------------------------------------------------------- who is there
@contextmanager
def joined() -> Iterator[None]:
    """Be one of the launched processes inside the block, with all functions of this module.

    Raises `RankLost` if the others do not come, `HarnessError` in processes that torchrun has
    restarted: these wait for connections of the dead, now and then for ever.
    """
    if launched() == 1:
        yield
        return
    if is_restarted():
        raise HarnessError(
            "a process of this run died, and torchrun restarted all, which may then not find each "
            "other; leave out --max-restarts and run the same command again, which resumes"
        )
    import torch
    import torch.distributed as dist

    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with _connected():
        dist.init_process_group(backend, timeout=PATIENCE)
    _group.rank, _group.world = dist.get_rank(), dist.get_world_size()
    _group.has_threads = True
    try:
        yield
    finally:
        _group.rank, _group.world = 0, 1
    dist.destroy_process_group()  # not after an error: the others may be gone


def has_threads() -> bool:
    """Whether this process has joined others, so that torch's threads may live as long as it."""
    return _group.has_threads


@contextmanager
def single() -> Iterator[None]:
    """Be a run of one process inside the block, as if none had been launched."""
    rank, world = _group.rank, _group.world
    _group.rank, _group.world = 0, 1
    try:
        yield
    finally:
        _group.rank, _group.world = rank, world


def world() -> int:
    """Processes that share the prompts; 1 until they have `joined`."""
    return _group.world


def rank() -> int:
    """The number of this process among them, from 0."""
    return _group.rank


def is_first() -> bool:
    """Whether this process is the one that locks, stores and prints."""
    return _group.rank == 0


# ---------------------------------------------------------------- rows of a batch
class _Takes(Protocol):
    def __len__(self) -> int: ...
    def take(self, rows: Tensor) -> Self: ...


AnyRows = TypeVar("AnyRows", bound=_Takes)


def share(count: int) -> range:
    """This process's rows of `count`: neighbours, as many as any other or one less; maybe none."""
    least, more = divmod(count, _group.world)
    start = _group.rank * least + min(_group.rank, more)
    return range(start, start + least + (_group.rank < more))


def largest_share(count: int) -> int:
    """Rows of the process that has most of `count`."""
    return -(-count // _group.world)


def rows_to_run(count: int) -> range:
    """This process's share; where it has none, the first row, which then counts for nothing."""
    return share(count) or range(1)


def own(rows: AnyRows) -> AnyRows:
    """This process's share of a batch; all of it for one process.

    Where it has none, the first row, which must count for nothing (`has_rows`): all processes run
    equally many passes, and none of them is of nothing.
    """
    if _group.world == 1:
        return rows
    import torch

    mine = rows_to_run(len(rows))
    return rows.take(torch.arange(mine.start, mine.stop))


def has_rows(count: int) -> bool:
    """Whether this process has a share of `count` rows."""
    return len(share(count)) > 0


class OwnPart(NamedTuple):
    """Rows of the own share, numbered from 0, that run together; those that do not count are none
    of this process's, and run so that all processes run equally many passes.
    """

    rows: Tensor
    counts: bool


def parts(count: int, at_once: int) -> list[OwnPart]:
    """This process's share of `count` rows in parts of at most `at_once`: equally many in all."""
    import torch

    rows = torch.arange(len(share(count)))
    times = max(1, -(-largest_share(count) // at_once))
    some = [rows[part * at_once : (part + 1) * at_once] for part in range(times)]
    return [OwnPart(one if len(one) else torch.arange(1), len(one) > 0) for one in some]


# ---------------------------------------------------------------- exchanges
def summed(values: Tensor) -> Tensor:
    """The sum over all processes of a tensor that each has: the same bits in all of them."""
    if _group.world == 1:
        return values
    import torch.distributed as dist

    _meet(f"sum {values.dtype} {tuple(values.shape)}")
    total = values.detach().clone().contiguous()
    with _connected():
        dist.all_reduce(total)
    return total


def broadcast(value: Value) -> Value:
    """What process 0 has; the others' value is not looked at."""
    if _group.world == 1:
        return value
    import torch.distributed as dist

    _meet("broadcast")
    box = [value]
    with _connected():
        dist.broadcast_object_list(box, src=0)
    return box[0]


def gathered(value: Value) -> list[Value]:
    """What each process has, in their order."""
    if _group.world == 1:
        return [value]
    _meet("gather")
    return _all(value)


def require_equal(what: str, tensors: Iterable[Tensor]) -> None:
    """Refuse tensors that are not the same bits in all processes (`HarnessError`)."""
    if _group.world == 1:
        return
    import torch

    seen = sha256()
    for tensor in tensors:
        seen.update(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
        seen.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    digests = gathered(seen.hexdigest())
    if others := [place for place, one in enumerate(digests) if one != digests[0]]:
        raise HarnessError(
            f"{what} are not the same in all processes: those of process "
            f"{', '.join(map(str, others))} differ from those of process 0. Run on machines of "
            "one kind, with one version of torch"
        )


@contextmanager
def turns(what: str) -> Iterator[None]:
    """Process 0 goes through the block, in which nothing is exchanged, and then all others do."""
    if _group.world == 1:
        yield
        return
    if not is_first():
        _meet(what)
    _group.is_alone = True
    try:
        yield
    finally:
        _group.is_alone = False
    if is_first():
        _meet(what)


def agreed(what: str, function: Callable[[], Value]) -> Value:
    """Do something in all processes; an error in any of them is raised in all.

    A process that did not fail raises `HarnessError` with the text of the first that did. Not for
    use inside `function`.
    """
    if _group.world == 1:
        return function()
    error: Exception | None = None
    try:
        value = function()
        _meet(f"end of {what}")
    except _FailedElsewhere:
        pass
    except Exception as raised:
        error = raised
        _meet("", failed=True)
    else:
        return value
    note = None if error is None else _FailedRank.of(error)
    failures = [one for one in _all(note) if one is not None]
    raise error if error is not None else failures[0].error()


class _FailedRank(NamedTuple):
    """An error of another process, which may be of a class that cannot be sent."""

    rank: int
    text: str
    traceback: str

    @classmethod
    def of(cls, error: Exception) -> _FailedRank:
        is_own = isinstance(error, HarnessError)
        text = str(error) if is_own else f"{type(error).__name__}: {error}"
        return cls(_group.rank, text, "".join(traceback.format_exception(error)))

    def error(self) -> HarnessError:
        error = HarnessError(f"process {self.rank} of {_group.world}: {self.text}")
        error.add_note(f"In process {self.rank}:\n{self.traceback}")
        return error


def meet(what: str) -> None:
    """Wait until all processes are about to do `what`, which is an exchange of another's code."""
    if _group.world > 1:
        _meet(what)


def _meet(what: str, *, failed: bool = False) -> None:
    """Wait until all processes are about to do `what`.

    Raises `_FailedElsewhere` if one has failed instead, `RuntimeError` if one does something else.
    """
    import torch
    import torch.distributed as dist

    if _group.is_alone:
        raise RuntimeError(f"{what!r} where the other processes wait for this one")
    code = crc32(what.encode())
    note = torch.tensor([int(failed), code, -code], dtype=torch.int64)
    with _connected():
        dist.all_reduce(note, dist.ReduceOp.MAX)
    any_failed, largest, smallest = note.tolist()
    if any_failed and not failed:
        raise _FailedElsewhere
    if not any_failed and largest != -smallest:
        raise RuntimeError(f"the processes of this run do different things: this one {what!r}")


def _all(value: Value) -> list[Value]:
    import torch.distributed as dist

    values: list[Any] = [None] * _group.world
    with _connected():
        dist.all_gather_object(values, value)
    return values


@contextmanager
def _connected() -> Iterator[None]:
    """What torch says of a closed connection becomes `RankLost`."""
    try:
        yield
    except RuntimeError as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RankLost(
            f"another process of this run is gone ({reason}); finished cells are kept, and the "
            "same command resumes"
        ) from error

"""Several processes that train together: forks of this one, which is their torchrun and holds the store where they meet.

    first, second = together(2, lambda team: team.sum(team.rank + 1.0))      # what each of them gives
    dones = torchrun(2, ["train", "--data", ...])                            # `minilm` in each of them

Nobody hangs here: who is not done in time is killed, and says where it was.
"""

import importlib
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import striking
import torch
import torch.distributed as dist
from faults import Child
from striking import Done

from minilm.training.distributed import Team, join

WATCHDOG = 30.0  # seconds after which a group of processes hangs
importlib.import_module("torch._dynamo")  # DistributedDataParallel needs it: once here, and not in every child
importlib.import_module("torch.distributed.fsdp")


def start(size: int, task: Callable[[int], int | None], room: Path) -> list[Child]:
    """Start `task(rank)` in so many processes, in an environment as torchrun makes it. They print into the room."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=WATCHDOG))

    gate, opened = os.pipe()

    def in_its_place(rank: int) -> int | None:
        os.close(opened)
        os.read(gate, 1)  # until all are there: no fork while the store's thread is at work
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.port}
        torchrun = {"TORCHELASTIC_USE_AGENT_STORE": True, "TORCHELASTIC_RESTART_COUNT": 0}
        os.environ.update({name: str(value) for name, value in {**place, **meeting, **torchrun}.items()})
        return task(rank)

    children = [Child(lambda rank=rank: in_its_place(rank), room / f"{rank}.txt") for rank in range(size)]
    os.close(opened)
    os.close(gate)
    for child in children:
        child.store = store  # it lives as long as they do
    return children


def together(size: int, task: Callable[[Team], Any], lost: int | None = None, **how: Any) -> list[Any]:
    """What `task` gives in each of the processes of a team, anything that JSON can hold. An error in one is an error here.

    `lost` is a process that gives no answer, for it is killed or stopped; the others then end without a farewell.
    """
    with tempfile.TemporaryDirectory() as name:
        room = Path(name)

        def work(rank: int) -> None:
            with join(torch.device("cpu"), **how) as team:
                (room / f"{rank}.json").write_text(json.dumps(task(team)))
                if lost is not None:
                    os._exit(0)

        children = start(size, work, room)
        ranks = [rank for rank in range(size) if rank != lost]
        with none_left(children):
            codes = [children[rank].wait(WATCHDOG) for rank in ranks]
        said = [child.output.read_text() for child in children]
        assert not any(codes), "\n".join([str(codes), *said])
        return [json.loads((room / f"{rank}.json").read_text()) for rank in ranks]


@contextmanager
def none_left(children: Sequence[Child]) -> Iterator[None]:
    """Afterwards none of the children is there, whether it was stopped, hangs, or has ended long ago."""
    try:
        yield
    finally:
        for child in children:
            with suppress(ChildProcessError):  # its end has been seen: the number may be another's by now
                if os.waitpid(child.pid, os.WNOHANG) == (0, 0):
                    os.kill(child.pid, signal.SIGKILL)
                    os.waitpid(child.pid, 0)


def torchrun(
    size: int,
    arguments: Sequence[str],
    strikes: dict[int, dict[str, Any]] | None = None,
    prepare: Callable[[int], None] = lambda rank: None,
) -> list[Done]:
    """Run `minilm` with these arguments in so many processes; strikes by rank, as in `striking`, after `prepare(rank)`."""
    with tempfile.TemporaryDirectory() as name:
        room = Path(name)
        rooms = [room / str(rank) for rank in range(size)]
        for each in rooms:
            each.mkdir()

        def command(rank: int) -> int:
            prepare(rank)
            return striking.command(list(arguments), rooms[rank], (strikes or {}).get(rank), False, ())

        children = start(size, command, room)
        with none_left(children):
            codes = ends(children)
        said = [[(each / stream).read_text() for stream in ("stdout", "stderr")] for each in rooms]
        crashes = [(room / f"{rank}.txt").read_text() for rank in range(size)]
        return [Done(code, out, err + crash, []) for code, (out, err), crash in zip(codes, said, crashes, strict=True)]


def ends(children: Sequence[Child]) -> list[int]:
    """The exit codes. As torchrun does it, where one fails the others are asked to end."""
    latest, codes = time.monotonic() + WATCHDOG, dict[int, int]()
    while len(codes) < len(children) and time.monotonic() < latest:
        for child in children:
            if child.pid not in codes and (found := os.waitpid(child.pid, os.WNOHANG))[0]:
                codes[child.pid] = os.waitstatus_to_exitcode(found[1])
                if codes[child.pid] and list(map(bool, codes.values())).count(True) == 1:
                    time.sleep(0.1)  # it looks ten times a second
                    for other in children:
                        if other.pid not in codes:
                            os.kill(other.pid, signal.SIGTERM)
        time.sleep(0.01)
    return [codes[child.pid] if child.pid in codes else child.wait(0.0) for child in children]

"""`minilm train` under torchrun: one of the processes speaks for all, and what one of them prepares, all read."""

import contextlib
import io
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minilm.cli.run_folder import RunStopped
from minilm.runtime import place
from minilm.training.storage import newest_first, step_of

SAME_ERROR = 3.0  # seconds in which all processes come to the same error


@contextmanager
def one_voice() -> Iterator[None]:
    """Inside, of the processes that torchrun has started only the first is heard, unless another one has reason to `speak`.

    The others have nothing to put in order either: but for the end of a step, a signal ends them without a word.
    """
    if place()[0] == 0:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with contextlib.redirect_stdout(Unheard(sys.stdout)), contextlib.redirect_stderr(Unheard(sys.stderr)):
        yield


class Unheard(io.TextIOBase):
    """Where a process writes to that is not heard; `voice` is where it would be."""

    def __init__(self, voice: Any) -> None:
        self.voice = voice

    def write(self, text: str) -> int:
        return len(text)


def after_the_first() -> None:
    """Before a complaint of another process: mostly the first has the same, says it and ends, and torchrun ends all."""
    if isinstance(sys.stderr, Unheard):
        time.sleep(SAME_ERROR)
        speak(True)


def speak(now: bool) -> None:
    """Whether this process is heard from here on, where it ends by an error."""
    if not now:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (until the end of the process)
    elif isinstance(sys.stderr, Unheard):
        sys.stderr = sys.stderr.voice


def refuse_several(what: str) -> None:
    """ValueError under torchrun, for what one process does alone."""
    n_processes = place()[1]
    if n_processes > 1:
        raise ValueError(f"torchrun has started {n_processes} processes, and {what}: leave torchrun out")


def check_shard(planned: bool, compiled: bool, samples: int) -> None:
    """ValueError where a model cannot be shared out by --shard: its steps are still to be planned, or it is needed whole."""
    if place()[1] == 1:
        raise ValueError("--shard shares out a model among the processes of torchrun: start several, or leave it out")
    if planned:
        raise ValueError("--shard goes by --steps: what fits into --minutes is measured with whole models")
    if compiled or samples:
        option = "--compile changes" if compiled else "--sample-every reads"
        raise ValueError(
            f"{option} the whole model, of which with --shard each process has a part: leave one of them out"
        )


def by_the_first(context: Any) -> Any:
    """The context in the process that leads, nothing in the others."""
    return context if place()[0] == 0 else contextlib.nullcontext()


def device_of(name: str) -> Any:
    """`pick_device`; of the GPUs of a machine each process takes its own. ValueError if there are too few."""
    import torch

    from minilm.runtime import pick_device

    device, (rank, size) = pick_device(name), place()
    several = size > 1
    if several and device.type == "mps":
        raise ValueError("several processes cannot share an Apple GPU: add --device cpu, or leave torchrun out")
    if not several or device.type != "cuda":
        return device
    n_processes, n_gpus = int(os.environ.get("LOCAL_WORLD_SIZE", size)), torch.cuda.device_count()
    if n_processes > n_gpus:
        raise ValueError(f"{n_processes} processes need as many GPUs, here are {n_gpus}: --nproc-per-node {n_gpus}")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", rank)))


@contextmanager
def crew_of(out: Path, device: Any, shard: bool = False) -> Iterator[Any]:
    """Who trains in the folder `out`: this process alone, or a team of all that torchrun has started, each with a copy of the
    model or, with `shard`, with a part.
    """
    from minilm.training.crew import ALONE, LostProcess

    if place()[1] == 1:
        yield ALONE
        return
    from minilm.training.distributed import Team, join
    from minilm.training.sharded import ShardedTeam

    team = None
    try:
        with join(device, ShardedTeam if shard else Team) as team:
            yield team
    except LostProcess as lost:
        speak(lost.speaks)
        steps = newest_first(out)
        left = f"the run is whole up to step {step_of(steps[0])}, go on with --resume {out}" if steps else "begin anew"
        raise RunStopped(f"{lost}: {left}", 3) from None
    except BaseException:
        if team is not None:
            speak(team.first_to_say())
        raise


def tokenizer_of(crew: Any, learn: Callable[[], Any]) -> Any:
    """The tokenizer that `learn` gives, learnt once."""
    from minilm.text.tokenizer import tokenizer_from_dict

    if not crew.leads:
        return tokenizer_from_dict(crew.lead(dict))
    tokenizer = learn()
    crew.lead(tokenizer.to_dict)
    return tokenizer


def text_of(crew: Any, prepare: Callable[[], Any], tokenizer: Any, files: list[Path]) -> Any:
    """What `prepare` gives, prepared once: the others open its files."""
    from minilm.text.token_file import verify_token_file
    from minilm.training.prepare import Prepared

    prepared = prepare() if crew.leads else None
    crew.lead(lambda: None)  # by now the files are there
    return prepared or Prepared(tokenizer, *(verify_token_file(file, tokenizer) for file in files))

"""The folder of a run, as `train` and `finetune` treat it: begun, gone on with, and left in order by what stops a training."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from minilm.cli.options import as_started, fresh_directory, whole_or_nothing
from minilm.training.lock import LOCK, lock_run
from minilm.training.storage import newest_first, step_of

Plan = TypeVar("Plan")
TOKENS = ("train.tokens", "validation.tokens")  # the two sides of the text, in the folder of the run


class RunStopped(ValueError):
    """A training that could not go on: one line that says what is left and what to do, and the exit code of the command."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@contextmanager
def new_run(out: Path, kept: str = "step-*") -> Iterator[None]:
    """The folder of a new run, which this process alone fills. After an error it is as before, unless it holds a checkpoint, or
    what else a run can go on from: a file that is `kept`."""
    if not (out / LOCK).exists():
        fresh_directory(str(out))  # no lock is put where it does not belong
    existed = out.exists()
    try:
        with lock_run(out):
            fresh_directory(str(out))
            with whole_or_nothing(out, kept):
                yield
    except BaseException:
        if not existed:
            with contextlib.suppress(OSError):  # what holds a checkpoint stays
                out.rmdir()
        raise


@contextmanager
def in_order(verb: str, out: Path) -> Iterator[None]:
    """What stops the training of `minilm VERB` inside becomes one line: the reason, what is left, and how to go on."""
    from minilm.training.loop import TrainingFailed

    try:
        yield
    except TrainingFailed as failure:
        if not (steps := newest_first(out)):
            raise RunStopped(str(failure), 3) from None
        left = f"this one goes on by its own plan, its checkpoint of step {step_of(steps[0])} is untouched"
        raise RunStopped(f"{failure} in a new run: {left}", 3) from None
    except OSError as error:
        if not (steps := newest_first(out)):
            raise
        again = f"minilm {verb} --resume {out}"
        what = f"{error.filename or out}: {error.strerror or error}"
        way = f"make room, or put right what is wrong, and go on with {as_started(again)}"
        raise RunStopped(f"{what}; the run is whole up to step {step_of(steps[0])}: {way}", 2) from None


def recall(checkpoint: Any, *names: str) -> dict[str, Any]:
    """What a checkpoint's state holds under these names; ValueError if one is missing."""
    for name in names:
        if name not in checkpoint.state:
            raise ValueError(f"{checkpoint.path} does not say its {name}: it can be used, but not trained further")
    return {name: checkpoint.state[name] for name in names}


def recall_plan(checkpoint: Any, name: str, config: type[Plan]) -> Plan:
    """The config that a checkpoint holds under this name."""
    try:
        return config(**recall(checkpoint, name)[name])
    except TypeError as error:
        raise ValueError(f"{checkpoint.path} has a plan that is not of this minilm ({error}): train anew") from None


def text_of_run(checkpoint: Any) -> Any:
    """Both sides of the text that a run of `minilm train` keeps in its folder; ValueError if they are not what was saved."""
    from minilm.text.token_file import verify_token_file
    from minilm.training.prepare import Prepared
    from minilm.training.verify import check_files

    folder, tokenizer = checkpoint.path.parent, checkpoint.tokenizer
    files = recall(checkpoint, "files")["files"]
    prepared = Prepared(tokenizer, *(verify_token_file(folder / name, tokenizer) for name in TOKENS))
    check_files(folder, files)
    return prepared

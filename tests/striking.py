"""Signals at any moment of a command: `minilm` in a fork of this process, which strikes itself.

    done = run(["train", ...], {"where": "minilm.training.loop:clip_grad_norm", "call": 8, "signals": [2]})

A strike is where the child sends itself signals: at the nth call of a named function (with "after": counted from the first
call of another one), or at its nth call of anything ("event": Python's profiler counts, so that a random moment can be had
again). Pictures are left out: they take longer than the training.

A `Room` holds what there is to train on, the commands of a short run, and the run that nobody disturbed.
"""

import importlib
import json
import os
import random
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from faults import Child

from minilm.cli.main import main
from minilm.models.config import GPTConfig
from minilm.models.gpt import GPT
from minilm.text.tokenizer import ByteTokenizer
from minilm.training.checkpoint import save_checkpoint
from minilm.training.storage import newest_first, verify_directory

STEPS, EVERY = 12, 5  # of a run, and between two of its checkpoints
WORDS = ("the", "a", "sea", "moon", "sings", "over", "under", "and", "cold")

PICTURES = ("minilm.plots.loss:plot_loss", "minilm.plots.classification:plot_confusion", "minilm.plots.picture:save")
TRAINING = "minilm.training.run:train_in_folder"
# What the verbs import when they are used: once here, and not in every child.
WARM = (
    "cli.train cli.finetune cli.generate cli.data cli.tokenizer cli.skilled cli.writing cli.doctor training.run "
    "training.prepare training.verify finetuning.skills finetuning.adapters finetuning.sft fast.choose fast.loss fast.attention "
    "fast.short_attention fast.bricks fast.decode models.gpt models.speedrun_gpt models.counted text.tokenizer_formats "
    "text.clean text.leaks text.stories decoding.constrained decoding.speculative decoding.beam decoding.batch plots.loss "
    "plots.classification plots.picture tasks.sentiment classical.naive_bayes classical.logistic_regression"
)
for name in WARM.split():
    importlib.import_module(f"minilm.{name}")
USUAL = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}


class Done(NamedTuple):
    """What became of a child; `events` are the profiler's counts when training began, when it ended, and of all."""

    code: int
    stdout: str
    stderr: str
    events: list[int]


def run(
    arguments: Sequence[str], strike: dict[str, Any] | None = None, count: bool = False, ignored: Sequence[int] = ()
) -> Done:
    """Run `minilm` with these arguments in a child, and wait for its end. A child that was killed has a negative code."""
    with tempfile.TemporaryDirectory() as name:
        room = Path(name)
        code = Child(lambda: command(list(arguments), room, strike, count, ignored), room / "crash").wait()
        said = [(room / stream).read_text(encoding="utf-8") for stream in ("stdout", "stderr")]
        events = json.loads((room / "events").read_text()) if count else []
        crash = (room / "crash").read_text(encoding="utf-8")
    return Done(code, said[0], said[1] + crash, events)


def command(
    arguments: list[str], room: Path, strike: dict[str, Any] | None, count: bool, ignored: Sequence[int]
) -> int:
    """What the child does."""
    sys.stdout, sys.stderr = ((room / name).open("w", encoding="utf-8") for name in ("stdout", "stderr"))
    torch.manual_seed(os.getpid())  # a process of its own has random numbers of its own
    for number, usual in USUAL.items():  # a worker of pytest ignores Ctrl-C
        signal.signal(number, signal.SIG_IGN if number in ignored else usual)
    for name in PICTURES:
        replace(name, lambda old: lambda *_, **__: None)
    events = Events()
    if strike:
        arm(strike, events)
    if count:
        replace(TRAINING, lambda old: lambda *a, **k: (events.note(), old(*a, **k), events.note())[1])
        events.watch()
    code = main(arguments)
    if count:
        events.note()
        (room / "events").write_text(json.dumps(events.noted))
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return code


class Events:
    """Calls and returns, of Python and of C, as the profiler counts them."""

    def __init__(self) -> None:
        self.count, self.noted = 0, list[int]()

    def note(self) -> None:
        self.noted.append(self.count)

    def watch(self, at: int = -1, act: Callable[[], None] = lambda: None) -> None:
        """Count from here on, and act at an event."""

        def profile(*_: object) -> None:
            self.count += 1
            if self.count == at:
                sys.setprofile(None)
                act()

        sys.setprofile(profile)


def arm(strike: dict[str, Any], events: Events) -> None:
    """Let this process send itself the signals at the moment of the strike."""

    def act() -> None:
        for number in strike["signals"]:
            os.kill(os.getpid(), number)

    if "event" in strike:
        events.watch(strike["event"], act)
        return
    left = strike["call"]
    begun = "after" not in strike

    def counted(old: Any) -> Any:
        def call(*arguments: Any, **settings: Any) -> Any:
            nonlocal left
            left -= begun
            if begun and left == 0:
                act()
            return old(*arguments, **settings)

        return call

    def begins(old: Any) -> Any:
        def call(*arguments: Any, **settings: Any) -> Any:
            nonlocal begun
            begun = True
            return old(*arguments, **settings)

        return call

    replace(strike["where"], counted)
    if "after" in strike:
        replace(strike["after"], begins)


def replace(path: str, change: Callable[[Any], Any]) -> None:
    """Put change(what is there) in the place of "module:name", where name may be Class.method."""
    module, _, name = path.partition(":")
    owner: Any = importlib.import_module(module)
    *outer, last = name.split(".")
    for step in outer:
        owner = getattr(owner, step)
    setattr(owner, last, change(getattr(owner, last)))


# ---- what is trained


class Room:
    """A text, a table and a base; the commands of a run; and, once asked for, the run that nobody disturbed."""

    def __init__(self, path: Path) -> None:
        self.path, self.known = path, dict[str, Done]()
        rng = random.Random(5)
        lines = [" ".join(rng.choices(WORDS, k=9)) for _ in range(40)]
        (path / "text.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        rows = [f"{'abcdefg'[i % 7]}{i}{'!' if i % 2 else ''},{'glad' if i % 2 else 'calm'}" for i in range(40)]
        (path / "reviews.csv").write_text("remark,mood\n" + "\n".join(rows) + "\n", encoding="utf-8")
        torch.manual_seed(1)
        model = GPT(GPTConfig(257, context_length=24, d_model=12, n_layers=1, n_heads=3, dropout=0.2))
        save_checkpoint(path / "base", model, ByteTokenizer())

    def command(self, verb: str, out: Path, *more: str) -> list[str]:
        flags = ["--steps", str(STEPS), "--save-every", str(EVERY), "--eval-every", "4", "--batch-size", "2"]
        flags += ["--threads", "1", "--json", "--out", str(out), *more]
        if verb == "finetune":
            return ["finetune", str(self.path / "base"), "--data", str(self.path / "reviews.csv"), *flags]
        shape = "--tokenizer byte --model gpt --d-model 12 --n-layers 1 --n-heads 3 --context-length 8 --dropout 0.2"
        return ["train", "--data", str(self.path / "text.txt"), *shape.split(), *flags]

    def whole(self, verb: str) -> tuple[Path, Done]:
        """The folder of the undisturbed run, and what became of it."""
        out = self.path / f"whole-{verb}"
        if verb not in self.known:
            self.known[verb] = run(self.command(verb, out), count=True)
            assert (self.known[verb].code, self.known[verb].stderr) == (0, ""), self.known[verb]
        return out, self.known[verb]

    def is_whole(self, verb: str, out: Path) -> None:
        """Weights, optimizer and log are those of the undisturbed run, and nothing half-written lies about."""
        whole, _ = self.whole(verb)
        for file in ("log.jsonl", f"step-{STEPS:06d}/weights.safetensors", f"step-{STEPS:06d}/training.safetensors"):
            assert (out / file).read_bytes() == (whole / file).read_bytes(), file
        assert not [path for path in out.rglob(".*") if path.name != ".lock"]

    def goes_on(self, verb: str, out: Path) -> None:
        """--resume, to the end of the undisturbed run."""
        for path in newest_first(out):
            verify_directory(path)
        done = run([verb, "--resume", str(out), "--json"])
        assert (done.code, done.stderr) == (0, ""), done
        self.is_whole(verb, out)


def steps_of(out: Path) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in newest_first(out)] if out.exists() else []


def only_line(done: Done) -> str:
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and len(lines[0]) <= 400 and lines[0].startswith("minilm: "), done
    return lines[0]

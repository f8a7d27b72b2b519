"""Ctrl-C, SIGTERM and a closed terminal at every kind of moment: the step is finished and saved, or nothing is left behind.

Then --resume ends with the weights and the log of the run that nobody disturbed. TEST_PLAN 4.2, row SIGTERM / SIGINT.
Each trial is a process of its own, a fork of this one.
"""

import itertools
import os
import pty
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from striking import EVERY, STEPS, Done, Room, only_line, run, steps_of

from minilm.training.storage import newest_first, verify_directory

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
VERBS = ("train", "finetune")
STEP, SAVE = "minilm.training.loop:clip_grad_norm", "minilm.training.run:save_checkpoint"
BATCHES = {"train": "minilm.training.batches:Batches", "finetune": "minilm.finetuning.batches:RaggedBatches"}
LOOK = {"train": "minilm.training.run:evaluate", "finetune": "minilm.finetuning.examples:Examples.mean_loss"}


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, minilm_home: Path) -> Room:
    return Room(tmp_path_factory.mktemp("signals"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "run"


def check_saved(verb: str, done: Done, number: int, out: Path) -> None:
    """The exit code of the signal, and one line with the command that goes on."""
    assert done.code == 128 + number, done
    assert only_line(done).endswith(f"go on with: minilm {verb} --resume {out}")


def check_gone(done: Done, number: int, out: Path) -> None:
    """The exit code of the signal and one line; nothing is learnt yet and nothing left, so that the command may be repeated."""
    assert done.code == 128 + number, done
    only_line(done)
    assert [*out.parent.iterdir()] == []


# ---- one signal


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("number", [INT, TERM, HUP])
def test_the_step_is_finished_and_saved(number: int, verb: str, room: Room, out: Path) -> None:
    """In step 7, after which the undisturbed run does not look at the validation text: a signal is no reason to."""
    done = run(room.command(verb, out), {"where": STEP, "call": 7, "signals": [number]})
    check_saved(verb, done, number, out)
    assert steps_of(out) == [7, 5]
    room.goes_on(verb, out)


@pytest.mark.parametrize("verb, number", [("train", INT), ("finetune", TERM)])
def test_during_an_evaluation(verb: str, number: int, room: Room, out: Path) -> None:
    """The look after step 8 is finished, and its step saved."""
    done = run(room.command(verb, out), {"where": LOOK[verb], "call": 2, "signals": [number]})
    check_saved(verb, done, number, out)
    assert steps_of(out)[0] == 8
    room.goes_on(verb, out)


@pytest.mark.parametrize("verb, number", [("train", TERM), ("finetune", INT)])
def test_during_a_save(verb: str, number: int, room: Room, out: Path) -> None:
    strike = {"where": "os:fsync", "after": SAVE, "call": 3, "signals": [number]}
    check_saved(verb, run(room.command(verb, out), strike), number, out)
    assert steps_of(out) == [EVERY]
    room.goes_on(verb, out)


@pytest.mark.parametrize("verb, number", [("train", INT), ("train", TERM), ("finetune", INT)])
def test_during_the_last_save(verb: str, number: int, room: Room, out: Path) -> None:
    """Of a run that saves only at its end: what it has learnt is worth the moment."""
    strike = {"where": "os:fsync", "after": SAVE, "call": 3, "signals": [number]}
    done = run([*room.command(verb, out), "--save-every", "0"], strike)
    check_saved(verb, done, number, out)
    assert steps_of(out) == [STEPS]
    room.is_whole(verb, out)


@pytest.mark.parametrize("verb, number", [("train", TERM), ("finetune", INT)])
def test_before_the_first_step(verb: str, number: int, room: Room, out: Path) -> None:
    """While its batch is made: also that step is finished."""
    strike = {"where": f"{BATCHES[verb]}.__next__", "call": 1, "signals": [number]}
    check_saved(verb, run(room.command(verb, out), strike), number, out)
    assert steps_of(out) == [1]
    room.goes_on(verb, out)


@pytest.mark.parametrize("number, call", [(INT, 2), (TERM, 3)])
def test_as_the_loop_begins(number: int, call: int, room: Room, out: Path) -> None:
    """Once the signal is set to wait and before a step is begun: it is not taken for the end of the time."""
    begins = "minilm.training.loop:finish_the_step"
    strike = {"where": "signal:signal", "after": begins, "call": call, "signals": [number]}
    check_saved("train", run(room.command("train", out), strike), number, out)
    assert steps_of(out) == [1]
    room.goes_on("train", out)


PREPARING = {
    "the text is read": ("train", "minilm.text.corpus:load_corpus"),
    "the text is encoded": ("train", "minilm.text.token_file:encode_document"),
    "the model is built": ("train", "minilm.models.registry:build_model"),
    "the base is read": ("finetune", "minilm.training.checkpoint:load_checkpoint"),
    "the examples are encoded": ("finetune", "minilm.finetuning.skills:Classify.examples"),
    "the examples are kept": ("finetune", "minilm.finetuning.examples:Examples.save"),
}


@pytest.mark.parametrize(
    "what, number",
    [
        pytest.param(what, number, marks=[] if (i + j) % 3 == 0 else pytest.mark.nightly)
        for (i, what), (j, number) in itertools.product(enumerate(PREPARING), enumerate((INT, TERM, HUP)))
    ],
)
def test_while(what: str, number: int, room: Room, out: Path) -> None:
    verb, where = PREPARING[what]
    check_gone(run(room.command(verb, out), {"where": where, "call": 1, "signals": [number]}), number, out)


@pytest.mark.parametrize("number", [INT, TERM])
def test_while_the_plan_is_measured(number: int, room: Room, out: Path) -> None:
    command = room.command("train", out, "--minutes", "1")
    del command[command.index("--steps") : command.index("--steps") + 2]
    check_gone(run(command, {"where": STEP, "call": 2, "signals": [number]}), number, out)


@pytest.mark.parametrize("number", [INT, HUP])
def test_a_signal_that_is_ignored_stays_ignored(number: int, room: Room, out: Path) -> None:
    """`nohup minilm train ...`, and a job in the background of a script: the run goes on to its end."""
    done = run(room.command("train", out), {"where": STEP, "call": 8, "signals": [number]}, ignored=[number])
    assert (done.code, done.stderr) == (0, "")
    room.is_whole("train", out)


# ---- two signals


@pytest.mark.parametrize("verb, number", [("train", INT), ("finetune", TERM)])
@pytest.mark.parametrize("where", [STEP, "os:fsync"])
def test_the_second_one_acts_at_once(where: str, verb: str, number: int, room: Room, out: Path) -> None:
    """In a step, or in the second save: what was saved before stands, and from there the run goes on."""
    strike: dict[str, Any] = {"where": where, "call": 8, "signals": [number, number]}
    if where != STEP:
        strike |= {"after": SAVE, "call": 12}
    done = run(room.command(verb, out), strike)
    assert done.code == 128 + number, done
    only_line(done)
    assert steps_of(out)[-1] == EVERY
    room.goes_on(verb, out)


@pytest.mark.parametrize("number", [INT, TERM])
def test_the_second_one_before_anything_is_saved(number: int, room: Room, out: Path) -> None:
    check_gone(run(room.command("train", out), {"where": STEP, "call": 3, "signals": [number] * 2}), number, out)


def test_two_different_ones_wait_both(room: Room, out: Path) -> None:
    """Ctrl-C, and a kill behind it: neither has been given twice."""
    strike = {"where": STEP, "call": 8, "signals": [INT, TERM]}
    check_saved("train", run(room.command("train", out), strike), INT, out)
    room.goes_on("train", out)


# ---- anywhere


def anywhere(room: Room, verb: str, number: int, event: int, out: Path) -> str:
    """Strike at one of the events of the run, and check what must hold; says what was found."""
    done = run(room.command(verb, out), {"event": event, "signals": [number]})
    if done.code == 0:  # Python passes over an exception in a finaliser: then the run is whole
        room.is_whole(verb, out)
        return "whole"
    assert done.code == 128 + number, (event, done)
    only_line(done)
    if not steps_of(out):
        assert not out.exists(), (event, done)
        return "nothing"
    if steps_of(out)[0] < STEPS:
        room.goes_on(verb, out)
    else:
        room.is_whole(verb, out)
    return "saved"


MARGIN = 300  # events of the first and the last lines of the process, which no handler can cover


@pytest.mark.parametrize("trials", [20, pytest.param(200, marks=pytest.mark.nightly)])
def test_at_a_random_moment(trials: int, room: Room, tmp_path: Path, record_property: Any) -> None:
    """Most of them while it trains, some before and after it; which ones a number says, so that each can be had again."""
    rng, found = random.Random(8), Counter[str]()
    for trial in range(trials):
        verb, number = VERBS[trial % 2], (INT, TERM)[trial // 2 % 2]
        begins, ends, last = room.whole(verb)[1].events
        low, high = [(MARGIN, begins), *[(begins, ends)] * 4, (ends, last - MARGIN)][trial % 6]
        found[anywhere(room, verb, number, rng.randrange(low, high), tmp_path / f"run-{trial}")] += 1
    assert found["saved"] >= trials // 2 and found["nothing"] >= trials // 20, found
    record_property("found", dict(found))


FILES = {"data": "clean.jsonl", "tokenizer": "tokenizer.json"}


@pytest.mark.parametrize("verb", FILES)
@pytest.mark.parametrize("trials", [6, pytest.param(60, marks=pytest.mark.nightly)])
def test_a_verb_that_writes_one_file_writes_it_whole_or_not(trials: int, verb: str, room: Room, tmp_path: Path) -> None:
    """`minilm data --clean` and `minilm tokenizer`; a bench's rows and a download have their own tests."""
    text, rng, left_nothing = str(room.path / "text.txt"), random.Random(9), 0

    def command(folder: Path) -> list[str]:
        folder.mkdir()
        out = str(folder / FILES[verb])
        if verb == "data":
            return ["data", text, "--clean", "--out", out, "--json"]
        return ["tokenizer", "--data", text, "--vocab-size", "300", "--out", out, "--json"]

    whole = run(command(tmp_path / "whole"), count=True)
    assert whole.code == 0, whole
    expected = (tmp_path / "whole" / FILES[verb]).read_bytes()
    for trial in range(trials):
        number, folder = (INT, TERM)[trial % 2], tmp_path / f"{trial}"
        event = rng.randrange(MARGIN, whole.events[-1] - MARGIN)
        done = run(command(folder), {"event": event, "signals": [number]})
        assert done.code in (0, 128 + number), (event, done)
        left = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert left in ({}, {FILES[verb]: expected}), (event, done)
        left_nothing += not left
    assert left_nothing >= trials // 4


@pytest.mark.parametrize("number", [INT, TERM])
def test_during_a_download(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip is about to fetch the archive into a folder of its own, which goes with it."""
    monkeypatch.setenv("MINILM_HOME", str(tmp_path))
    done = run(["data", "shakespeare"], {"where": "subprocess:run", "call": 1, "signals": [number]})
    assert done.code == 128 + number, done
    only_line(done)
    assert [path.name for path in tmp_path.rglob("*")] in (["data"], [])


@pytest.mark.nightly
def test_the_terminal_is_closed(room: Room, out: Path, subprocess_env: dict[str, str]) -> None:
    """A real terminal, whose other end goes away: nothing can be written to it any more, and the run is saved all the same."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "minilm", *room.command("train", out, "--steps", "5000")]
    command.remove("--json")  # with a progress bar
    name = os.ttyname(theirs)

    def own_terminal() -> None:
        os.setsid()
        os.close(os.open(name, os.O_RDWR))  # the first terminal that a new session opens is its own

    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    child = subprocess.Popen(command, **streams, env=subprocess_env, preexec_fn=own_terminal)  # type: ignore[call-overload]
    os.close(theirs)
    seen = b""
    while not re.search(rb"loss \d", seen):
        seen += os.read(ours, 4096)
    os.close(ours)
    assert child.wait(timeout=60) != 0
    assert 0 < steps_of(out)[0] < 5000
    for path in newest_first(out):
        verify_directory(path)

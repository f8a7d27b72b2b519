"""The limit on time: computing counts, waiting counts ten times less, and what a busy machine does to a clock not at all."""

import signal
import threading
import time

import pytest
import torch

from minilm.checks import compare
from minilm.checks.exercises import EXERCISES
from minilm.checks.observe import place_of, told
from minilm.layers.basic import Linear
from minilm.runtime import time_limit

HEADS = EXERCISES["split_heads"]


def compute(seconds: float) -> None:
    """Keep this thread busy for so long, as its own clock has it."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def timers() -> list[float]:
    return [signal.getitimer(timer)[0] for timer in (signal.ITIMER_PROF, signal.ITIMER_VIRTUAL)]


def test_who_computes_without_end_is_stopped() -> None:
    with pytest.raises(TimeoutError, match=r"it takes longer than 0\.05 s"), time_limit(0.05, patience=10_000):
        while True:
            pass


def test_time_on_the_clock_is_no_time_of_computing() -> None:
    """As on a machine that gives this process little: the clock goes on six times as long as the limit."""
    with time_limit(0.1):
        for _ in range(12):
            time.sleep(0.05)
            compute(0.002)
    assert timers() == [0.0, 0.0]


def test_who_waits_without_end_is_stopped() -> None:
    with pytest.raises(TimeoutError, match=r"it waits for longer than 0\.2 s"), time_limit(0.02):
        threading.Event().wait()
    with pytest.raises(TimeoutError, match=r"it waits for longer than 0\.06 s"), time_limit(0.02, patience=3):
        time.sleep(1000)


def test_other_threads_make_nobody_late() -> None:
    """The process computes for 0.3 s and more, this thread hardly at all."""
    ended = threading.Event()

    def busy() -> None:
        while not ended.is_set():
            pass

    thread = threading.Thread(target=busy)
    thread.start()
    before = time.process_time()
    try:
        with time_limit(0.1, patience=10_000):
            while time.process_time() < before + 0.3:
                time.sleep(0.01)
        with pytest.raises(TimeoutError, match="it takes"), time_limit(0.1, patience=10_000):
            compute(1000)
    finally:
        ended.set()
        thread.join()


def test_a_limit_within_another_gives_back_the_rest() -> None:
    with time_limit(1000.0):
        with pytest.raises(TimeoutError, match=r"0\.02 s"), time_limit(0.02, patience=10_000):
            compute(1000)
        assert 990 < timers()[0] <= 1000 and 9990 < signal.getitimer(signal.ITIMER_REAL)[0] <= 10_000
    with pytest.raises(TimeoutError, match=r"it takes .* 0\.05 s"), time_limit(0.05, patience=10_000):
        with time_limit(1000.0):
            compute(0.1)  # the inner one covers the outer one for a while
        compute(1000)


def test_nothing_is_left_behind() -> None:
    numbers = (signal.SIGALRM, signal.SIGPROF)
    before = [signal.getsignal(number) for number in numbers]
    for limited in (lambda: None, lambda: compute(1000)):
        try:
            with time_limit(0.02, patience=10_000):
                limited()
        except TimeoutError:
            pass
        assert [signal.getsignal(number) for number in numbers] == before and timers() == [0, 0]


def test_another_thread_is_not_limited() -> None:
    found: list[str] = []

    def limited() -> None:
        with time_limit(0.01):
            compute(0.05)
        found.append("done")

    thread = threading.Thread(target=limited)
    thread.start()
    thread.join()
    assert found == ["done"]


def test_a_right_solution_on_a_busy_machine_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "SECONDS", 1.0)

    def slow(x: torch.Tensor, n_heads: int) -> torch.Tensor:
        time.sleep(0.1)
        return HEADS.alternatives[0](x, n_heads)

    started = time.monotonic()
    assert compare.judge(HEADS, slow).passed
    assert time.monotonic() - started > 1.0  # else nothing was tried


def test_a_solution_that_waits_is_told_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "SECONDS", 0.05)

    def waits(x: torch.Tensor, n_heads: int) -> torch.Tensor:
        threading.Event().wait()
        return x

    verdict = compare.judge(HEADS, waits)
    assert (
        verdict.status == "wrong" and "of your code (threading.Event().wait()): it waits for longer" in verdict.message
    )
    assert "wait for something" in verdict.hint


# ---- the line in which an error arose


def error_in(folder: str, source: str) -> Exception:
    """The error that a student's file in this folder raises."""
    names = {"Linear": Linear, "torch": torch, "slow": HEADS.oracle}
    code = compile(source, f"{folder}/my_05.py", "exec")
    with pytest.raises(Exception) as caught:
        type(compute)(code, names)()
    return caught.value


LAYER = "x = torch.ones(2, 3)\n\nlayer = Linear(4, 5)\nlayer(x)\n"


@pytest.mark.parametrize(
    "folder", ["/home/ada/my", "/home/ada/torch", "/home/ada/minilm/my", "/data/lib/python", "C:\\my"]
)
def test_the_line_is_the_students_also_in_a_clone_of_minilm(folder: str) -> None:
    """The error arises in layers/basic.py, which in a clone lies in no site-packages; and a folder may have any name."""
    assert place_of(error_in(folder, LAYER)) == "line 4 of your code: "
    assert told(error_in(folder, "\n1 / 0\n")) == "line 2 of your code: ZeroDivisionError: division by zero"


def without_this_file(error: BaseException) -> BaseException:
    while error.__traceback__ and error.__traceback__.tb_frame.f_code.co_filename == __file__:
        error.__traceback__ = error.__traceback__.tb_next
    return error


def test_an_error_of_library_or_examiner_alone_has_no_line() -> None:
    for call in (lambda: Linear(4, 5)(torch.ones(2, 3)), lambda: HEADS.oracle(torch.ones(2), 1)):
        with pytest.raises((RuntimeError, ValueError)) as caught:
            call()
        assert place_of(caught.value) != "" and place_of(without_this_file(caught.value)) == ""

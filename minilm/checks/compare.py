"""How a check judges: the student's function against an oracle, then against the mistakes that students really make.

An exercise brings inputs, an oracle that is written differently from the library, and mistakes: wrong functions, each with a hint.
Where an answer differs from the oracle but equals a mistake, that mistake's hint is the diagnosis.
"""

import contextlib
import io
import random
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import CodeType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minilm.checks.values import describe, difference, duplicate, in_single, is_double
from minilm.checks.verdict import Verdict
from minilm.runtime import time_limit

Function = Callable[..., Any]
Case = tuple[Any, ...]  # the arguments of one call
SECONDS = 3.0  # for all inputs together
SINGLE = 1e-5  # what float32 may be off
PRINTED = 2000  # characters of the student's own printing that are shown


@dataclass(frozen=True)
class Mistake:
    """A wrong solution that people write, and what to tell them without telling them the solution."""

    name: str
    function: Function
    hint: str


@dataclass(frozen=True)
class Exercise:
    """What a check needs. `inputs` gives the argument lists for a seed; `start` is a first push for who has not begun.

    Where `differentiable`, gradients must flow through the answer as they do through the oracle.
    """

    name: str
    start: str
    inputs: Callable[[int], Sequence[Case]]
    oracle: Function
    mistakes: tuple[Mistake, ...]
    alternatives: tuple[Function, ...]
    differentiable: bool = False


def judge(
    exercise: Exercise, function: Function, solution: Function | None = None, seeds: Sequence[int] = (11, 23)
) -> Verdict:
    """Run the function on every input of every seed, and compare. With `solution`, an answer that comes from it is refused."""
    if solution is not None and function is solution:
        return Verdict("not started", "this is the library's version: run the cell with your own function first")
    cases = [case for seed in seeds for case in exercise.inputs(seed)]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        verdict = judge_cases(exercise, function, cases, getattr(solution, "__code__", None))
    text = printed.getvalue()
    cut = "\n…" if len(text) > PRINTED else ""
    return Verdict(verdict.status, verdict.message, verdict.hint, verdict.mistake, text[:PRINTED] + cut)


def judge_cases(exercise: Exercise, function: Function, cases: Sequence[Case], library: CodeType | None) -> Verdict:
    """The verdict on these inputs; the first that goes wrong decides."""
    expected = [exercise.oracle(*duplicate(case)) for case in cases]
    try:
        with time_limit(SECONDS):
            if library is not None and runs(library, function, cases[0]):
                return Verdict("wrong", "your function calls the library's version of itself", "write it yourself")
            verdict = first(judge_case(function, *pair) for pair in zip(cases, expected, strict=True))
            if verdict is None and exercise.differentiable:
                verdict = first(judge_gradient(exercise, function, case) for case in cases)
            if verdict is None:
                return Verdict("passed", f"passed on {len(cases)} inputs")
    except TimeoutError:
        hint = "is there a loop without an end, or one too many?"
        return Verdict("wrong", f"it takes longer than {SECONDS:g} s", hint)
    if verdict.status == "not started" or verdict.hint:
        return verdict
    double = any(is_double(value) for case in cases for value in case)
    if double and takes_float32_for_granted(exercise, function, cases):
        note = "but in float32 only: take dtype and device from the arguments, and it works in every precision"
        return Verdict("passed", f"passed on {len(cases)} inputs, {note}")
    return Verdict(verdict.status, verdict.message, *diagnose(exercise, function, cases))


def judge_case(function: Function, case: Case, expected: Any) -> Verdict | None:
    """What is wrong on one input, or None."""
    given = duplicate(case)
    drawn = random_state()
    try:
        answer, again = function(*given), function(*duplicate(case))
    except (Exception, SystemExit) as error:  # whatever a student's code raises is an answer, not a crash of the check
        if isinstance(error, TimeoutError):
            raise
        if isinstance(error, NotImplementedError) and raised_by(function, error):
            return Verdict("not started", "not started: replace `raise NotImplementedError` by your code")
        return Verdict("wrong", f"{place_of(error)}{type(error).__name__}: {error}".splitlines()[0])
    if any(difference(now, before, tolerance=0.0, nan_is_nan=True) for now, before in zip(given, case, strict=True)):
        return Verdict("wrong", "your function changes its arguments", "make a new object instead of writing into one")
    if random_state() != drawn:
        return Verdict("wrong", "your function draws random numbers", "this function has nothing to draw by itself")
    if problem := difference(answer, expected):
        return Verdict("wrong", f"{describe(case)}: {problem}")
    if problem := difference(again, expected):
        return Verdict("wrong", f"{describe(case)}, called a second time: {problem}", "keep nothing between two calls")
    return None


def first(verdicts: Iterable[Verdict | None]) -> Verdict | None:
    """The first that says something is wrong; what follows is not even tried."""
    return next((verdict for verdict in verdicts if verdict is not None), None)


def judge_gradient(exercise: Exercise, function: Function, case: Case) -> Verdict | None:
    """What is wrong with the gradient on an input whose value is right, or None."""
    problem = gradient_problem(exercise, function, case)
    hint = "stay with tensors: no .item(), float(), .data, .detach(), and no new tensor made of their numbers"
    return Verdict("wrong", f"{describe(case)}: {problem}", hint) if problem else None


def gradient_problem(exercise: Exercise, function: Function, case: Case) -> str:
    """Whether gradients flow as they should: one random direction in the input, one random weight for each output.

    The slope of the weighted sum along the direction, once by backward through the answer, once by central differences
    of the oracle in float64. Weights that differ matter: a plain sum of what a softmax returns has no slope at all.
    """
    generator = torch.Generator().manual_seed(5)

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=torch.float64)

    directions = [noise(x) if isinstance(x, Tensor) and is_double(x) else None for x in case]

    def moved(step: float) -> Tensor:
        return exercise.oracle(
            *(x if d is None else x + step * d for x, d in zip(duplicate(case), directions, strict=True))
        )

    weights = noise(exercise.oracle(*duplicate(case)))
    step = 1e-5
    expected = ((moved(step) - moved(-step)) * weights).sum().item() / (2 * step)
    leaves = [x if d is None else x.requires_grad_() for x, d in zip(duplicate(case), directions, strict=True)]
    answer = function(*leaves)
    if not answer.requires_grad:
        return "the values are right, but no gradient flows from the answer back to the arguments"
    (answer * weights).sum().backward()
    pairs = [(x.grad, d) for x, d in zip(leaves, directions, strict=True) if d is not None]
    slope = sum(float((grad * d).sum()) for grad, d in pairs if grad is not None)
    if np.isclose(slope, expected, rtol=1e-6, atol=1e-7):
        return ""
    return f"the values are right, but the gradient is not: the slope is {slope:.6g}, it should be {expected:.6g}"


def takes_float32_for_granted(exercise: Exercise, function: Function, cases: Sequence[Case]) -> bool:
    """Whether the answers for float64 are wrong by their dtype or an error only, and right for float32."""
    for case in cases:
        answer = answer_or_error(function, case)
        problem = "" if isinstance(answer, type) else difference(answer, exercise.oracle(*duplicate(case)))
        if problem and "dtype" not in problem:
            return False
        single = in_single(case)
        if difference(answer_or_error(function, single), exercise.oracle(*duplicate(single)), tolerance=SINGLE):
            return False
    return True


def diagnose(exercise: Exercise, function: Function, cases: Sequence[Case]) -> tuple[str, str]:
    """The hint and the name of the mistake that answers every input as the function does; ("", "") if there is none."""
    with contextlib.suppress(TimeoutError), time_limit(SECONDS):
        answers = [answer_or_error(function, case) for case in cases]
        for mistake in exercise.mistakes:
            if all(agree(answer, mistake.function, case) for answer, case in zip(answers, cases, strict=True)):
                return mistake.hint, mistake.name
    return "", ""


def agree(answer: Any, mistake: Function, case: Case) -> bool:
    """Whether a mistake gives the same answer, or fails with the same kind of error."""
    other = answer_or_error(mistake, case)
    if isinstance(answer, type) or isinstance(other, type):
        return answer is other
    return not difference(answer, other, nan_is_nan=True)


def answer_or_error(function: Function, case: Case) -> Any:
    """What the function returns, or the type of what it raises."""
    try:
        return function(*duplicate(case))
    except TimeoutError:
        raise
    except (Exception, SystemExit) as error:
        return type(error)


def runs(code: CodeType, function: Function, case: Case) -> bool:
    """Whether calling the function runs this code, however well it is wrapped."""
    seen = False

    def watch(frame: Any, event: str, _: Any) -> None:
        nonlocal seen
        seen = seen or (event == "call" and frame.f_code is code)

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        answer_or_error(function, case)
    finally:
        sys.setprofile(before)
    return seen


def random_state() -> tuple[Any, ...]:
    """The state of every global generator that a student might draw from."""
    name, keys, place, has_gauss, gauss = np.random.get_state()
    numpy_state = (name, np.asarray(keys).tobytes(), place, has_gauss, gauss)
    return random.getstate(), numpy_state, torch.get_rng_state().numpy().tobytes()


def frames_of(error: BaseException) -> Iterator[traceback.FrameSummary]:
    """The student's frames, outermost first: those of libraries and of this file are left out."""
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename != __file__ and not any(
            part in frame.filename for part in ("site-packages", "/torch/", "<frozen")
        ):
            yield frame


def raised_by(function: Function, error: BaseException) -> bool:
    """Whether the function itself raised the error, and not something that it called."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code is getattr(function, "__code__", None)


def place_of(error: BaseException) -> str:
    """The student's line in which an error arose."""
    own = list(frames_of(error))
    if not own:
        return ""
    line = f" ({own[-1].line})" if own[-1].line else ""
    return f"line {own[-1].lineno} of your code{line}: "

"""How a check judges: the student's function against an oracle, then against the mistakes that students really make.

An exercise brings inputs, an oracle that is written differently from the library, and mistakes: wrong functions, each with a hint.
Where an answer differs from the oracle but equals a mistake, that mistake's hint is the diagnosis.
"""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., Tensor]
TOLERANCE = 1e-8  # in float64: another order of summation passes, another formula does not


@dataclass(frozen=True)
class Mistake:
    """A wrong solution that people write, and what to tell them without telling them the solution."""

    name: str
    function: Function
    hint: str


@dataclass(frozen=True)
class Exercise:
    """What a check needs: argument lists for a seed, the oracle, the mistakes, and other right solutions."""

    name: str
    inputs: Callable[[torch.Generator], Sequence[tuple[Any, ...]]]
    oracle: Function
    mistakes: tuple[Mistake, ...]
    alternatives: tuple[Function, ...]


@dataclass(frozen=True)
class Verdict:
    """The outcome: passed, wrong or not started; one line what, and one hint where there is one."""

    status: str
    message: str
    hint: str = ""
    mistake: str = ""

    @property
    def passed(self) -> bool:
        return self.status == "passed"


def judge(exercise: Exercise, function: Function, seeds: Sequence[int] = (11, 23)) -> Verdict:
    """Run the function on every input of every seed, twice, and compare."""
    cases = [case for seed in seeds for case in exercise.inputs(torch.Generator().manual_seed(seed))]
    for case in cases:
        given = copy(case)
        randomness = torch.get_rng_state()
        try:
            answer, again = function(*given), function(*copy(case))
        except NotImplementedError:
            return Verdict("not started", "not started: replace `raise NotImplementedError` by your code")
        except Exception as error:  # whatever a student's code raises is an answer, not a crash of the check
            return Verdict("wrong", f"line {line_of(error)} of your code: {type(error).__name__}: {error}")
        if not all(same(a, b) for a, b in zip(given, case, strict=True)):
            return Verdict(
                "wrong", "your function changes its arguments", "make a new tensor instead of writing into one"
            )
        if not torch.equal(randomness, torch.get_rng_state()):
            return Verdict("wrong", "your function draws random numbers", "this function has nothing to draw")
        expected = exercise.oracle(*copy(case))
        problem = difference(answer, expected) or difference(again, expected)
        if problem:
            return Verdict("wrong", f"{describe(case)}: {problem}", *diagnose(exercise, function, cases))
    return Verdict("passed", f"passed on {len(cases)} inputs")


def diagnose(exercise: Exercise, function: Function, cases: Sequence[tuple[Any, ...]]) -> tuple[str, str]:
    """The hint and the name of the mistake that answers every input as the function does; ("", "") if there is none."""
    for mistake in exercise.mistakes:
        if all(agree(function, mistake.function, case) for case in cases):
            return mistake.hint, mistake.name
    return "", ""


def agree(one: Function, other: Function, case: tuple[Any, ...]) -> bool:
    """Whether two functions give the same answer, or both fail with the same kind of error."""
    answers: list[Any] = []
    for function in (one, other):
        try:
            answers.append(function(*copy(case)))
        except Exception as error:  # a mistake may be one that crashes
            answers.append(type(error))
    if isinstance(answers[0], type) or isinstance(answers[1], type):
        return answers[0] is answers[1]
    return not difference(answers[0], answers[1], nan_is_nan=True)


def difference(answer: Any, expected: Tensor, nan_is_nan: bool = False) -> str:
    """What is wrong with an answer, in one line; "" if it is right. NaN is never right, but two mistakes may share it."""
    if not isinstance(answer, Tensor):
        return f"the answer is a {type(answer).__name__}, not a tensor"
    if answer.shape != expected.shape:
        return f"the answer has shape {tuple(answer.shape)}, it should have {tuple(expected.shape)}"
    if answer.dtype != expected.dtype:
        return f"the answer has dtype {answer.dtype}, it should have {expected.dtype}"
    if expected.dtype == torch.bool:
        wrong = answer != expected
    else:
        wrong = ~torch.isclose(answer, expected, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=nan_is_nan)
    if not wrong.any():
        return ""
    index = tuple(wrong.nonzero()[0].tolist())
    return f"at index {index} the answer is {answer[index].item():.6g}, it should be {expected[index].item():.6g}"


def copy(case: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same arguments, with tensors of their own."""
    return tuple(value.clone() if isinstance(value, Tensor) else value for value in case)


def same(one: Any, other: Any) -> bool:
    """Whether two arguments are equal."""
    return torch.equal(one, other) if isinstance(one, Tensor) else one == other


def describe(case: tuple[Any, ...]) -> str:
    """The arguments in a few words: shapes of tensors, values of the rest."""
    return "for " + ", ".join(f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else repr(x) for x in case)


def line_of(error: Exception) -> int:
    """The line of the student's code in which the error arose: the last one outside of libraries."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames[1:] if "site-packages" not in frame.filename and "/torch/" not in frame.filename]
    return (own or frames)[-1].lineno or 0

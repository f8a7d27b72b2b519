"""How a check judges: the student's function against an oracle, then against the mistakes that students really make.

An exercise brings inputs, an oracle that is written differently from the library, and mistakes: wrong functions, each with a hint.
Where an answer differs from the oracle but equals a mistake, that mistake's hint is the diagnosis.
"""

import contextlib
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minilm.checks.observe import (
    argument_names,
    error_hint,
    first_line_problem,
    place_of,
    raised_by,
    random_state,
    runs,
    shortened,
    told,
)
from minilm.checks.values import (
    convert,
    describe,
    difference,
    duplicate,
    in_single,
    is_double,
    narrow,
    size,
    tensors,
)
from minilm.checks.verdict import Verdict
from minilm.runtime import time_limit

Function = Callable[..., Any]
Case = tuple[Any, ...]  # the arguments of one call
SECONDS = 3.0  # of computing, for all inputs together
SINGLE = 1e-5  # what float32 may be off
LONG = 160  # characters of arguments: then what is wrong is said before them
ROUNDED = "right to about six digits: is anything float32 on the way? Compute in float64, and cast at the end if at all"


@dataclass(frozen=True)
class Mistake:
    """A wrong solution that people write, and what to tell them without telling them the solution."""

    name: str
    function: Function
    hint: str


@dataclass(frozen=True)
class Part:
    """A function with a name, for exercises that are given functions: so a failure can say which is which."""

    says: str
    change: Callable[[Tensor], Tensor]

    def __call__(self, x: Tensor) -> Tensor:
        return self.change(x)

    def __repr__(self) -> str:
        return self.says


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
    """Run the function on every input of every seed, the smallest first, and compare.

    With `solution`, the first line must be like the library's, and an answer that comes from the library is refused.
    """
    cases = sorted((case for seed in seeds for case in exercise.inputs(seed)), key=size)
    if solution is not None:
        if function is solution:
            return Verdict("not started", "this is the library's version: run the cell with your own function first")
        if problem := first_line_problem(function, solution, max(map(len, cases))):
            return Verdict("wrong", problem, "keep the first line of the function as it was")
    expected = [exercise.oracle(*duplicate(case)) for case in cases]
    names = argument_names(solution) if solution is not None else []
    try:
        with time_limit(SECONDS):
            code = getattr(solution, "__code__", None)
            if code is not None and runs(code, lambda: answer_or_error(function, cases[0])):
                return Verdict("wrong", "your function calls the library's version of itself", "write it yourself")
            verdict = first(judge_case(function, *pair, names) for pair in zip(cases, expected, strict=True))
            if verdict is None and exercise.differentiable:
                verdict = first(judge_gradient(exercise, function, case, names) for case in smooth(cases))
            if verdict is None:
                return Verdict("passed", f"{len(cases)} inputs")
            if verdict.status == "not started" or verdict.hint:
                return verdict
            double = any(is_double(value) for case in cases for value in case)
            if double and takes_float32_for_granted(exercise, function, cases):
                slopes = (judge_gradient(exercise, function, case, names, True) for case in smooth(cases))
                note = "but in float32 only: take dtype and device from the arguments, and it works in every precision"
                passed = Verdict("passed", f"{len(cases)} inputs, {note}")
                return (first(slopes) if exercise.differentiable else None) or passed
    except TimeoutError as error:
        hint = "is there a loop without an end, or one too many, or over all where a few would do? Does it wait for something?"
        return Verdict("wrong", f"{place_of(error)}{error}", hint)
    hint, mistake = diagnose(exercise, function, cases)
    numbers = all(isinstance(answer, float) for answer in expected)
    if hint == ROUNDED and (digits := "float32" if numbers else narrow(answer_or_error(function, cases[-1]))):
        note = f"but to the digits of {digits} only: Python's own numbers, float64 and int64 have more"
        return Verdict("passed", f"{len(cases)} inputs, {note}")
    if "the answer is None" in verdict.message:
        hint = hint or "is there a way through your function without a `return`? Or does it print the answer instead?"
    return replace(verdict, hint=hint or error_hint(verdict.message), mistake=mistake)


def judge_case(function: Function, case: Case, expected: Any, names: Sequence[str]) -> Verdict | None:
    """What is wrong on one input, or None."""
    given, drawn, printed = duplicate(case), random_state(), io.StringIO()

    def wrong(message: str, hint: str = "") -> Verdict:
        return Verdict("wrong", message, hint, printed=shortened(printed.getvalue()))

    try:
        with contextlib.redirect_stdout(printed):
            answer = function(*given)
        with contextlib.redirect_stdout(io.StringIO()):
            again = function(*duplicate(case))
    except TimeoutError:
        raise
    except (Exception, SystemExit) as error:  # whatever a student's code raises is an answer, not a crash of the check
        if isinstance(error, NotImplementedError) and raised_by(function, error):
            return Verdict("not started", "replace `raise NotImplementedError` by your code")
        return wrong(placed(case, names, told(error)))
    if any(difference(now, before, tolerance=0.0, nan_is_nan=True) for now, before in zip(given, case, strict=True)):
        hint = "make a new object instead of writing into one: `x += y` writes into x itself, x = x + y does not"
        return wrong("your function changes its arguments", hint)
    if random_state() != drawn:
        return wrong("your function draws random numbers", "what is random is given as an argument, or nothing is")
    if problem := difference(answer, expected):
        return wrong(placed(case, names, problem))
    if problem := difference(again, expected):
        return wrong(placed(case, names, f"called a second time: {problem}"), "keep nothing between two calls")
    return None


def placed(case: Case, names: Sequence[str], problem: str) -> str:
    """The arguments and what is wrong with the answer, which comes first where they are long."""
    given = describe(case, names)
    return f"{given}: {problem}" if len(given) <= LONG else f"{problem}, {given}"


def first(verdicts: Iterable[Verdict | None]) -> Verdict | None:
    """The first that says something is wrong; what follows is not even tried."""
    return next((verdict for verdict in verdicts if verdict is not None), None)


def smooth(cases: Sequence[Case]) -> list[Case]:
    """The inputs whose slopes can be measured: values that are rounded to float32 or less go up in steps."""
    rough = (torch.float32, torch.float16, torch.bfloat16)
    return [case for case in cases if not any(x.dtype in rough for x in tensors(case))]


def judge_gradient(
    exercise: Exercise, function: Function, case: Case, names: Sequence[str], single: bool = False
) -> Verdict | None:
    """What is wrong with the gradient on an input whose value is right, or None. `single` asks in float32.

    One random direction in the input, one random weight for each output: the slope of the weighted sum along the direction,
    once by backward through the answer, once by central differences of the oracle in float64. Weights that differ matter:
    a plain sum of what a softmax returns has no slope at all. Of several tensors in the answer each must have its way back.
    """
    generator = torch.Generator().manual_seed(5)

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=torch.float64)

    def wrong(problem: str, hint: str) -> Verdict:
        return Verdict("wrong", placed(case, names, problem), hint)

    directions = [noise(x) for x in tensors(case) if is_double(x)]

    def moved(step: float) -> list[Tensor]:
        ways = iter(directions)
        given = convert(case, lambda x: x + step * next(ways) if isinstance(x, Tensor) and is_double(x) else x)
        return tensors(exercise.oracle(*given))

    def weighted(answers: Sequence[Tensor]) -> Any:
        return sum((answer * weight).sum() for answer, weight in zip(answers, weights, strict=True))

    weights, step = [noise(answer) for answer in moved(0.0)], 1e-5
    near, far = ((weighted(moved(h)) - weighted(moved(-h))).item() / (2 * h) for h in (step, 2 * step))
    expected = (4 * near - far) / 3  # what both are off, about step**2, cancels
    given = in_single(duplicate(case)) if single else duplicate(case)
    leaves = [x.requires_grad_() for x, old in zip(tensors(given), tensors(case), strict=True) if is_double(old)]
    try:
        answer = function(*given)
        if cut := [i for i, part in enumerate(tensors(answer)) if not part.requires_grad]:
            which = "" if isinstance(answer, Tensor) else f" [{cut[0]}]"
            problem = f"the values are right, but no gradient flows from the answer{which} back to the arguments"
            return wrong(problem, "stay with tensors: no .item(), float(), .tolist(), .data, .detach()")
        weighted(tensors(answer)).backward()
    except TimeoutError:
        raise
    except Exception as error:
        hint = "do not write into a tensor that the way back still needs: masked_fill, for one, makes a new one"
        return wrong(f"when gradients are asked for: {told(error)}", hint)
    pairs = zip(leaves, directions, strict=True)
    slope = sum(float((x.grad * direction).sum()) for x, direction in pairs if x.grad is not None)
    if np.isclose(slope, expected, rtol=1e-3 if single else 1e-6, atol=1e-3 if single else 1e-7):
        return None
    hint = "stay with tensors all the way from the arguments to the answer"
    if np.isnan(slope):
        hint = "a NaN stays in the gradient even where it is replaced afterwards: see that none arises"
    problem = f"the values are right, but the gradient is not: the slope is {slope:.6g}, it should be {expected:.6g}"
    return wrong(problem, hint)


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
    known: list[tuple[Any, Case]] = []
    with contextlib.suppress(TimeoutError), time_limit(SECONDS):
        for case in cases:  # where the function is too slow for the large ones, what it says to the small ones must do
            known.append((answer_or_error(function, case), case))
    with contextlib.suppress(TimeoutError), time_limit(SECONDS):
        for mistake in exercise.mistakes if known else ():
            if all(agree(answer, mistake.function, case) for answer, case in known):
                return mistake.hint, mistake.name
        if known and all(rounded(answer, exercise.oracle(*duplicate(case))) for answer, case in known):
            return ROUNDED, ""
    return "", ""


def rounded(answer: Any, expected: Any) -> bool:
    """Whether an answer is right to the digits of float32, but was to be right to those of float64."""
    if isinstance(expected, float):
        number = answer.item() if isinstance(answer, Tensor | np.generic | np.ndarray) and answer.ndim == 0 else answer
        return isinstance(number, float) and math.isclose(number, expected, rel_tol=SINGLE)
    if isinstance(expected, Mapping) and isinstance(answer, Mapping):
        return answer.keys() == expected.keys() and all(rounded(answer[key], expected[key]) for key in expected)
    if isinstance(expected, list | tuple) and isinstance(answer, list | tuple):
        return len(answer) == len(expected) and all(map(rounded, answer, expected))
    if isinstance(expected, np.ndarray) and isinstance(answer, np.ndarray) and answer.dtype != expected.dtype:
        alike = answer.dtype.kind in {"f": "f", "i": "iu"}.get(expected.dtype.kind, "") and answer.dtype.itemsize >= 4
        return alike and not difference(answer.astype(expected.dtype), expected, tolerance=SINGLE)
    if not (isinstance(answer, Tensor) and isinstance(expected, Tensor) and expected.is_floating_point()):
        return not difference(answer, expected)
    could_be_finer = expected.dtype == torch.float64 or answer.dtype == expected.dtype
    return could_be_finer and not difference(answer.to(expected.dtype), expected, tolerance=SINGLE)


def agree(answer: Any, mistake: Function, case: Case) -> bool:
    """Whether a mistake gives the same answer, or fails with the same kind of error."""
    other = answer_or_error(mistake, case)
    if isinstance(answer, type) or isinstance(other, type):
        return answer is other
    return not difference(answer, other, nan_is_nan=True)


def answer_or_error(function: Function, case: Case) -> Any:
    """What the function returns, or the type of what it raises."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return function(*duplicate(case))
    except TimeoutError:
        raise
    except (Exception, SystemExit) as error:
        return type(error)

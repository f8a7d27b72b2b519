"""Comparing what two functions return: tensors, arrays, numbers, texts, and lists, tuples, sets and dictionaries of them.

`difference` says in one line what is wrong with an answer, with the first place where it differs, and says "" where it is right.
"""

import copy
from collections.abc import Callable, Mapping, Sequence, Set
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

TOLERANCE = 1e-8  # in float64: another order of summation passes, another formula does not


def difference(
    answer: Any, expected: Any, *, tolerance: float = TOLERANCE, nan_is_nan: bool = False, at: str = ""
) -> str:
    """What is wrong with an answer, in one line; "" if it is right. NaN is right only with nan_is_nan.

    A list and a tuple of the same things are the same, and so are a Counter and a dict; a number may be of Python or numpy.
    """

    def inside(one: Any, other: Any, place: str) -> str:
        return difference(one, other, tolerance=tolerance, nan_is_nan=nan_is_nan, at=f"{at}[{place}]")

    if isinstance(expected, Tensor | np.ndarray):
        return array_difference(answer, expected, tolerance, nan_is_nan, at)
    if isinstance(expected, Mapping) and isinstance(answer, Mapping):
        answer = dict.copy(answer) if isinstance(answer, dict) else answer  # what it holds, not what it says
        for key in expected:
            if key not in answer:
                return f"{within(at)}key {brief(key)} is missing"
        extra = [key for key in answer if key not in expected]
        if extra:
            return f"{within(at)}there should be no key {brief(extra[0])}"
        return first(inside(answer[key], expected[key], brief(key)) for key in expected)
    if isinstance(expected, list | tuple) and isinstance(answer, list | tuple):
        if len(answer) != len(expected):
            return f"{within(at)}the answer has length {len(answer)}, it should have {len(expected)}"
        return first(inside(a, e, str(i)) for i, (a, e) in enumerate(zip(answer, expected, strict=True)))
    if isinstance(expected, Set) and isinstance(answer, Set):
        wrong = sorted(map(brief, answer ^ expected))
        return f"{within(at)}{wrong[0]} is in one of the answer and the right set, not in both" if wrong else ""
    if isinstance(expected, Real) and not isinstance(expected, bool | np.bool_):
        return number_difference(answer, expected, tolerance, nan_is_nan, at)
    if not isinstance(answer, type(expected)):
        return f"{within(at)}the answer is {kind(answer)}, not {kind(expected)}"
    return "" if answer == expected else wrong_value(at, answer, expected)


def number_difference(answer: Any, expected: Real, tolerance: float, nan_is_nan: bool, at: str) -> str:
    """A count must be whole; any other number may be off by `tolerance`, relative or absolute."""
    if isinstance(answer, Tensor | np.ndarray) and answer.ndim == 0:
        answer = answer.item()
    if not isinstance(answer, Real) or isinstance(answer, bool | np.bool_):
        return f"{within(at)}the answer is {kind(answer)}, not a number"
    if isinstance(expected, Integral):
        same = float(answer) == float(expected) and answer == expected
        return "" if same else wrong_value(at, answer, expected)
    close = np.isclose(float(answer), float(expected), rtol=tolerance, atol=tolerance, equal_nan=nan_is_nan)
    return "" if close else wrong_value(at, answer, expected)


def array_difference(answer: Any, expected: Tensor | np.ndarray, tolerance: float, nan_is_nan: bool, at: str) -> str:
    """Tensors and numpy arrays: their type, shape and dtype, then their numbers."""
    name = "a tensor" if isinstance(expected, Tensor) else "a numpy array"
    if not isinstance(answer, Tensor if isinstance(expected, Tensor) else np.ndarray):
        return f"{within(at)}the answer is {kind(answer)}, not {name}"
    if tuple(answer.shape) != tuple(expected.shape):
        return f"{within(at)}the answer has shape {tuple(answer.shape)}, it should have {tuple(expected.shape)}"
    if answer.dtype != expected.dtype:
        return f"{within(at)}the answer has dtype {answer.dtype}, it should have {expected.dtype}"
    one, other = to_numpy(answer), to_numpy(expected)
    if np.issubdtype(other.dtype, np.inexact):
        wrong = ~np.isclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=nan_is_nan)
    else:
        wrong = one != other
    if not wrong.any():
        return ""
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    return wrong_value(f"{at}[{', '.join(map(str, index))}]" if index else at, one[index], other[index])


def to_numpy(array: Tensor | np.ndarray) -> np.ndarray:
    """The numbers of a tensor or array, for looking at."""
    return array.detach().cpu().numpy() if isinstance(array, Tensor) else array


def within(at: str) -> str:
    """Where in the answer: "" for the whole of it."""
    return f"at {at}, " if at else ""


def wrong_value(at: str, answer: Any, expected: Any) -> str:
    """The line for a value that is not the right one, with all digits where six are alike."""
    if brief(answer) == brief(expected) and isinstance(answer, Real):
        return f"{within(at)}the answer is {float(answer)!r}, it should be {float(expected)!r}"
    return f"{within(at)}the answer is {brief(answer)}, it should be {brief(expected)}"


def kind(value: Any) -> str:
    """None, or the type with its article: a float, an int."""
    if value is None:
        return "None"
    name = "tensor" if isinstance(value, Tensor) else type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def brief(value: Any, longest: int = 60) -> str:
    """A value in a few characters: numbers to six digits, arrays of more than twelve by their shape, long texts cut."""
    if isinstance(value, Tensor | np.ndarray) and value.ndim:
        if np.prod(value.shape) > 12:
            return f"shape {tuple(value.shape)}"
        value = to_numpy(value).tolist()
    if isinstance(value, float | np.floating):
        return f"{value:.6g}"
    if type(value) in (list, tuple):
        text = ", ".join(brief(part, longest) for part in value)
        text = f"[{text}]" if type(value) is list else f"({text},)" if len(value) == 1 else f"({text})"
    else:
        text = str(value.item() if isinstance(value, np.generic | Tensor) else repr(value))
    return text if len(text) <= longest else text[: longest - 1] + "…"


def describe(arguments: tuple[Any, ...], names: Sequence[str] = ()) -> str:
    """The arguments of a call, by name where names are known; long ones are cut, single numbers are not."""
    shown = [repr(value) if isinstance(value, float) else brief(value, longest=200) for value in arguments]
    named = [f"{name}={text}" for name, text in zip(names, shown, strict=False)]
    return "for " + ", ".join(named or shown)


def size(value: Any) -> int:
    """How much there is to look at: numbers in arrays, digits, characters, parts of what holds parts."""
    if isinstance(value, Tensor | np.ndarray):
        return int(np.prod(value.shape))
    if isinstance(value, Mapping):
        return sum(size(key) + size(part) for key, part in value.items())
    if isinstance(value, list | tuple | Set):
        return 1 + sum(map(size, value))
    if isinstance(value, int):
        return len(str(value))
    return max(1, len(value)) if isinstance(value, str | bytes) else 1


def first(problems: Any) -> str:
    """The first text that is not empty, or ""."""
    return next((problem for problem in problems if problem), "")


def convert(value: Any, change: Callable[[Any], Any]) -> Any:
    """The same structure, with every tensor and array replaced by change(it) and all else copied."""
    if isinstance(value, Tensor | np.ndarray):
        return change(value)
    if isinstance(value, tuple) and type(value) is tuple:
        return tuple(convert(part, change) for part in value)
    if isinstance(value, list):
        return [convert(part, change) for part in value]
    return copy.deepcopy(value)


def duplicate(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same arguments, with memory of their own."""
    return convert(arguments, lambda array: array.clone() if isinstance(array, Tensor) else array.copy())


def is_double(array: Any) -> bool:
    """Whether these are numbers in float64."""
    return isinstance(array, Tensor | np.ndarray) and array.dtype in (torch.float64, np.float64)


def narrow(value: Any) -> str:
    """The first dtype of numpy's numbers in it that is not of 64 bits: float32, int32; "" if there is none."""
    if isinstance(value, Mapping | list | tuple):
        return first(map(narrow, value.values() if isinstance(value, Mapping) else value))
    return str(value.dtype) if isinstance(value, np.ndarray | np.generic) and value.dtype.itemsize != 8 else ""


def tensors(value: Any) -> list[Tensor]:
    """The tensors in a value, and in the lists and tuples that it is made of, in the order in which `convert` meets them."""
    if isinstance(value, list | tuple):
        return [tensor for part in value for tensor in tensors(part)]
    return [value] if isinstance(value, Tensor) else []


def in_single(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same arguments in float32."""

    def change(array: Any) -> Any:
        if not is_double(array):
            return array
        return array.float() if isinstance(array, Tensor) else array.astype(np.float32)

    return convert(arguments, change)

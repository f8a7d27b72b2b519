"""What an examiner sees beside the answer: who was called, what was drawn and printed, in which line an error arose."""

import inspect
import os
import random
import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
import torch

Function = Callable[..., Any]
ERRORS = {  # what an error says that beginners often meet -> what to think of
    "Boolean value of Tensor": "ask `if bias is not None`: a tensor of several numbers is neither true nor false",
    "truth value of an array": "ask `if bias is not None`: an array of several numbers is neither true nor false",
    "only one element tensors": "math.sqrt takes one number; torch.sqrt, or ** 0.5, takes a tensor",
    "a list, not a numpy array": "a list is no array: np.array(numbers) makes one of it",
    "a tuple, not a numpy array": "a tuple is no array: np.array(numbers) makes one of it; is there a comma too many?",
    "a tensor, not a numpy array": "stay in numpy here, or make an array of the tensor at the end: .numpy()",
    "cannot be converted to Scalar": ".item() takes one number out of a tensor that holds one: stay with the tensor",
}
FOLDERS = {  # of libraries; of minilm too, which is in no site-packages where it runs from a clone
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    str(Path(__file__).parents[1]),
    *(str(Path(str(package.__file__)).parent) for package in (np, torch)),
}
FOREIGN = (*(folder + os.sep for folder in FOLDERS), "<frozen", "<__array_function__")
PRINTED = 10  # lines of the student's own printing that are shown


def argument_names(function: Function) -> list[str]:
    """The names of a function's arguments; [] where Python cannot tell."""
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return []


def first_line_problem(function: Function, solution: Function, n_arguments: int) -> str:
    """What is wrong with a function's first line: its arguments have the library's names, in the same order."""
    mine, theirs = (argument_names(f)[:n_arguments] for f in (function, solution))
    return (
        "" if mine in (theirs, []) else f"the arguments are ({', '.join(mine)}), they should be ({', '.join(theirs)})"
    )


def runs(code: CodeType, call: Callable[[], Any]) -> bool:
    """Whether a call runs this code, however well it is wrapped."""
    seen = False

    def watch(frame: Any, event: str, _: Any) -> None:
        nonlocal seen
        seen = seen or (event == "call" and frame.f_code is code)

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        call()
    finally:
        sys.setprofile(before)
    return seen


def random_state() -> tuple[Any, ...]:
    """The state of every global generator that a student might draw from."""
    name, keys, place, has_gauss, gauss = np.random.get_state()
    numpy_state = (name, np.asarray(keys).tobytes(), place, has_gauss, gauss)
    return random.getstate(), numpy_state, torch.get_rng_state().numpy().tobytes()


def raised_by(function: Function, error: BaseException) -> bool:
    """Whether the function itself raised the error, and not something that it called."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code is getattr(function, "__code__", None)


def place_of(error: BaseException) -> str:
    """The student's line in which an error arose, leaving out libraries and the examiner; "" if there is none."""
    trace = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in trace if frame.lineno and not frame.filename.startswith(FOREIGN)]
    if not own:
        return ""
    line = f" ({own[-1].line})" if own[-1].line else ""
    return f"line {own[-1].lineno} of your code{line}: "


def told(error: BaseException) -> str:
    """An error in one line: where, of which kind, what it says."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno} of your code ({(error.text or '').strip()}): SyntaxError: {error.msg}"
    line = f"{place_of(error)}{type(error).__name__}: {error}".splitlines()[0]
    return line if len(line) <= 240 else line[:239] + "…"


def error_hint(message: str) -> str:
    """What to think of where an error says something that beginners often meet; "" otherwise."""
    return next((hint for said, hint in ERRORS.items() if said in message), "")


def shortened(printed: str) -> str:
    """The first lines of what was printed."""
    lines = [line[:200] for line in printed.splitlines()]
    return "\n".join([*lines[:PRINTED], *(["…"] if len(lines) > PRINTED else [])])

"""Where checks and library meet: the exercises by name, each with the library's function as its solution.

`python -m minilm.checks.exercises FILE` judges the functions of a file; `minilm check` runs it in a process of its own.
"""

import dataclasses
import importlib
import inspect
import json
import runpy
import sys
from collections.abc import Callable
from typing import Any

from minilm.checks.attention import EXERCISES as ATTENTION
from minilm.checks.compare import Exercise, Verdict, judge

EXERCISES: dict[str, Exercise] = {exercise.name: exercise for exercise in ATTENTION}
SOLUTIONS = {
    "causal_mask": "minilm.layers.masks",
    "scaled_dot_product_attention": "minilm.layers.attention",
    "split_heads": "minilm.layers.attention",
}
PASSED: set[str] = set()


def find(name: str) -> Exercise:
    """The exercise of this name; ValueError if there is none."""
    if name not in EXERCISES:
        raise ValueError(f"there is no exercise {name!r}: choose one of {', '.join(EXERCISES)}")
    return EXERCISES[name]


def solution(name: str) -> Callable[..., Any]:
    """The library's function, which is the solution."""
    return getattr(importlib.import_module(SOLUTIONS[find(name).name]), name)


def check(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Judge the student's function, say how it went, and return it if it passed, else the library's.

    So the rest of a notebook runs either way, and the student is told whose code it runs.
    """
    verdict = judge(find(name), function)
    if verdict.passed:
        PASSED.add(name)
        print(f"{name}: {verdict.message}. From here on your own code runs.")
        return function
    print(f"{name}: {explain(verdict)}\nUntil it passes, the library's version runs.")
    return solution(name)


def explain(verdict: Verdict) -> str:
    """The verdict in one line, with its hint in a second one."""
    return verdict.message + (f"\n  hint: {verdict.hint}" if verdict.hint else "")


def reveal(name: str, give_up: bool = False) -> None:
    """Print the library's source, once the exercise has been passed (or with give_up=True)."""
    if name in PASSED or give_up:
        print(inspect.getsource(solution(name)))
    else:
        print(f"{name}: solve it first, or say reveal({name!r}, give_up=True)")


def report() -> list[dict[str, Any]]:
    """For each exercise: how many mistakes are rejected and rightly named, how many right solutions are accepted."""
    rows = []
    for name, exercise in EXERCISES.items():
        verdicts = [(mistake, judge(exercise, mistake.function)) for mistake in exercise.mistakes]
        rows.append(
            {
                "exercise": name,
                "mistakes": len(verdicts),
                "rejected": sum(not verdict.passed for _, verdict in verdicts),
                "rightly_named": sum(verdict.mistake == mistake.name for mistake, verdict in verdicts),
                "alternatives": len(exercise.alternatives),
                "accepted": sum(judge(exercise, function).passed for function in exercise.alternatives),
            }
        )
    return rows


def judge_file(path: str) -> list[dict[str, str]]:
    """A verdict for every exercise that the file defines. Functions that come from minilm itself are refused."""
    names = runpy.run_path(path)
    verdicts = []
    for name, exercise in EXERCISES.items():
        function = names.get(name)
        if not callable(function):
            verdict = Verdict("not started", "not started: the file defines no function of this name")
        elif getattr(function, "__module__", "").startswith("minilm"):
            verdict = Verdict("wrong", "this function comes from minilm: write your own")
        else:
            verdict = judge(exercise, function)
        verdicts.append({"exercise": name, **dataclasses.asdict(verdict)})
    return verdicts


if __name__ == "__main__":
    print("verdict " + json.dumps(judge_file(sys.argv[1])))

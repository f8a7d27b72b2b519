"""Judging a student's file: `python -m minilm.checks.grade FILE RESULTS`, which `minilm check FILE` starts as a process of its own.

RESULTS gets a line of JSON when an exercise begins and one with its verdict, so that whatever the student's code does to the
process, what was judged before is known, and where it ended. What the file prints goes nowhere near it.
"""

import ast
import dataclasses
import json
import runpy
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minilm.checks.compare import judge
from minilm.checks.exercises import EXERCISES, solution
from minilm.checks.verdict import Verdict
from minilm.runtime import limit_memory, time_limit

SECONDS = 20.0  # to run the file, before any function is judged
MEMORY = 2 * 2**30  # bytes, beyond what minilm itself has taken

KEPT = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
PLAIN = (ast.Constant, ast.Lambda, ast.Name, ast.Attribute)


def definitions(notebook: Path) -> str:
    """The imports, functions, classes and plain assignments in the code cells of a notebook: all that an exercise can need."""
    kept: list[str] = []
    for number, cell in enumerate(json.loads(notebook.read_text(encoding="utf-8"))["cells"], start=1):
        if cell["cell_type"] != "code":
            continue
        lines = "".join(cell["source"]).splitlines()
        source = "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in lines)
        try:
            body = ast.parse(source).body
        except SyntaxError as error:
            raise ValueError(f"cell {number}, line {error.lineno}: {error.msg}") from None
        for node in body:
            if isinstance(node, KEPT) or (isinstance(node, ast.Assign) and isinstance(node.value, PLAIN)):
                kept.append(ast.unparse(node))
    return "\n\n".join(kept) + "\n"


def names_of(path: Path) -> dict[str, Any]:
    """What the student's file defines once it has run."""
    with time_limit(SECONDS):
        if path.suffix != ".ipynb":
            return runpy.run_path(str(path))
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder) / f"{path.stem}.py"
            script.write_text(definitions(path), encoding="utf-8")
            return runpy.run_path(str(script))


def judge_names(names: dict[str, Any]) -> Iterator[tuple[str, Verdict | None]]:
    """(exercise, None) when it begins and (exercise, verdict) when it is judged, for each one that the file defines."""
    for name, exercise in EXERCISES.items():
        if not callable(names.get(name)):
            continue
        yield name, None
        if str(getattr(names[name], "__module__", "")).startswith("minilm"):
            yield name, Verdict("wrong", "this function comes from minilm: write your own")
        else:
            yield name, judge(exercise, names[name], solution(name))


def main(path: Path, results: Path) -> None:
    """Judge the file and write the lines."""
    limit_memory(MEMORY)
    with open(results, "w", encoding="utf-8") as file:
        for name, verdict in judge_names(names_of(path)):
            row = {"exercise": name} if verdict is None else {"exercise": name, **dataclasses.asdict(verdict)}
            file.write(json.dumps(row) + "\n")
            file.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

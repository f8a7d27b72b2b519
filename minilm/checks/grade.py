"""Judging a student's file: `python -m minilm.checks.grade FILE RESULTS`, which `minilm check FILE` starts as a process of its own.

RESULTS gets a line of JSON when an exercise begins and one with its verdict, so that whatever the student's code does to the
process, what was judged before is known, and where it ended. What the file prints goes nowhere near it.
"""

import ast
import dataclasses
import json
import re
import runpy
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minilm.checks.exercises import EXERCISES, examine, solution
from minilm.checks.observe import told
from minilm.checks.verdict import Verdict
from minilm.runtime import limit_memory, time_limit

SECONDS = 20.0  # of computing, to run the file, before any function is judged
MEMORY = 2 * 2**30  # bytes, beyond what minilm itself has taken

KEPT = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
PLAIN = (ast.Constant, ast.Lambda, ast.Name, ast.Attribute)


def definitions(notebook: Path) -> tuple[str, dict[str, Verdict]]:
    """The imports, functions, classes and plain assignments of a notebook, which is all that an exercise can need.

    Also a verdict on each function in a cell that Python cannot read. ValueError if the file is no notebook.
    """
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        sources = ["".join(cell["source"]) if cell["cell_type"] == "code" else "" for cell in cells]
    except (ValueError, KeyError, TypeError):
        raise ValueError("this is no notebook") from None
    kept: list[str] = []
    broken: dict[str, Verdict] = {}
    for number, source in enumerate(sources, start=1):
        lines = ["" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines()]
        try:
            body = ast.parse("\n".join(lines)).body
        except SyntaxError as error:
            for name in re.findall(r"^def +(\w+)", source, re.M):
                broken[name] = Verdict("wrong", f"cell {number}, {told(error)}")
            continue
        for node in body:
            if isinstance(node, KEPT) or (isinstance(node, ast.Assign) and isinstance(node.value, PLAIN)):
                kept.append(ast.unparse(node) if needed(node) else forgiving(node))
    return "\n\n".join(kept) + "\n", broken


def needed(node: ast.stmt) -> bool:
    """Whether an error in it must be told: an import, or an exercise."""
    return isinstance(node, ast.Import | ast.ImportFrom) or getattr(node, "name", "") in EXERCISES


def forgiving(node: ast.stmt) -> str:
    """A statement that may need what was left out of the notebook, `k = v = x`, say: then it is left out as well."""
    return f"try:\n{textwrap.indent(ast.unparse(node), '    ')}\nexcept (NameError, AttributeError):\n    pass"


def comes_from_minilm(value: Any) -> bool:
    """Whether something was defined by the library."""
    return str(getattr(value, "__module__", "")).startswith("minilm")


def names_of(path: Path) -> dict[str, Any]:
    """What the student's file defines once it has run; a Verdict where a cell of a notebook cannot be read."""
    with time_limit(SECONDS, patience=5):
        if path.suffix != ".ipynb":
            return runpy.run_path(str(path))
        source, broken = definitions(path)
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder) / f"{path.stem}.py"
            script.write_text(source, encoding="utf-8")
            names = runpy.run_path(str(script))
        # A lesson imports what earlier lessons wrote: that is not this student's answer to anything.
        return {name: value for name, value in names.items() if not comes_from_minilm(value)} | broken


def judge_names(names: dict[str, Any]) -> Iterator[tuple[str, Verdict | None]]:
    """(exercise, None) when it begins and (exercise, verdict) when it is judged, for each one that the file defines.

    As in a notebook, the library's version stands in for what did not pass, so that one mistake is told once.
    """
    functions = [value for value in names.values() if hasattr(value, "__globals__")]
    for name in EXERCISES:
        function = names.get(name)
        if not (callable(function) or isinstance(function, Verdict)):
            continue
        if comes_from_minilm(function) and not isinstance(function, Verdict) and function is not solution(name):
            continue  # a tool of the library that happens to have the name of an exercise
        yield name, None
        if isinstance(function, Verdict):
            verdict = function
        elif comes_from_minilm(function):
            verdict = Verdict("wrong", "this function comes from minilm: write your own")
        else:
            verdict = examine(name, function)
        if not verdict.passed:
            for other in functions:
                if not comes_from_minilm(other):
                    other.__globals__[name] = solution(name)
        yield name, verdict


def main(path: Path, results: Path) -> None:
    """Judge the file and write the lines; what hinders its running is said on stderr."""
    limit_memory(MEMORY)
    try:
        names = names_of(path)
    except (Exception, SystemExit) as error:
        sys.exit(told(error))
    with open(results, "w", encoding="utf-8") as file:
        for name, verdict in judge_names(names):
            row = {"exercise": name} if verdict is None else {"exercise": name, **dataclasses.asdict(verdict)}
            file.write(json.dumps(row) + "\n")
            file.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

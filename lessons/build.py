"""Make the notebooks: lessons/src/NN_name.py (jupytext, percent format) -> lessons/NN_name.ipynb, run, with outputs.

    python lessons/build.py            builds the notebooks whose source has changed
    python lessons/build.py FILE ...   builds these, changed or not
    python lessons/build.py --all      builds every one
    python lessons/build.py --check    only says what is stale, or beyond the budget of a lesson

The exercise cells keep their stubs: a check of a stub hands out the library's function, so the rest of the notebook runs.
Outputs of cells tagged `check` are removed, for they would speak of a pass that nobody has earned.
"""

import hashlib
import os
import re
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LESSONS = Path(__file__).resolve().parent


def sources() -> list[Path]:
    """What is edited, in the order of the course."""
    return sorted((LESSONS / "src").glob("[0-9][0-9]_*.py"))


def notebook_of(source: Path) -> Path:
    """The notebook that is made from a source."""
    return LESSONS / f"{source.stem}.ipynb"


def source_hash(source: Path) -> str:
    """SHA-256 of a lesson's source, kept in its notebook; line ends do not matter."""
    return hashlib.sha256(source.read_text(encoding="utf-8").encode()).hexdigest()


def stale() -> list[Path]:
    """The sources whose notebook is missing or was made from another version."""
    found = []
    for source in sources():
        notebook = notebook_of(source)
        if not notebook.exists() or source_hash(source) not in notebook.read_text(encoding="utf-8"):
            found.append(source)
    return found


def about(source: Path) -> dict[str, Any]:
    """What the notebook's metadata say: title, minutes, the lessons it needs, its exercises, and the hash of the source.

    ValueError where the first cell names no time, or not what is needed.
    """
    text = source.read_text(encoding="utf-8")
    title = re.search(r"^# # \d+ (.+)$", text, re.M)
    minutes = re.search(r"Time: (\d+) minutes", text)
    needs = re.search(r"^# needs: ([^.]+)\.", text, re.M)
    if not (title and minutes and needs):
        raise ValueError(f"{source.name}: the first cell must hold `# NN title`, `needs: ....` and `Time: NN minutes`")
    return {
        "title": title[1],
        "minutes": int(minutes[1]),
        "needs": [int(number) for number in re.findall(r"\b\d\d\b", needs[1])],
        "exercises": re.findall(r'^\w+ = check\(\s*"(\w+)", ', text, re.M),
        "source_sha256": source_hash(source),
    }


def convert(source: Path) -> Any:
    """The notebook of a source, not yet run."""
    import jupytext

    notebook = jupytext.read(source, fmt="py:percent")
    for cell in notebook.cells:
        if "id" not in cell.metadata:
            raise ValueError(f"{source.name}: the cell that begins {cell.source[:40]!r} has no id")
        cell["id"] = cell.metadata.pop("id")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata = {"kernelspec": kernel, "minilm": about(source)}
    return notebook


def build(source: Path) -> Path:
    """Convert, run (with results in a folder of its own) and write one notebook."""
    import nbformat
    from nbclient import NotebookClient

    notebook = convert(source)
    with tempfile.TemporaryDirectory() as home:
        os.environ["MINILM_HOME"] = home
        NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if "check" in cell.metadata.get("tags", []):
            cell.outputs = []
    path = notebook_of(source)
    unfinished = path.with_suffix(".tmp")
    nbformat.write(notebook, unfinished)
    unfinished.replace(path)
    return path


def budget(notebook: Any, size: int) -> Iterator[str]:
    """What makes a lesson too long, too dense or too large; `size` is that of the file in bytes."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    lines = [len(source.splitlines()) for source in code]
    words = sum(len(cell.source.split()) for cell in notebook.cells if cell.cell_type == "markdown")
    exercises = sum("exercise" in cell.metadata.get("tags", []) for cell in notebook.cells)
    pictures = sum(
        "image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])
    )
    figures = {
        "cells": (len(notebook.cells), 25, 45),
        "words of prose": (words, 1000, 2000),
        "lines of code": (sum(lines), 0, 150),
        "lines in the median code cell": (statistics.median(lines), 0, 6),
        "lines in the longest code cell": (max(lines), 0, 25),
        "exercises": (exercises, 2, 5),
        "pictures": (pictures, 2, 4),
        "bytes": (size, 0, 400_000),
    }
    for what, (figure, low, high) in figures.items():
        if not low <= figure <= high:
            yield f"{figure} {what}: it should be {low} to {high}"


def judge() -> list[str]:
    """All that is stale or beyond its budget."""
    import nbformat

    found = [f"{source.name}: its notebook is stale: run python lessons/build.py" for source in stale()]
    for source in sources():
        path = notebook_of(source)
        if path.exists():
            notebook = nbformat.read(path, as_version=4)
            found += [f"{path.name}: {problem}" for problem in budget(notebook, path.stat().st_size)]
    return found


def main(arguments: list[str]) -> int:
    """Build what is named, all, or what is stale; with --check fail if anything is not as it should be."""
    if arguments == ["--check"]:
        problems = judge()
        print("\n".join(problems) or "every notebook is fresh and within its budget")
        return 1 if problems else 0
    named = sources() if arguments == ["--all"] else [Path(name).resolve() for name in arguments] or stale()
    for source in named:
        print(f"built {build(source)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

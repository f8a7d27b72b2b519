"""`minilm lesson`: the list of lessons and what you have done of them, or a copy of one to work in."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from textwrap import shorten
from typing import Any

from minilm.checks.results import read_results
from minilm.cli.options import Parser
from minilm.runtime import minilm_home, whole_file


def run(arguments: list[str]) -> int:
    """List the lessons, or copy one to my/ and open it."""
    parser = Parser(
        "lesson", "List the lessons, or open one: it is copied to my/, and never overwritten.", "minilm lesson 1"
    )
    parser.option("number", nargs="?", type=int, help="the lesson to open (default: list them)")
    parser.option("--no-open", action="store_true", help="copy it and print where, without opening it")
    parser.option("--seed", type=int, default=0, rare=True, help="accepted everywhere; nothing is drawn")
    parser.option("--json", action="store_true", help="the list as JSON")
    options = parser.read(arguments)
    lessons = {lesson["number"]: lesson for lesson in course()}
    if options.number is None:
        rows = [{name: value for name, value in lesson.items() if name != "path"} for lesson in lessons.values()]
        print(json.dumps(rows) if options.json else format_course(rows))
        return 0
    if options.number not in lessons:
        raise ValueError(f"there is no lesson {options.number}: there are {', '.join(map(str, lessons)) or 'none'}")
    source = lessons[options.number]["path"]
    mine = minilm_home() / "my" / source.name
    mine.parent.mkdir(parents=True, exist_ok=True)
    if not mine.exists():
        with whole_file(mine) as unfinished:
            unfinished.write_text(without_outputs(source), encoding="utf-8")
    print(f"your copy of the lesson: {mine}")
    if options.no_open:
        return 0
    if importlib.util.find_spec("notebook") is None and importlib.util.find_spec("jupyterlab") is None:
        remedy = "install it with pip install 'minilm[notebooks]'"
        if in_checkout():
            remedy = f"python3 run.py lesson {options.number} installs and opens it"
        raise ValueError(f"Jupyter is not installed: {remedy}")
    program = "lab" if importlib.util.find_spec("jupyterlab") else "notebook"
    return subprocess.run([sys.executable, "-m", "jupyter", program, str(mine)]).returncode


def without_outputs(path: Path) -> str:
    """The notebook as if it had never been run: what a student is to guess first must not stand there."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def lesson_folder() -> Path:
    """Where the notebooks are: lessons/ of the checkout, or in the installed package."""
    package = Path(__file__).resolve().parents[1]
    return package.parent / "lessons" if in_checkout() else package / "_lessons"


def in_checkout() -> bool:
    """Whether this package lies in a checkout, beside run.py, or was installed without it."""
    return (Path(__file__).resolve().parents[2] / "run.py").is_file()


def course() -> list[dict[str, Any]]:
    """The lessons in order: number, title, minutes, the lessons needed before, exercises, which are passed, the notebook."""
    results, lessons = read_results(), []
    for path in sorted(lesson_folder().glob("[0-9][0-9]_*.ipynb")):
        about = json.loads(path.read_text(encoding="utf-8"))["metadata"]["minilm"]
        lesson = {
            "number": int(path.name[:2]),
            **{name: about[name] for name in ("title", "minutes", "needs", "exercises")},
        }
        passed = [name for name in about["exercises"] if results.get(name, {}).get("passed")]
        lessons.append({**lesson, "passed": passed, "path": path})
    return lessons


def format_course(rows: list[dict[str, Any]]) -> str:
    """A line a lesson, the sum, and what to do next."""
    lines = []
    for row in rows:
        passed, all_of_them = len(row["passed"]), len(row["exercises"])
        sign = "✓" if passed == all_of_them else "…" if passed else " "
        needs = "needs " + ", ".join(f"{number:02d}" for number in row["needs"]) if row["needs"] else ""
        title = shorten(row["title"], 52, placeholder="…")
        exercises = f"{passed} of {all_of_them} exercises"
        figures = f"{row['minutes']:3} min  {exercises:17}  {needs}"
        lines.append(f"{sign} {row['number']:02d}  {title:52}  {figures}".rstrip())
    done = sum(len(row["passed"]) for row in rows)
    todo = [row for row in rows if len(row["passed"]) < len(row["exercises"])]
    left = sum(row["minutes"] for row in todo)
    lines.append(f"{done} of {sum(len(row['exercises']) for row in rows)} exercises passed; about {left} minutes left")
    if todo:
        lines.append(f"next: {'python3 run.py' if in_checkout() else 'minilm'} lesson {todo[0]['number']}")
    return "\n".join(lines)

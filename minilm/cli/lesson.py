"""`minilm lesson`: the list of lessons, or a copy of one to work in."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

from minilm.cli.options import Parser
from minilm.runtime import minilm_home


def run(arguments: list[str]) -> int:
    """List the lessons, or copy one to my/ and open it."""
    parser = Parser(
        "lesson", "List the lessons, or open one: it is copied to my/, and never overwritten.", "minilm lesson 5"
    )
    parser.option("number", nargs="?", type=int, help="the lesson to open (default: list them)")
    parser.option("--no-open", action="store_true", help="copy it and print where, without opening it")
    parser.option("--seed", type=int, default=0, rare=True, help="accepted everywhere; nothing is drawn")
    parser.option("--json", action="store_true", help="the list as JSON")
    options = parser.read(arguments)
    lessons = {int(path.name[:2]): path for path in sorted(lesson_folder().glob("[0-9][0-9]_*.ipynb"))}
    if options.number is None:
        rows = [{"number": number, **about(path)} for number, path in lessons.items()]
        if options.json:
            print(json.dumps(rows))
        for row in [] if options.json else rows:
            print(f"  {row['number']:02d}  {row['title']}  ({row['minutes']} minutes)")
        return 0
    if options.number not in lessons:
        raise ValueError(f"there is no lesson {options.number}: there are {', '.join(map(str, lessons)) or 'none'}")
    source = lessons[options.number]
    mine = minilm_home() / "my" / source.name
    mine.parent.mkdir(parents=True, exist_ok=True)
    if not mine.exists():
        unfinished = mine.with_suffix(".tmp")
        shutil.copyfile(source, unfinished)
        unfinished.replace(mine)
    print(f"your copy of the lesson: {mine}")
    if options.no_open:
        return 0
    if importlib.util.find_spec("notebook") is None and importlib.util.find_spec("jupyterlab") is None:
        raise ValueError(f"Jupyter is not installed: python3 run.py lesson {options.number} installs and opens it")
    program = "lab" if importlib.util.find_spec("jupyterlab") else "notebook"
    return subprocess.run([sys.executable, "-m", "jupyter", program, str(mine)]).returncode


def lesson_folder() -> Path:
    """Where the notebooks are: lessons/ of the checkout, or in the installed package."""
    package = Path(__file__).resolve().parents[1]
    checkout = package.parent / "lessons"
    return checkout if checkout.is_dir() else package / "_lessons"


def about(path: Path) -> dict[str, object]:
    """The title and the minutes that a notebook's metadata name."""
    metadata = json.loads(path.read_text(encoding="utf-8"))["metadata"]
    return {name: metadata["minilm"][name] for name in ("title", "minutes")}

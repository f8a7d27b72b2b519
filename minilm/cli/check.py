"""`minilm check`: judge the functions in a student's file, in a process of its own, and say what is wrong."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from minilm.checks.results import read_results, record
from minilm.checks.verdict import Verdict
from minilm.cli.lesson import course
from minilm.cli.options import Parser

SECONDS = 180  # for the whole file; each exercise has its own limit, and so has the file


def run(arguments: list[str]) -> int:
    """Judge a file, list the exercises, push a little, or print the report on the checks themselves."""
    parser = Parser(
        "check", "Check your solutions of the lessons' exercises.", "minilm check my/05_self_attention.ipynb"
    )
    parser.option("file", nargs="?", help="a Python file or a notebook that defines functions named like exercises")
    parser.option("--list", action="store_true", help="the exercises, and which you have passed")
    parser.option("--hint", metavar="NAME", help="where to begin with this exercise")
    parser.option("--report", action="store_true", help="which wrong solutions each check rejects")
    parser.option(
        "--gradients", action="store_true", rare=True, help="hand-derived gradients against central differences"
    )
    parser.option("--no-record", action="store_true", help="do not count the results as your own (for teachers)")
    parser.option("--seed", type=int, default=0, rare=True, help="accepted everywhere; the inputs are fixed")
    parser.option("--json", action="store_true", help="JSON instead of text")
    options = parser.read(arguments)
    if options.list:
        return show_rows(exercises(), options.json, "{status:8}{exercise:40}{lesson}")
    if options.hint:
        from minilm.checks.exercises import find

        row = {"exercise": options.hint, "hint": find(options.hint).start}
        return show_rows([row], options.json, "{exercise}: {hint}")
    if options.report:
        return show_report(options.json)
    if options.gradients:
        from minilm.byhand.agreement import agreement

        table = [{"function": name, "error": error} for name, error in agreement().items()]
        return show_rows(table, options.json, "{function:40}{error:.1e}")
    if options.file is None:
        raise ValueError("name a Python file or a notebook to check, or say --list")
    path = Path(options.file)
    if not path.is_file():
        raise ValueError(f"{path} is no file: name the Python file or the notebook that holds your functions")
    verdicts = judge_file(path)
    if not options.no_record:
        record_all(verdicts)
    if options.json:
        print(json.dumps(verdicts))
    else:
        show_verdicts(verdicts)
    return 0 if all(verdict["status"] == "passed" for verdict in verdicts) else 1


def exercises() -> list[dict[str, str]]:
    """A row for each exercise of the lessons: its name, its lesson, and whether the student has passed it."""
    rows, results = [], read_results()
    for lesson in course():
        for name in lesson["exercises"]:
            state = results.get(name)
            status = "-" if state is None else "passed" if state.get("passed") else "tried"
            rows.append({"exercise": name, "status": status, "lesson": f"{lesson['number']:02d} {lesson['title']}"})
    return rows


def show_rows(rows: list[dict[str, Any]], as_json: bool, pattern: str) -> int:
    """Print rows as JSON or by a pattern."""
    if as_json:
        print(json.dumps(rows))
    for row in [] if as_json else rows:
        print(pattern.format(**row).rstrip())
    return 0


def show_report(as_json: bool) -> int:
    """How good the checks are: every mistake must be rejected with its own hint, every other right solution accepted."""
    from minilm.checks.exercises import report

    rows = report()
    if not as_json:
        heads = list(rows[0])
        total = {"exercise": "all", **{head: sum(row[head] for row in rows) for head in heads[1:]}}
        for row in ({head: head.replace("_", " ") for head in heads}, *rows, total):
            print(f"{row['exercise']:40}" + "".join(f"{row[head]!s:>15}" for head in heads[1:]))
    else:
        print(json.dumps(rows))
    whole = all(row["mistakes"] == row["rightly_named"] and row["alternatives"] == row["accepted"] for row in rows)
    return 0 if whole else 1


def judge_file(path: Path) -> list[dict[str, str]]:
    """The verdicts of minilm.checks.grade, run apart. An exercise in which the process ended is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results"
        command = [sys.executable, "-P", "-m", "minilm.checks.grade", str(path.resolve()), str(results)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}
        limit: str | None = None
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                encoding="utf-8",
                errors="replace",
                timeout=SECONDS,
                env=environment,
            )
            if done.returncode:
                limit = (done.stderr.strip().splitlines() or [f"the process ended with {done.returncode}"])[-1]
        except subprocess.TimeoutExpired:
            limit = f"it took longer than {SECONDS} s: is there a loop without an end?"
        lines = results.read_text(encoding="utf-8").splitlines() if results.exists() else []
    rows = [json.loads(line) for line in lines]
    verdicts = [row for row in rows if "status" in row]
    if limit and len(rows) % 2:  # one begun, and no verdict on it
        broken = {
            "exercise": rows[-1]["exercise"],
            "status": "wrong",
            "message": f"your code ended the process: {limit}",
        }
        verdicts.append({**broken, "hint": "", "mistake": "", "printed": ""})
    elif limit:
        raise ValueError(f"{path} could not be run: {limit}")
    if not verdicts:
        raise ValueError(f"{path} defines none of the exercises: `minilm check --list` names them")
    return verdicts


def record_all(verdicts: list[dict[str, str]]) -> None:
    """Count the verdicts among the student's results."""
    for verdict in verdicts:
        record(verdict["exercise"], Verdict(**{name: text for name, text in verdict.items() if name != "exercise"}))


def show_verdicts(verdicts: list[dict[str, str]]) -> None:
    """What happened in each exercise, the hint, what the code printed, and the score."""
    for verdict in verdicts:
        print(f"{verdict['exercise']}: {verdict['status']}: {verdict['message']}")
        if verdict["hint"]:
            print(f"  hint: {verdict['hint']}")
        if verdict["printed"]:
            print("  your code printed:\n" + verdict["printed"])
    passed = sum(verdict["status"] == "passed" for verdict in verdicts)
    print(f"{passed} of {len(verdicts)} passed")

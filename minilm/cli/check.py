"""`minilm check`: judge the functions in a student's file, in a process of its own, and say what is wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

from minilm.cli.options import Parser

SECONDS = 120  # for the whole file


def run(arguments: list[str]) -> int:
    """Judge a file, list the exercises, or print the report on the checks themselves."""
    parser = Parser("check", "Check your solutions of the lessons' exercises.", "minilm check my_attention.py")
    parser.option("file", nargs="?", help="a Python file that defines functions named like exercises")
    parser.option("--list", action="store_true", help="the exercises by name")
    parser.option("--report", action="store_true", help="which wrong solutions each check rejects")
    parser.option("--seed", type=int, default=0, rare=True, help="accepted everywhere; the inputs are fixed")
    parser.option("--json", action="store_true", help="JSON instead of text")
    options = parser.read(arguments)
    if options.list or options.report:
        from minilm.checks.exercises import EXERCISES, report

        rows = report() if options.report else [{"exercise": name} for name in EXERCISES]
        if options.json:
            print(json.dumps(rows))
        for row in [] if options.json else rows:
            print("  ".join(f"{name} {value}" if name != "exercise" else str(value) for name, value in row.items()))
        return 0
    if options.file is None:
        raise ValueError("name a Python file to check, or say --list")
    path = Path(options.file)
    if not path.is_file():
        raise ValueError(f"{path} is no file: name the Python file that holds your functions")
    command = [sys.executable, "-P", "-m", "minilm.checks.exercises", str(path.resolve())]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", timeout=SECONDS, env=environment
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"{path} took longer than {SECONDS} s: is there a loop without an end?") from None
    lines = [line for line in done.stdout.splitlines() if line.startswith("verdict ")]
    if done.returncode or not lines:
        reason = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise ValueError(f"{path} could not be run: {reason}")
    verdicts = json.loads(lines[-1].removeprefix("verdict "))
    if options.json:
        print(json.dumps(verdicts))
    for verdict in [] if options.json else verdicts:
        hint = f"\n  hint: {verdict['hint']}" if verdict["hint"] else ""
        print(f"{verdict['exercise']}: {verdict['status']}: {verdict['message']}{hint}")
    return 0 if all(verdict["status"] == "passed" for verdict in verdicts) else 1

"""Judge the functions of one file and print the verdicts as JSON. `minilm check FILE` runs this in a process of its own."""

import dataclasses
import json
import runpy
import sys

from minilm.checks.compare import Verdict, judge
from minilm.checks.exercises import EXERCISES


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

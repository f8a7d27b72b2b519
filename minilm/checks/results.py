"""What a student has passed, as one small JSON file an exercise in my/checks: so it can be counted, and graded."""

import json
import time
from pathlib import Path
from typing import Any

from minilm.checks.verdict import Verdict
from minilm.runtime import minilm_home, whole_file


def results_folder() -> Path:
    """Where the results lie, beside the student's notebooks."""
    return minilm_home() / "my" / "checks"


def read_results() -> dict[str, dict[str, Any]]:
    """The record of each exercise that has been tried, by name. A file that cannot be read counts as not tried."""
    records = {}
    for path in sorted(results_folder().glob("*.json")):
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(found, dict):
            records[path.stem] = found
    return records


def record(name: str, verdict: Verdict) -> None:
    """Note a verdict. A pass stays a pass, whatever is tried later; a cell that is not yet filled in is no try."""
    if verdict.status == "not started":
        return
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    before = read_results().get(name, {})
    entry = {
        "exercise": name,
        "passed": verdict.passed or bool(before.get("passed")),
        "passed_at": before.get("passed_at") or (now if verdict.passed else None),
        "tries": int(before.get("tries", 0)) + 1,
        "last": {"at": now, "status": verdict.status, "message": verdict.message, "mistake": verdict.mistake},
    }
    path = results_folder() / f"{name}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as unfinished:
            unfinished.write_text(json.dumps(entry, indent=1) + "\n", encoding="utf-8")
    except OSError:
        return  # a folder that cannot be written must not spoil the lesson

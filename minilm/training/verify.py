"""Whether a run is whole: its checkpoints, what it learns from, and its log. Nothing is changed.

What training reads besides a checkpoint is described in it by size and SHA-256, as the manifest describes the checkpoint's
own files: so a run that goes on learns from what it began with, or not at all.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from minilm.text.token_file import verify_token_file
from minilm.training.checkpoint import check_checkpoint, newest_whole, run_of
from minilm.training.run_log import LOG, marked_part
from minilm.training.storage import Damaged, newest_first, problem_of, read_json


def describe_files(run: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What is kept of these files of a run, so that `check_files` knows them again."""
    described = {}
    for name in names:
        with (run / name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        described[name] = {"bytes": (run / name).stat().st_size, "sha256": digest}
    return described


def check_files(run: Path, described: Any) -> None:
    """Damaged for the first file of a run that is no longer what was described."""
    if not isinstance(described, Mapping):
        raise ValueError(f"the checkpoint does not say what {run} learns from: it can be used, but not trained further")
    for name, expected in described.items():
        if problem := problem_of(run / Path(name).name, expected):
            raise Damaged(run / Path(name).name, problem, "put the old file back, or train anew")


def parts_of(path: str | Path) -> list[Path]:
    """What there is to verify in a run, the newest checkpoint first, or the one checkpoint; ValueError for another folder."""
    path = Path(path)
    run_of(path)
    steps = newest_first(path)
    return [*steps, *sorted(path.glob("*.tokens")), *path.glob(LOG)] if steps else [path]


def verify_run(path: str | Path) -> list[str]:
    """What is wrong with a run, or with one checkpoint, a line a finding; none if all of it is what was saved."""
    findings: list[str] = []
    broken: set[str] = set()  # token files that are damaged in themselves

    def look(check: Callable[..., Any], *what: Any) -> bool:
        try:
            check(*what)
        except (OSError, ValueError) as error:
            findings.append(str(error))
            return False
        return True

    for part in parts_of(path):
        if part.suffix == ".tokens":
            broken |= set() if look(verify_token_file, part) else {part.name}
        elif part.name != LOG:
            look(check_checkpoint, part)
    run = Path(path)
    if newest := newest_whole(run):
        state = read_json(newest / "state.json", state=dict)["state"]
        files = state.get("files", {})
        unsaid = (
            [{name: files[name]} for name in files if name not in broken] if isinstance(files, Mapping) else [files]
        )
        for described in unsaid:
            look(check_files, run, described)
        if "log" in state:
            look(_check_log, run / LOG, state["log"])
    return findings


def _check_log(log: Path, mark: Any) -> None:
    if not log.exists():
        raise ValueError(f"{log} is missing: the run can go on, with a log that begins anew")
    marked_part(log, mark)

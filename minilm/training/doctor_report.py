"""What the doctor found, in words: a table, a sentence, and data for JSON."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from minilm.training.doctor import NOT_OFFERED, OK, WRONG, Finding

NAMED = 4  # how many failures a sentence names
NAME, CELL = 40, 24  # characters of a column


def table(findings: Sequence[Finding]) -> list[str]:
    """A line for each computation, a column for each number type: the worst of its findings."""
    dtypes = list(dict.fromkeys(str(finding.dtype).removeprefix("torch.") for finding in findings))
    rows: dict[str, dict[str, list[Finding]]] = {}
    for finding in findings:
        cells = rows.setdefault(finding.case.name, {})
        cells.setdefault(str(finding.dtype).removeprefix("torch."), []).append(finding)
    lines = [f"  {'':<{NAME}} " + " ".join(f"{dtype:<{CELL}}" for dtype in dtypes).rstrip()]
    for name, cells in rows.items():
        words = [cell(cells.get(dtype, [])) for dtype in dtypes]
        lines.append(f"  {name:<{NAME}} " + " ".join(f"{word:<{CELL}}" for word in words).rstrip())
    return lines


def cell(findings: Sequence[Finding]) -> str:
    """The worst of some findings: `ok` with the largest error, WRONG and where, or why it is not offered."""
    if not findings:
        return "-"
    bad = [finding for finding in findings if finding.state != OK]
    worst = max(bad or findings, key=lambda finding: (finding.state == WRONG, finding.error))
    if worst.state == OK:
        return f"ok {worst.error:.1e}" if worst.error else "ok, exact"
    if worst.state == WRONG:
        return f"WRONG {by(worst)} ({worst.case.what}: {worst.where})"
    return f"not offered ({worst.case.what}: {worst.why})"


def by(finding: Finding) -> str:
    """How wrong: by which part, or that what came out is no number."""
    return (
        f"by {finding.error:.1e}, {finding.allowed:.1e} allowed"
        if math.isfinite(finding.error)
        else "no number, or another shape"
    )


def as_data(finding: Finding) -> dict[str, Any]:
    """A finding for JSON, which knows no infinity."""
    error = finding.error if math.isfinite(finding.error) else None
    return {
        "name": finding.case.name, "what": finding.case.what, "dtype": str(finding.dtype).removeprefix("torch."),
        "state": finding.state, "error": error, "allowed": finding.allowed, "where": finding.where, "why": finding.why,
    }  # fmt: skip


def conclusion(device: torch.device, findings: Sequence[Finding], guilty: Sequence[str]) -> str:
    """One sentence: whether the device computes right, and if not, what fails and which operation it may be."""
    states = [finding.state for finding in findings]
    missing = states.count(NOT_OFFERED)
    if WRONG not in states:
        rest = f", {missing} are not offered" if missing else ""
        return f"{device} computes right: {states.count('ok')} of {len(states)} computations agree with the CPU in float64{rest}"
    failed = list(dict.fromkeys(finding.case.name for finding in findings if finding.state == WRONG))
    names = ", ".join(failed[:NAMED]) + (f" and {len(failed) - NAMED} more" if len(failed) > NAMED else "")
    most = max(findings, key=lambda finding: (finding.state == WRONG, finding.error))
    return f"{device} computes WRONG: {names} ({by(most)}); first suspects: torch's {', '.join(guilty)}"

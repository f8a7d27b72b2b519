"""What the doctor found, in words: a table, a sentence, and data for JSON."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from minilm.training.doctor import NOT_OFFERED, OK, WRONG, Finding

NAMED = 4  # how many failures a sentence names
NAME, CELL = 40, 18  # characters of a column


def table(findings: Sequence[Finding]) -> list[str]:
    """A line for each computation, a column for each number type: the worst of its findings. What is not ok is explained in
    lines of its own below."""
    dtypes = list(dict.fromkeys(str(finding.dtype).removeprefix("torch.") for finding in findings))
    rows: dict[str, dict[str, list[Finding]]] = {}
    for finding in findings:
        cells = rows.setdefault(finding.case.name, {})
        cells.setdefault(str(finding.dtype).removeprefix("torch."), []).append(finding)
    lines = [f"  {'':<{NAME}} " + " ".join(f"{dtype:<{CELL}}" for dtype in dtypes).rstrip()]
    for name, cells in rows.items():
        words = [cell(cells.get(dtype, [])) for dtype in dtypes]
        lines.append(f"  {name:<{NAME}} " + " ".join(f"{word:<{CELL}}" for word in words).rstrip())
        said = {dtype: worst(found) for dtype, found in cells.items()}
        lines += [f"      {dtype}, {detail(finding)}" for dtype, finding in said.items() if finding.state != OK]
    return lines


def worst(findings: Sequence[Finding]) -> Finding:
    """The one that says most: what is wrong before what is not offered, and that before what is right."""
    return max(findings, key=lambda finding: ([OK, NOT_OFFERED, WRONG].index(finding.state), finding.error))


def cell(findings: Sequence[Finding]) -> str:
    """The worst of some findings, in few words: `ok` or WRONG with the largest error, or that it is not offered."""
    if not findings:
        return "-"
    finding = worst(findings)
    if finding.state == NOT_OFFERED:
        return finding.state
    if not math.isfinite(finding.error):
        return f"{finding.state}, no number"
    return f"{finding.state} {finding.error:.1e}" if finding.error else f"{finding.state}, exact"


def detail(finding: Finding) -> str:
    """What was asked, and what came of it."""
    if finding.state == NOT_OFFERED:
        return f"{finding.case.what}: {finding.why}"
    return f"{finding.case.what}: {finding.where}, {by(finding)}"


def by(finding: Finding) -> str:
    """How wrong: by which part, or that what came out is no number."""
    if not math.isfinite(finding.error):
        return "no number, or another shape"
    return f"off by {finding.error:.1e}, {finding.allowed:.1e} allowed"


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

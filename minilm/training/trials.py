"""The trials of a search: each a pure function of its options, seed, fold and budget, each done once and kept in a file.

    file = TrialsFile(Path("search/trials.jsonl"))            # a line for each trial that is done
    stages = conduct(plan, lambda candidate, budget: file.scores_of(plan.trials(candidate, budget), run))

So a search that was killed goes on where it was, in any order, and comes to the same end. `run` trains and gives a score, of which
the lower is better; what cannot be trained has the score infinity.
"""

import json
import math
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from minilm.runtime import sync, whole_file
from minilm.training.search import best_first, count_rounds, paired, successive_halving, welch


class Trial(NamedTuple):
    """One training: with these options and this seed, scored on this fold (None: there are no folds), as long as the budget."""

    options: dict[str, Any]
    seed: int = 0
    fold: int | None = None
    budget: int = 1

    @property
    def key(self) -> str:
        """The trial as text: equal for equal trials, whatever the order of their options."""
        return json.dumps(self._asdict(), sort_keys=True)


class TrialsFile:
    """The scores of the trials that are done, in memory and on the disk, a line each.

    A line that was being written when the process was killed is cut off: its trial is done again. ValueError for a line that is
    damaged otherwise, and for two scores of one trial.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.scores: dict[str, float] = {}
        self.seconds = 0.0  # that all trials took together
        data = path.read_bytes() if path.exists() else b""
        *lines, unfinished = data.split(b"\n")
        for number, line in enumerate(lines, start=1):
            self._remember(number, line)
        if unfinished or not path.exists():
            with whole_file(path) as file:
                file.write_bytes(data[: len(data) - len(unfinished)])

    def _remember(self, number: int, line: bytes) -> None:
        try:
            record = json.loads(line)
            key = Trial(*(record[name] for name in Trial._fields)).key
            score = math.inf if record["score"] is None else float(record["score"])
            seconds = float(record["seconds"])
        except (ValueError, KeyError, TypeError):
            raise ValueError(
                f"line {number} of {self.path} is damaged: delete it, and its trial is done again"
            ) from None
        if self.scores.setdefault(key, score) != score:
            raise ValueError(
                f"line {number} of {self.path} has another score than a line before it: delete the wrong one"
            )
        self.seconds += seconds

    def add(self, trial: Trial, score: float, seconds: float) -> None:
        """Write the line of a trial; when this returns it is on the disk."""
        stored = score if math.isfinite(score) else None
        line = json.dumps({**trial._asdict(), "score": stored, "seconds": round(seconds, 3)}, allow_nan=False) + "\n"
        try:
            with self.path.open("ab") as file:
                file.write(line.encode())
            sync(self.path)
        except OSError as error:
            error.filename = str(self.path)  # a full disk does not say what had no room
            raise
        self.scores[trial.key] = score
        self.seconds += seconds

    def scores_of(self, trials: Iterable[Trial], run: Callable[[Trial], float]) -> list[float]:
        """The score of each trial, from the file or, if it is not there yet, by `run`. NaN counts as infinite."""
        scores = []
        for trial in trials:
            if trial.key not in self.scores:
                started = time.perf_counter()
                score = run(trial)
                self.add(trial, score if math.isfinite(score) else math.inf, time.perf_counter() - started)
            scores.append(self.scores[trial.key])
        return scores


# ---- which trials, and what they say


@dataclass(frozen=True)
class Plan:
    """What a search is going to do. Every candidate is tried with every seed on every fold; the score of a candidate is the mean.

    `steps` is the budget of a trial. With `keep` the search is successive halving, and only its last round gets about so much.
    """

    candidates: list[dict[str, Any]]
    seeds: list[int]
    folds: int = 0  # 0: one part is held out, always the same
    steps: int = 1
    keep: int = 0  # 0: all candidates are tried equally long

    def __post_init__(self) -> None:
        if self.keep and self.first_budget < 1:
            raise ValueError(
                f"{self.steps} steps are too few to halve {len(self.candidates)} candidates in {self.n_rounds} rounds: "
                f"give at least {self.keep ** (self.n_rounds - 1)}, or fewer candidates"
            )

    @property
    def n_rounds(self) -> int:
        return count_rounds(len(self.candidates), self.keep) if self.keep else 1

    @property
    def first_budget(self) -> int:
        """The budget of the first round, a whole number, so that the last round has no more than `steps`."""
        return self.steps // max(self.keep, 1) ** (self.n_rounds - 1)

    @property
    def rounds(self) -> list[tuple[int, int]]:
        """(candidates, budget) of each round.

        >>> Plan([{}] * 10, [0], steps=200, keep=3).rounds
        [(10, 22), (4, 66), (2, 198)]
        """
        found = [(len(self.candidates), self.first_budget)]
        while len(found) < self.n_rounds:
            n, budget = found[-1]
            found.append((math.ceil(n / self.keep), budget * self.keep))
        return found

    @property
    def n_cells(self) -> int:
        """Trials of one candidate with one budget."""
        return len(self.seeds) * max(1, self.folds)

    @property
    def n_trials(self) -> int:
        return self.n_cells * sum(n for n, _ in self.rounds)

    @property
    def cost(self) -> int:
        """Steps of all trials together."""
        return self.n_cells * sum(n * budget for n, budget in self.rounds)

    def trials(self, candidate: dict[str, Any], budget: int) -> list[Trial]:
        """The trials of a candidate, all folds of a seed one after the other."""
        folds = range(self.folds) if self.folds else [None]
        return [Trial(candidate, seed, fold, budget) for seed in self.seeds for fold in folds]


class Tried(NamedTuple):
    """A candidate, the longest budget that it was given, and the scores of its trials with that."""

    options: dict[str, Any]
    budget: int
    scores: list[float]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.scores)

    @property
    def deviation(self) -> float:
        """Over seeds and folds; NaN of one score, or of infinite ones."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 and math.isfinite(self.mean) else math.nan


def conduct(plan: Plan, scores_of: Callable[[dict[str, Any], int], list[float]]) -> list[Tried]:
    """Do all of the plan's trials; every candidate, the best first: those of a later round before those that did not reach it.

    scores_of(candidate, budget) gives the scores of its trials. ValueError if no candidate has a finite score.
    """

    def score(candidate: dict[str, Any], budget: int) -> float:
        return statistics.fmean(scores_of(candidate, budget))

    if plan.keep:
        rounds = successive_halving(plan.candidates, score, plan.first_budget, plan.keep)
        ended = [(one.candidates, one.scores, one.budget) for one in rounds]
    else:
        ended = [(plan.candidates, [score(candidate, plan.steps) for candidate in plan.candidates], plan.steps)]
    tried: list[Tried] = []
    for candidates, scores, budget in reversed(ended):
        order = best_first(scores)
        order += [i for i in range(len(scores)) if i not in order]
        placed = [candidates[i] for i in order if all(candidates[i] != before.options for before in tried)]
        tried += [Tried(candidate, budget, scores_of(candidate, budget)) for candidate in placed]
    if not math.isfinite(tried[0].mean):
        raise ValueError("no candidate could be trained: every score is infinite, try smaller learning rates")
    return tried


class Verdict(NamedTuple):
    """How the best candidate stands beside the next: what the means differ by, and what they must, to be more than chance."""

    difference: float
    needed: float  # infinite where nobody can tell

    @property
    def word(self) -> str:
        if math.isinf(self.needed):
            return "unknown"
        return "more than chance" if self.difference > self.needed else "within chance"


def verdict(best: Tried, following: Tried, folds: int) -> Verdict:
    """With folds, the scores of both on the same folds are compared one by one, else the seeds' spreads (Welch)."""
    difference = following.mean - best.mean
    if best.budget != following.budget or not math.isfinite(difference):
        return Verdict(difference, math.inf)
    if folds:
        return Verdict(difference, paired(best.scores, following.scores, overlap=1 / (folds - 1)))
    return Verdict(difference, welch(best.scores, following.scores))

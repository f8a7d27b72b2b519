"""What `minilm search` says when its trials are done: the candidates in order, and whether the first is better than chance."""

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from minilm.cli.search_space import Space
from minilm.cli.searching import in_words
from minilm.training.trials import Plan, Tried, verdict

RESULT = "result.json"  # in the folder of the search
MOST_LINES = 10  # candidates in the table


def result_of(tried: Sequence[Tried], plan: Plan, subject: Any) -> dict[str, Any]:
    """All that is known now, for JSON; a number that is infinite or unknown is null."""

    def number(value: float) -> float | None:
        return value if math.isfinite(value) else None

    rows = [
        {
            **{
                "options": one.options,
                "budget": one.budget,
                "mean": number(one.mean),
                "median": number(statistics.median(one.scores)),
            },
            **{"deviation": number(one.deviation), "scores": [number(score) for score in one.scores]},
        }
        for one in tried
    ]
    judged = verdict(tried[0], tried[1], plan.folds) if len(tried) > 1 else None
    return {
        "score": subject.score_name,
        **{
            "trials": plan.n_trials,
            "cost": plan.cost,
            "seeds": plan.seeds,
            "folds": plan.folds,
            "best": tried[0].options,
        },
        "difference": number(judged.difference) if judged else None,
        "needed": number(judged.needed) if judged else None,
        "verdict": judged.word if judged else "unknown",
        "advice": subject.advice(tried[0].options),
        **subject.last_look(tried[0].options),
        "candidates": rows,
    }


def report(tried: Sequence[Tried], plan: Plan, result: dict[str, Any], subject: Any, space: Space) -> Iterator[str]:
    """The table of the best candidates, whether the first is better than chance, and what to do next."""
    width = len(subject.score_name)
    yield (
        f"{subject.score_name}{'median':>10}{'spread':>10}"
        + (f"{'steps':>8}" if subject.has_steps else "")
        + "  options"
    )
    for one in tried[:MOST_LINES]:
        spread = f"{one.deviation:.4f}" if math.isfinite(one.deviation) else "-"
        steps = f"{one.budget:>8,}" if subject.has_steps else ""
        yield f"{one.mean:>{width}.4f}{statistics.median(one.scores):>10.4f}{spread:>10}{steps}  {in_words(one.options)}"
    if len(tried) > MOST_LINES:
        yield f"{'...':>{width}} and {len(tried) - MOST_LINES} more in {RESULT}"
    yield f"best: {in_words(tried[0].options)}"
    if len(tried) > 1:
        yield compared(tried, plan, result)
    if result["difference"] != 0:  # among equals none is at an edge
        yield from at_the_edge(tried[0].options, space)
    if "accuracy" in result:
        yield f"on {result['kept_aside']:,} examples kept aside, which no trial has seen: accuracy {result['accuracy']:.3f}"
        yield f"in Python: {result['advice']}"
    else:
        several = f"the best of {len(tried)} scores is a little too good; " if len(tried) > 1 else ""
        yield f"{several}a fair score is that of the validation text, which this prints at its end:"
        yield f"  {result['advice']}"


def at_the_edge(best: dict[str, Any], space: Space) -> Iterator[str]:
    """A sentence for each option of which the best value is the smallest or largest of three or more: there may be more beyond.

    >>> list(at_the_edge({"order": 6, "k": 0.5}, {"order": [4, 5, 6], "k": [0.1, 0.5, 0.9]}))
    ['order=6 is the largest that was tried: larger ones may be better still']
    """
    for name, values in space.items():
        if isinstance(values, list) and len(values) > 2 and type(best[name]) in (int, float):
            for edge, word in ((min(values), "small"), (max(values), "larg")):
                if best[name] == edge:
                    tried = f"{in_words({name: edge})} is the {word}est that was tried"
                    yield f"{tried}: {word}er ones may be better still"


def compared(tried: Sequence[Tried], plan: Plan, result: dict[str, Any]) -> str:
    """The difference of the first two, and what chance does."""
    difference, needed = result["difference"], result["needed"]
    if difference is None:
        return "no other one could be trained"
    if difference == 0:
        return f"no better than the next, {in_words(tried[1].options)}: both have the same score"
    better = f"better than the next by {difference:.4f}"
    if tried[0].budget != tried[1].budget:
        return f"{better}, but the next was tried with fewer steps"
    if needed is None:
        return f"{better}; whether that is more than chance, one score cannot say: give --seeds 3, or --folds 5"
    how = "the same folds" if plan.folds else f"{len(plan.seeds)} seeds"
    return f"{better}; chance alone makes up to {needed:.4f} ({how}, 95 %): {result['verdict']}"

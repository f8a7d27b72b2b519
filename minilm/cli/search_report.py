"""What `minilm search` says when its trials are done: the candidates in their order, and whether the first is better than chance."""

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

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
            **{"options": one.options, "budget": one.budget, "mean": number(one.mean), "median": number(statistics.median(one.scores))},
            **{"deviation": number(one.deviation), "scores": [number(score) for score in one.scores]},
        }
        for one in tried
    ]
    judged = verdict(tried[0], tried[1], plan.folds) if len(tried) > 1 else None
    return {
        "score": subject.score_name,
        **{"trials": plan.n_trials, "cost": plan.cost, "seeds": plan.seeds, "folds": plan.folds, "best": tried[0].options},
        "difference": number(judged.difference) if judged else None,
        "needed": number(judged.needed) if judged else None,
        "verdict": judged.word if judged else "unknown",
        "advice": subject.advice(tried[0].options),
        **subject.last_look(tried[0].options),
        "candidates": rows,
    }


def report(tried: Sequence[Tried], plan: Plan, result: dict[str, Any], subject: Any) -> Iterator[str]:
    """The table of the best candidates, whether the first is better than chance, and what to do next."""
    several = plan.n_cells > 1
    width = len(subject.score_name)
    yield f"{subject.score_name}{'median':>10}{'spread':>10}" + (f"{'steps':>8}" if subject.has_steps else "") + "  options"
    for one in tried[:MOST_LINES]:
        spread = f"{one.deviation:.4f}" if math.isfinite(one.deviation) else "-"
        steps = f"{one.budget:>8,}" if subject.has_steps else ""
        yield f"{one.mean:>{width}.4f}{statistics.median(one.scores):>10.4f}{spread:>10}{steps}  {in_words(one.options)}"
    if len(tried) > MOST_LINES:
        yield f"{'...':>{width}} and {len(tried) - MOST_LINES} more in {RESULT}"
    yield f"best: {in_words(tried[0].options)}"
    if len(tried) > 1:
        yield "better than the next by " + compared(tried, plan, result, several)
    if "accuracy" in result:
        yield f"on {result['kept_aside']:,} examples kept aside, which no trial has seen: accuracy {result['accuracy']:.3f}"
        yield f"in Python: {result['advice']}"
    else:
        yield f"it won among {len(tried)}, which flatters its score; what it is worth, text that nobody chose by says:"
        yield f"  {result['advice']}"


def compared(tried: Sequence[Tried], plan: Plan, result: dict[str, Any], several: bool) -> str:
    """The difference of the first two, and what chance does."""
    difference, needed = result["difference"], result["needed"]
    if difference is None:
        return "all there is: the next could not be trained"
    if tried[0].budget != tried[1].budget:
        return f"{difference:.4f}, which was tried with fewer steps only"
    if needed is None:
        return f"{difference:.4f}; whether that is more than chance, one score cannot say: give --seeds 3 or --folds 5"
    how = "paired folds" if plan.folds else "seeds"
    return f"{difference:.4f}; chance alone makes up to {needed:.4f} ({how}, 95 %): {result['verdict']}"

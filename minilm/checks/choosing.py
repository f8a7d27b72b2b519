"""The exercise that searches a grid: an oracle that sorts all combinations, the mistakes that people make, other solutions."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

# grid_search(score, choices) -> (the best settings, their score)


@dataclass(frozen=True)
class Table:
    """A score that is looked up. Without their names, it takes the settings in the order of the alphabet."""

    names: tuple[str, ...]
    scores: Mapping[tuple[Any, ...], float]

    def __call__(self, *values: Any, **settings: Any) -> float:
        found = dict(zip(sorted(self.names), values, strict=False)) | settings
        if len(found) < len(self.names) or len(values) + len(settings) > len(self.names):
            raise TypeError(f"score needs {', '.join(self.names)}, each by its name")
        return self.scores[tuple(found[name] for name in self.names)]

    def __repr__(self) -> str:
        return f"a table of scores by {', '.join(self.names)}: {self.scores}"


def table(values: Sequence[float], **choices: Sequence[Any]) -> tuple[Table, dict[str, Sequence[Any]]]:
    """One score for each combination, the last choice changing fastest."""
    return Table(tuple(choices), dict(zip(itertools.product(*choices.values()), values, strict=True))), choices


Found = tuple[Any, Any]
Search = Callable[[Table, Mapping[str, Sequence[Any]]], Found]


def sorted_search(score: Table, choices: Mapping[str, Sequence[Any]]) -> Found:
    """All combinations by a counter that runs over them, sorted by score; of equals the sort keeps the order."""
    names, total = list(choices), math.prod(map(len, choices.values()))
    rows = []
    for number in range(total):
        settings = {}
        for name in reversed(names):
            number, which = divmod(number, len(choices[name]))
            settings[name] = choices[name][which]
        settings = {name: settings[name] for name in names}
        if not math.isnan(score(**settings)):
            rows.append((settings, score(**settings)))
    return sorted(rows, key=lambda row: row[1])[0]


def searching(
    combine: Callable[..., Any] = itertools.product,
    better: Callable[[float, float], bool] = lambda new, old: new < old,
    start: float | None = math.inf,
    answer: Callable[[Any, Any, Any, Any], Found] = lambda best, least, settings, value: (best, least),
) -> Search:
    """The loop with a best so far; the switches make the mistakes. `start` None takes the first score."""

    def search(score: Table, choices: Mapping[str, Sequence[Any]]) -> Found:
        best: Any = None
        least, settings, value = start, None, None
        for values in combine(*choices.values()):
            settings = dict(zip(choices, values, strict=True))
            value = score(**settings)
            if least is None or better(value, least):
                best, least = settings, value
        return answer(best, least, settings, value)

    return search


def first_fastest(*values: Sequence[Any]) -> list[tuple[Any, ...]]:
    return [combination[::-1] for combination in itertools.product(*values[::-1])]


def one_at_a_time(score: Table, choices: Mapping[str, Sequence[Any]]) -> Found:
    best = {name: values[0] for name, values in choices.items()}
    for name, values in choices.items():
        best[name] = searching()(lambda _name=name, **change: score(**{**best, **change}), {name: values})[0][name]  # type: ignore[arg-type]
    return best, score(**best)


def each_alone(score: Table, choices: Mapping[str, Sequence[Any]]) -> Found:
    first, best = {name: values[0] for name, values in choices.items()}, {}
    for name, values in choices.items():
        best[name] = searching()(lambda _name=name, **change: score(**{**first, **change}), {name: values})[0][name]  # type: ignore[arg-type]
    return best, score(**best)


def names_for_granted(score: Any, choices: Mapping[str, Sequence[Any]]) -> Found:
    best, least = {}, math.inf
    for order in choices["order"]:
        for discount in choices["discount"]:
            value = score(order=order, discount=discount)
            if value < least:
                best, least = {"order": order, "discount": discount}, value
    return best, least


def always_two(score: Any, choices: Mapping[str, Sequence[Any]]) -> Found:
    one, two = choices
    return searching()(score, {one: choices[one], two: choices[two]})


def first_two_names(score: Any, choices: Mapping[str, Sequence[Any]]) -> Found:
    names = list(choices)
    return searching()(score, {names[0]: choices[names[0]], names[1]: choices[names[1]]})


def smallest_place(score: Any, choices: Mapping[str, Sequence[Any]]) -> Found:
    combinations = [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]
    scores = [score(**settings) for settings in combinations]
    return combinations[int(np.argmin(scores))], scores[int(np.argmin(scores))]


def by_position(score: Table, choices: Mapping[str, Sequence[Any]]) -> Found:
    return searching()(lambda **settings: score(*settings.values()), choices)  # type: ignore[arg-type]


def nested(score: Table, choices: Mapping[str, Sequence[Any]]) -> Found:
    combinations: list[dict[str, Any]] = [{}]
    for name, values in choices.items():
        combinations = [{**settings, name: value} for settings in combinations for value in values]
    best = min(combinations, key=lambda settings: (math.isnan(s := score(**settings)), s))
    return best, score(**best)


def recursive(score: Any, choices: Mapping[str, Sequence[Any]]) -> Found:
    if not choices:
        return {}, score()
    (name, values), *others = choices.items()
    best: Found = ({}, math.inf)
    for value in values:
        settings, found = recursive(lambda value=value, **rest: score(**{name: value}, **rest), dict(others))
        if found < best[1]:
            best = {name: value, **settings}, found
    return best


def grid_inputs(seed: int) -> list[tuple[Any, ...]]:
    """First four combinations to read; then one choice, three, other names, ties, and NaN here and there.

    The same names come in another order too: it decides who of equals is the first.
    """
    nan, shift = math.nan, seed / 8
    orders, discounts = [2, 3, 5], [0.25, 0.5, 0.75]
    cases = [
        table([4, 3, 1, 2], order=[2, 3], k=[1, 5]),
        table([5, 2, 2, 5], k=[1, 5], order=[2, 3]),
        table([nan, 4, 3, 3], threshold=[0.1, 0.2, 0.3, 0.4]),
        table([7, 9, 4, 6, 3, 8, 5, 3, 2 + shift, 2 + shift, 6, 7], width=[8, 16], depth=[1, 2, 3], rate=[0.1, 0.01]),
        table([4, 3, 2, 4], discount=[0.5, 0.75], order=[2, 3]),
    ]
    for values in (
        (4.0, 3.0, 6.0, 7.0, 3.5, 2.0, 5.0, 8.0, 2.5),
        (nan, 5.0, 3.0, 2.0, 6.0, nan, 2.0, 3.0, 2.0),
        (9.0, -2.0, -1.0, nan, 4.0, 6.0, -2.0, 7.0, 8.0),
    ):
        score, choices = table([value + shift for value in values], order=orders, discount=discounts)
        cases += [(score, choices), (score, {"discount": discounts[1:], "order": orders})]
    return cases


GRID_SEARCH = Exercise(
    "grid_search",
    "itertools.product(*choices.values()) gives all combinations, dict(zip(choices, values)) gives one of them its names",
    grid_inputs,
    sorted_search,
    (
        Mistake(
            "largest", searching(better=lambda new, old: new > old, start=-math.inf), "the smallest score is the best"
        ),
        Mistake("last wins", searching(better=lambda new, old: new <= old), "of equal scores the first one wins"),
        Mistake("diagonal", searching(combine=zip), "zip pairs the choices off: every one must meet every other"),
        Mistake(
            "NaN stays", searching(start=None), "NaN compares as False with everything: no later score can beat it"
        ),
        Mistake(
            "NaN wins",
            searching(better=lambda new, old: not new >= old),
            "NaN is not smaller than anything, but you let it win: look at what your comparison says of it",
        ),
        Mistake(
            "last score",
            searching(answer=lambda best, least, settings, value: (best, value)),
            "return the score of the best combination, not that of the last one tried",
        ),
        Mistake(
            "last settings",
            searching(answer=lambda best, least, settings, value: (settings, least)),
            "return the combination that won, not the last one tried",
        ),
        Mistake(
            "from zero", searching(start=0.0), "a best score of 0 to begin with cannot be beaten: begin with infinity"
        ),
        Mistake(
            "first fastest",
            searching(combine=first_fastest),
            "the last choice changes fastest: it decides who is first",
        ),
        Mistake(
            "one at a time", one_at_a_time, "the best order may be another with another discount: try all combinations"
        ),
        Mistake(
            "each by itself",
            each_alone,
            "what is best beside the first values may not be best beside the others: try all combinations",
        ),
        Mistake(
            "names for granted",
            names_for_granted,
            "take the names from `choices`, whatever they are: another model has other settings",
        ),
        Mistake(
            "always two choices",
            always_two,
            "take the names from `choices`: there may be one or five, so two loops are too many or too few",
        ),
        Mistake(
            "the first two names",
            first_two_names,
            "names[0] and names[1] take two choices for granted: there may be one or five",
        ),
        Mistake(
            "argmin and NaN",
            smallest_place,
            "for np.argmin NaN is the smallest of all: leave such scores out before you look for the least",
        ),
        Mistake(
            "not by name",
            lambda score, choices: searching()(lambda **settings: score(settings), choices),  # type: ignore[arg-type]
            "score does not take a dictionary: ** makes named arguments of it",
        ),
        Mistake(
            "by position", by_position, "give the settings to score by name, with **: it may take them in another order"
        ),
        Mistake(
            "values only",
            searching(answer=lambda best, least, settings, value: (tuple(best.values()), least)),
            "the settings are a dictionary with the names of the choices",
        ),
        Mistake(
            "score first",
            searching(answer=lambda best, least, settings, value: (least, best)),
            "the settings come first, then their score",
        ),
    ),
    (searching(), nested, recursive),
)

EXERCISES = (GRID_SEARCH,)

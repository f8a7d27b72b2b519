"""The exercises about choosing settings: oracles by definition, the mistakes that people make, and other right solutions."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minilm.checks.compare import Exercise, Mistake

Folds = list[tuple[list[int], list[int]]]

# k_fold(n, k) -> [(training, validation), ...]


def dealt(n: int, k: int, of_fold: Callable[[int, int, int, int], bool] = lambda i, fold, n, k: i % k == fold) -> Folds:
    """Every index is asked in every fold whether it is validated there; `of_fold` makes the mistakes."""
    folds = []
    for fold in range(k):
        validation = [i for i in range(n) if of_fold(i, fold, n, k)]
        folds.append(([i for i in range(n) if i not in validation], validation))
    return folds


def dealing(of_fold: Callable[[int, int, int, int], bool]) -> Callable[[int, int], Folds]:
    """A wrong idea of which index belongs to which fold."""
    return lambda n, k: dealt(n, k, of_fold)


def dealt_one_by_one(n: int, k: int) -> Folds:
    folds: Folds = [([], []) for _ in range(k)]
    for i in range(n):
        for fold, (training, validation) in enumerate(folds):
            (validation if i % k == fold else training).append(i)
    return folds


def by_slices(n: int, k: int) -> Folds:
    indices = list(range(n))
    return [(sorted(set(indices) - set(indices[fold::k])), indices[fold::k]) for fold in range(k)]


def by_joining(n: int, k: int) -> Folds:
    parts = [list(range(fold, n, k)) for fold in range(k)]
    return [(sorted(itertools.chain(*parts[:fold], *parts[fold + 1 :])), part) for fold, part in enumerate(parts)]


K_FOLD = Exercise(
    "k_fold",
    "deal 7 things to 3 folds on paper first: which indices does fold 0 get, and what do they have in common?",
    lambda seed: [(7, 3), (12, 5), (5, 5), (9 + seed % 5, 4), (6, 2)],
    dealt,
    (
        Mistake(
            "validation inside training",
            lambda n, k: [(list(range(n)), validation) for _, validation in dealt(n, k)],
            "what is validated in a fold must not be counted in it",
        ),
        Mistake(
            "remainder lost",
            dealing(lambda i, fold, n, k: i % k == fold and i < n // k * k),
            "every index is validated once, also where k does not divide n",
        ),
        Mistake(
            "blocks",
            dealing(lambda i, fold, n, k: i * k // n == fold),
            "deal the indices like cards, one to each fold in turn, not in blocks",
        ),
        Mistake(
            "blocks, remainder lost",
            dealing(lambda i, fold, n, k: i // (n // k) == fold),
            "blocks of n // k leave the last indices over: deal them like cards instead",
        ),
        Mistake(
            "blocks, remainder to the last",
            dealing(lambda i, fold, n, k: min(i // (n // k), k - 1) == fold),
            "then the last fold may be almost twice as large: deal one index to each fold in turn",
        ),
        Mistake(
            "folds of k",
            lambda n, k: dealt(n, math.ceil(n / k), lambda i, fold, n, folds: i // k == fold),
            "k is the number of folds, not their size",
        ),
        Mistake(
            "turned round",
            lambda n, k: [(validation, training) for training, validation in dealt(n, k)],
            "the large part is for training, and it comes first",
        ),
        Mistake(
            "only the past",
            lambda n, k: [([i for i in range(n) if i % k < fold], part) for fold, (_, part) in enumerate(dealt(n, k))],
            "train on all other folds, the later ones too",
        ),
        Mistake(
            "one late",
            dealing(lambda i, fold, n, k: i > 0 and (i - 1) % k == fold),
            "counting begins at 0: who validates index 0?",
        ),
        Mistake(
            "one fold only", lambda n, k: dealt(n, k)[:1], "each of the k folds has its turn: return a list of k pairs"
        ),
    ),
    (dealt_one_by_one, by_slices, by_joining),
)


# grid_search(score, choices) -> (the best settings, their score)


@dataclass(frozen=True)
class Table:
    """A score that is looked up, for settings named `order` and `discount`."""

    scores: Mapping[tuple[int, float], float]

    def __call__(self, discount: float, order: int) -> float:
        return self.scores[order, discount]


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
    """Grids of several shapes, with ties, negative scores, and NaN at the beginning, in the middle and beside the best."""
    nan, shift = math.nan, seed / 8
    orders, discounts = [2, 3, 5], [0.25, 0.5, 0.75]
    cases = []
    for values in (
        (4.0, 3.0, 6.0, 7.0, 3.5, 2.0, 5.0, 8.0, 2.5),
        (nan, 5.0, 3.0, 2.0, 6.0, nan, 2.0, 3.0, 2.0),
        (9.0, -2.0, -1.0, nan, 4.0, 6.0, -2.0, 7.0, 8.0),
    ):
        scores = dict(zip(itertools.product(orders, discounts), (value + shift for value in values), strict=True))
        cases += [(Table(scores), {"order": orders, "discount": discounts})]
        cases += [(Table(scores), {"discount": discounts[1:], "order": orders})]
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

EXERCISES = (K_FOLD, GRID_SEARCH)

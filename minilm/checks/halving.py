"""The exercise on successive halving: an oracle that counts who is better, the mistakes that people make, other solutions."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from minilm.checks.compare import Exercise, Mistake

# successive_halving(candidates, score, budget, keep=3) -> [(budget, candidates, scores, kept), ...]

Rounds = list[tuple[int, list[Any], list[float], list[Any]]]


@dataclass
class Trainings:
    """What each candidate scores with each budget. A call is a training, and no more are paid for than are needed."""

    losses: Mapping[str, tuple[float, float]]  # with an endless budget; and what 1 step leaves above that
    paid: int
    done: int = field(default=0, compare=False)

    def __call__(self, candidate: str, budget: int) -> float:
        self.done += 1
        if self.done > self.paid:
            raise RuntimeError(f"{self.paid} trainings are needed, and this is one more (each call of score trains)")
        end, above = self.losses[candidate]
        return end + above / budget

    def __repr__(self) -> str:
        table = ", ".join(f"{name}: {end:g} + {above:g} / budget" for name, (end, above) in self.losses.items())
        return f"a score ({table})"


def counted_wins(candidates: Sequence[Any], score: Callable[[Any, int], float], budget: int, keep: int = 3) -> Rounds:
    """Each candidate's rank is the number of those before it: with a smaller score, or the same and an earlier place."""
    rounds: Rounds = []
    places, more = list(range(len(candidates))), True
    while more:
        losses = {i: score(candidates[i], budget) for i in places}
        rank = {i: sum(losses[j] < losses[i] or (losses[j] == losses[i] and j < i) for j in places) for i in places}
        best = [i for r in range(len(places)) for i in places if rank[i] == r and r * keep < len(places)]
        best = [i for i in best if losses[i] < math.inf]
        rounds.append((budget, [candidates[i] for i in places], list(losses.values()), [candidates[i] for i in best]))
        places, budget, more = best, budget * keep, len(best) > 1
    return rounds


def halving(
    number: Callable[[int, int], int] = lambda n, keep: math.ceil(n / keep),
    order: Callable[..., list[int]] = lambda losses, left: sorted(range(len(left)), key=losses.__getitem__),
    finite: bool = True,
    then: Callable[[int, int, int], int] = lambda budget, keep, first: budget * keep,
    given: Callable[[int, int, int], int] = lambda budget, n, first: budget,
    times: int = 1,
    ends: Callable[[int, int], bool] = lambda n, keep: n <= 1,
    empty: bool = False,
    entry: Callable[..., Any] = lambda budget, left, losses, kept, following: (budget, left, losses, kept),
    going_on: Callable[[list[Any], list[Any]], list[Any]] = lambda kept, left: kept,
    answer: Callable[[Rounds], Any] = lambda rounds: rounds,
    remembers: bool = False,
) -> Any:
    """The loop; the arguments make the mistakes."""

    def successive_halving(candidates: Sequence[Any], score: Any, budget: int, keep: int = 3) -> Any:
        rounds: Rounds = []
        left, first, known = list(candidates), budget, dict[Any, float]()
        while not (empty and len(left) <= 1):
            spent = given(budget, len(left), first)
            for _ in range(times):
                losses = [score(one, spent) if not remembers or one not in known else known[one] for one in left]
            known = dict(zip(left, losses, strict=True)) | known
            places = [i for i in order(losses, left) if losses[i] < math.inf or not finite]
            kept = [left[i] for i in places[: number(len(left), keep)]]
            following = then(budget, keep, first)
            rounds.append(entry(spent, left, losses, kept, following))
            if ends(len(kept), keep) or len(kept) == len(left) or len(rounds) > 9:
                break
            left, budget = going_on(kept, left), following
        return answer(rounds)

    return successive_halving


def last_of_equals(losses: list[float], left: list[Any]) -> list[int]:
    return sorted(reversed(range(len(losses))), key=losses.__getitem__)


def largest_first(losses: list[float], left: list[Any]) -> list[int]:
    return sorted(range(len(losses)), key=lambda i: -losses[i])


def in_their_order(candidates: Sequence[Any], score: Any, budget: int, keep: int = 3) -> Rounds:
    """The right ones go on, but as they stood."""
    return halving(
        entry=lambda budget, left, losses, kept, _: (budget, left, losses, [one for one in left if one in kept]),
        going_on=lambda kept, left: [one for one in left if one in kept],
    )(candidates, score, budget, keep)


def everybody_again(candidates: Sequence[Any], score: Any, budget: int, keep: int = 3) -> Rounds:
    """All are trained in every round, though most have been thrown out."""
    left, rounds = list(candidates), list[Any]()
    while not rounds or len(left) > 1:
        losses = {one: score(one, budget) for one in candidates}
        kept = sorted((one for one in left if losses[one] < math.inf), key=losses.__getitem__)
        kept = kept[: math.ceil(len(left) / keep)]
        rounds.append((budget, left, [losses[one] for one in left], kept))
        left, budget = kept, budget * keep
    return rounds


def sorted_rows(budget: int, left: list[Any], losses: list[float], kept: list[Any], following: int) -> Any:
    order = sorted(range(len(left)), key=losses.__getitem__)
    return budget, [left[i] for i in order], [losses[i] for i in order], kept


def recursive(candidates: Sequence[Any], score: Callable[[Any, int], float], budget: int, keep: int = 3) -> Any:
    pairs = sorted(((score(one, budget), i) for i, one in enumerate(candidates)), key=lambda pair: pair[0])
    losses = [loss for loss, _ in sorted(pairs, key=lambda pair: pair[1])]
    better = [candidates[i] for loss, i in pairs if loss != math.inf][: -(-len(candidates) // keep)]
    rest = recursive(better, score, budget * keep, keep) if len(better) > 1 else []
    return [[budget, list(candidates), losses, better], *rest]


def thrown_out(candidates: Sequence[Any], score: Callable[[Any, int], float], budget: int, keep: int = 3) -> Rounds:
    """The worst goes until few enough are left."""
    rounds: Rounds = []
    left = tuple(candidates)
    for power in range(99):
        losses = {one: score(one, budget * keep**power) for one in left}
        kept = [one for one in left if not math.isinf(losses[one])]
        while keep * len(kept) >= len(left) + keep:
            kept.remove(max(reversed(kept), key=losses.__getitem__))
        kept.sort(key=losses.__getitem__)
        rounds.append((budget * keep**power, list(left), list(losses.values()), kept))
        left = tuple(kept)
        if len(left) == 1:
            break
    return rounds


def needed(losses: Mapping[str, tuple[float, float]], budget: int, keep: int) -> int:
    """How many trainings there are in all."""
    return sum(len(left) for _, left, *_ in counted_wins(list(losses), Trainings(losses, 10**9), budget, keep))


def halving_inputs(seed: int) -> list[tuple[Any, ...]]:
    """Four to read; one round; a lone candidate; a training that failed; equals; curves that cross; other `keep`."""
    rng, inf = random.Random(seed), math.inf

    def case(losses: Mapping[str, tuple[float, float]], budget: int, keep: int) -> tuple[Any, ...]:
        return list(losses), Trainings(losses, needed(losses, budget, keep)), budget, keep

    def drawn(n: int) -> dict[str, tuple[float, float]]:
        names = rng.sample("abcdefghijklmnopqrstuvwxyz", n)
        return {name: (rng.randrange(8, 40) / 8, float(rng.randrange(200))) for name in names}

    few = {"b": (3.0, 10.0), "d": (2.0, 15.0), "a": (2.5, 30.0), "c": (4.0, 0.0)}
    equal = {"p": (2.0, 5.0), "m": (1.0, 5.0), "z": (1.0, 5.0), "k": (3.0, 0.0), "a": (1.0, 5.0)}
    failed = {"u": (inf, 0.0), "q": (2.0, 1.0), "r": (inf, 0.0), "s": (1.0, 2.0), "t": (inf, 0.0), "v": (inf, 0.0)}
    return [
        case(few, 10, 2),
        case(few, 10, 3),
        case({"only": (1.5, 7.0)}, 7, 3),
        case({"b": (2.0, 1.0), "a": (1.0, 1.0)}, 5, 3),
        case(equal, 4, 2),
        case(failed, 3, 2),
        case(drawn(7), 6, 4),
        case(drawn(9), 10, 3),
        case(drawn(11), 12, 3),
        case(drawn(13), 5, 2),
    ]


ROWS: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("worst kept", {"order": largest_first}, "the score is a loss: the smallest are the best"),
    (
        "as many as `keep`",
        {"number": lambda n, keep: keep},
        "one in `keep` goes on, not `keep` of them: of nine and keep=3 three go on, of three one",
    ),
    (
        "rounded down",
        {"number": lambda n, keep: max(1, n // keep)},
        "round up: of eleven and keep=3 four go on (math.ceil, or -(-n // keep))",
    ),
    ("rounded down to none", {"number": lambda n, keep: n // keep}, "of two candidates 2 // 3 = 0 go on: round up"),
    (
        "rounded to the nearest",
        {"number": lambda n, keep: max(1, round(n / keep))},
        "round to the nearest goes down, too: here it is always up, math.ceil",
    ),
    (
        "always halved",
        {"number": lambda n, keep: math.ceil(n / 2), "then": lambda budget, keep, first: 2 * budget},
        "it is called halving, but `keep` says which part goes on: one in `keep`",
    ),
    (
        "always a third",
        {"number": lambda n, keep: math.ceil(n / 3), "then": lambda budget, keep, first: 3 * budget},
        "`keep` is an argument: 3 is only what it is where nobody says otherwise",
    ),
    (
        "the same budget",
        {"then": lambda budget, keep, first: budget},
        "each round gives `keep` times the budget of the round before: yours stays the same",
    ),
    (
        "budget added",
        {"then": lambda budget, keep, first: budget + first},
        "the budget is multiplied from round to round, not raised by the first one",
    ),
    (
        "budget shared",
        {"given": lambda budget, n, first: max(1, first // n)},
        "`budget` is what each candidate gets, not what all of them share",
    ),
    (
        "last of equals",
        {"order": last_of_equals},
        "of equal scores the first candidate is the better one: sorted() keeps that order by itself, reversed lists do not",
    ),
    (
        "pairs sorted",
        {"order": lambda losses, left: sorted(range(len(left)), key=lambda i: (losses[i], left[i]))},
        "sorted pairs compare the candidates where the scores are equal, and dictionaries cannot be compared: key=...",
    ),
    (
        "failed go on",
        {"finite": False},
        "a training with an infinite loss has failed: it never goes on, even if fewer are left then",
    ),
    (
        "old scores",
        {"remembers": True},
        "with more budget the scores change: ask score again in each round, with the new budget",
    ),
    (
        "trained twice",
        {"times": 2},
        "each call of score is a whole training: call it once for each candidate in a round, and keep the answer",
    ),
    (
        "no last round",
        {"ends": lambda n, keep: n <= keep},
        "go on until one is left: `keep` or fewer still need a last round",
    ),
    (
        "winner once more",
        {"ends": lambda n, keep: False},
        "end as soon as one is left (if more are left than should be: one in `keep` goes on, not `keep` of them)",
    ),
    (
        "nothing for one",
        {"empty": True},
        "a lone candidate gets one round, too: its score is asked for",
    ),
    (
        "next budget",
        {"entry": lambda budget, left, losses, kept, following: (following, left, losses, kept)},
        "a round tells the budget that it had, not that of the next one",
    ),
    ("sorted rows", {"entry": sorted_rows}, "candidates and scores stand as they came into the round: sort a copy"),
    (
        "kept first",
        {"entry": lambda budget, left, losses, kept, _: (budget, kept, losses, left)},
        "first the candidates that the round began with, last those that go on",
    ),
    (
        "the winner only",
        {"answer": lambda rounds: rounds[-1][3][0]},
        "return all rounds: the winner stands in the last",
    ),
    ("the last round only", {"answer": lambda rounds: rounds[-1]}, "return the list of all rounds, not the last one"),
)

SUCCESSIVE_HALVING = Exercise(
    "successive_halving",
    "in a loop: score all that are left, sort their places by score, keep the first math.ceil(n / keep), multiply the budget",
    halving_inputs,
    counted_wins,
    (
        *(Mistake(name, halving(**switches), hint) for name, switches, hint in ROWS),
        Mistake(
            "kept as they stood",
            in_their_order,
            "the right ones go on, but `kept` is sorted: the best comes first, so that the winner is kept[0]",
        ),
        Mistake(
            "everybody again",
            everybody_again,
            "only those that are left are trained: the rest of the budget is what you save",
        ),
    ),
    (halving(), recursive, thrown_out),
)

EXERCISES = (SUCCESSIVE_HALVING,)

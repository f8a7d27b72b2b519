"""The last exercise of lesson 26, counting where the states are known: an oracle with Counters, mistakes, other solutions."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

Pairs = Sequence[tuple[Any, Any]]
Answer = tuple[np.ndarray, np.ndarray, np.ndarray]
Path = list[int]

# supervised_counts(sequences, n_states, vocab_size) -> start (K,), transition (K, K), emission (K, V)


def filled(counts: Counter[Any], *shape: int) -> np.ndarray:
    """An array of these counts, each at its place."""
    table = np.zeros(shape)
    for place, times in counts.items():
        table[place] = times
    return table


def in_counters(
    sequences: Pairs,
    n_states: int,
    vocab_size: int,
    begins: Callable[[Path], Iterable[int]] = lambda path: path[:1],
    moves: Callable[[Path], Iterable[tuple[int, int]]] = pairwise,
    makes: Callable[[Path, Path], Iterable[tuple[int, int]]] = zip,
    shape: Callable[[int, int], tuple[int, int]] = lambda K, V: (K, V),
) -> Answer:
    """Three Counters over all sequences, written into arrays at the end. The switches make the mistakes."""
    start, transition, emission = Counter[Any](), Counter[Any](), Counter[Any]()
    for states, ids in sequences:
        path, tokens = [int(state) for state in states], [int(token) for token in ids]
        start.update(begins(path))
        transition.update(moves(path))
        emission.update(makes(path, tokens))
    return (
        filled(start, n_states),
        filled(transition, n_states, n_states),
        filled(emission, *shape(n_states, vocab_size)),
    )


def slip(**switch: Any) -> Callable[..., Answer]:
    """The oracle with switches thrown."""
    return lambda sequences, n_states, vocab_size: in_counters(sequences, n_states, vocab_size, **switch)


def told(change: Callable[..., Any]) -> Callable[..., Any]:
    """The right counts, but something else is returned: change(start, transition, emission)."""
    return lambda sequences, n_states, vocab_size: change(*in_counters(sequences, n_states, vocab_size))


def reading(change: Callable[[Pairs], Pairs]) -> Callable[..., Answer]:
    """The right counts of other sequences than those given."""
    return lambda sequences, n_states, vocab_size: in_counters(change(sequences), n_states, vocab_size)


def all_in_one(sequences: Pairs) -> Pairs:
    return [tuple([int(x) for part in parts for x in part] for parts in zip(*sequences, strict=True))]  # type: ignore[list-item]


def divided(table: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return table / table.sum(-1, keepdims=True)


def in_fancy_indices(
    sequences: Pairs, n_states: int, vocab_size: int, *, moves_too: bool = True, tokens_too: bool = True
) -> Answer:
    """table[rows, columns] += 1 adds one to a place, however often it is named: true of the tables that are switched on."""
    start, transition, emission = in_counters(sequences, n_states, vocab_size)
    some_moves, some_tokens = np.zeros_like(transition), np.zeros_like(emission)
    for path, tokens in sequences:
        some_moves[path[:-1], path[1:]] += 1
        some_tokens[path, tokens] += 1
    return start, some_moves if moves_too else transition, some_tokens if tokens_too else emission


def sure_of_a_first(sequences: Pairs, n_states: int, vocab_size: int) -> Answer:
    """IndexError for an empty sequence."""
    return in_counters(sequences, n_states, vocab_size, begins=lambda path: [path[0]])


def as_many_as_seen(sequences: Pairs, n_states: int, vocab_size: int) -> Answer:
    K = 1 + max(int(state) for path, _ in sequences for state in path)
    V = 1 + max(int(token) for _, tokens in sequences for token in tokens)
    return in_counters(sequences, K, V)


# ---- other ways that are right


def one_by_one(sequences: Pairs, n_states: int, vocab_size: int) -> Answer:
    start, transition = np.zeros(n_states), np.zeros((n_states, n_states))
    emission = np.zeros((n_states, vocab_size))
    for path, tokens in sequences:
        before = None
        for state, token in zip(path, tokens, strict=True):
            if before is None:
                start[state] += 1
            else:
                transition[before, state] += 1
            emission[state, token] += 1
            before = state
    return start, transition, emission


def by_add_at(sequences: Pairs, n_states: int, vocab_size: int) -> Answer:
    start, transition = np.zeros(n_states), np.zeros((n_states, n_states))
    emission = np.zeros((n_states, vocab_size))
    for path, tokens in sequences:
        np.add.at(start, path[:1], 1)
        np.add.at(transition, (path[:-1], path[1:]), 1)
        np.add.at(emission, (path, tokens), 1)
    return start, transition, emission


def by_products(sequences: Pairs, n_states: int, vocab_size: int) -> Answer:
    """Rows of the unit matrix, one for each place: sums of what stands together are products."""
    start, transition, emission = 0.0, 0.0, 0.0  # type: Any, Any, Any
    for path, tokens in sequences:
        where, what = np.eye(n_states)[path], np.eye(vocab_size)[tokens]
        start = start + where[:1].sum(0)
        transition, emission = transition + where[:-1].T @ where[1:], emission + where.T @ what
    return start, transition, emission


def tagged_inputs(seed: int) -> list[tuple[Any, ...]]:
    """By hand, then drawn: pairs that come again, states and tokens that never come, sequences of one token and of none."""
    rng = np.random.default_rng(seed)
    none = np.zeros(0, dtype=int)
    cases: list[tuple[Any, ...]] = [
        ([(np.array([0, 1, 1]), np.array([4, 2, 2]))], 2, 5),
        ([(np.array([0, 1]), np.array([0, 2])), (np.array([1, 0]), np.array([2, 1]))], 2, 3),
    ]
    for K, V, lengths in ((3, 5, (6, 1, 4)), (5, 4, (7, 0, 12, 1)), (4, 9, (30, 25, 1, 18))):
        drawn = [(rng.integers(0, K - 1, n), rng.integers(0, V - 1, n)) for n in lengths if n]
        cases.append((drawn + [(none, none)] * lengths.count(0), K, V))
    return cases


COUNTS = Exercise(
    "supervised_counts",
    "three tables of zeros; then for each sequence: its first state, each pair of a state and the next one, each pair of a "
    "state and its token",
    tagged_inputs,
    in_counters,
    (
        Mistake(
            "pairs that come again",
            in_fancy_indices,
            "table[rows, columns] += 1 adds one to a place, however often it is named: a loop counts them all, or np.add.at",
        ),
        Mistake(
            "tokens that come again",
            lambda *given: in_fancy_indices(*given, moves_too=False),
            "emission[path, tokens] += 1 adds one, however often a pair comes: a loop counts them all, or np.add.at",
        ),
        Mistake(
            "moves that come again",
            lambda *given: in_fancy_indices(*given, tokens_too=False),
            "transition[path[:-1], path[1:]] += 1 adds one, however often a move comes: a loop counts all, or np.add.at",
        ),
        Mistake(
            "one long sequence",
            reading(all_in_one),
            "no move leads from the end of one sequence to the beginning of the next: count each alone",
        ),
        Mistake(
            "moves between sequences",
            lambda *given: (
                in_counters(*given)[0],
                in_counters(all_in_one(given[0]), *given[1:])[1],
                in_counters(*given)[2],
            ),
            "the last state of a sequence has no next one: you count a move into the sequence that follows",
        ),
        Mistake(
            "only the last sequence",
            reading(lambda sequences: sequences[-1:]),
            "you have counts of the last sequence only: make the tables before the loop, not in it",
        ),
        Mistake(
            "only the first sequence",
            reading(lambda sequences: sequences[:1]),
            "you have counts of the first sequence only: is the `return` inside the loop?",
        ),
        Mistake(
            "moves backwards",
            told(lambda start, transition, emission: (start, transition.T.copy(), emission)),
            "transition[i, j]: from i to j, so the row is the state before",
        ),
        Mistake(
            "tokens first",
            told(lambda start, transition, emission: (start, transition, emission.T.copy())),
            "emission is (K, V): the row is the state, the column the token",
        ),
        Mistake(
            "every state begins", slip(begins=lambda path: path), "start counts the first state of each sequence only"
        ),
        Mistake(
            "the end for the start",
            slip(begins=lambda path: path[-1:]),
            "start counts first states, you count the last ones: path[0] is the first",
        ),
        Mistake(
            "start is marked",
            told(lambda start, transition, emission: (np.minimum(start, 1.0), transition, emission)),
            "start has counts as well: += 1, not = 1",
        ),
        Mistake("an empty sequence", sure_of_a_first, "a sequence may be empty: then it has no first state"),
        Mistake(
            "token of the next state",
            slip(makes=lambda path, tokens: zip(path, tokens[1:], strict=False)),
            "state t makes token t, not the next one",
        ),
        Mistake(
            "token of the state before",
            slip(makes=lambda path, tokens: zip(path[1:], tokens, strict=False)),
            "state t makes token t: you pair a token with the state after it",
        ),
        Mistake(
            "last token not counted",
            slip(makes=lambda path, tokens: zip(path[:-1], tokens, strict=False)),
            "a loop over the moves ends one too early for the tokens: there are T of these, and T - 1 moves",
        ),
        Mistake(
            "first token not counted",
            slip(makes=lambda path, tokens: zip(path[1:], tokens[1:], strict=True)),
            "a loop that begins at 1 misses the first token: there are T tokens, and T - 1 moves",
        ),
        Mistake(
            "stays",
            slip(moves=lambda path: zip(path, path, strict=True)),
            "you pair each state with itself: the move is from path[t - 1] to path[t]",
        ),
        Mistake(
            "round the corner",
            slip(moves=lambda path: zip(path, [*path[1:], *path[:1]], strict=True)),
            "the last state has no next one; index -1 or np.roll brings you to the other end",
        ),
        Mistake(
            "shares",
            told(lambda *tables: tuple(divided(table) for table in tables)),
            "counts are asked for; the shares are taken of them later",
        ),
        Mistake(
            "shares, and zeros where nothing is",
            told(lambda *tables: tuple(np.nan_to_num(divided(table)) for table in tables)),
            "those are shares of each row: counts are asked for",
        ),
        Mistake(
            "shares of the whole",
            told(lambda *tables: tuple(table / table.sum() for table in tables)),
            "you divide by the number of all: counts are asked for, which are whole",
        ),
        Mistake(
            "one more each",
            told(lambda *tables: tuple(table + 1 for table in tables)),
            "begin with zeros, not with ones: what to imagine in addition is decided later",
        ),
        Mistake(
            "as many as were seen",
            as_many_as_seen,
            "a state or a token that never comes has its place all the same: the sizes are n_states and vocab_size",
        ),
        Mistake(
            "whole numbers",
            told(lambda *tables: tuple(table.astype(int) for table in tables)),
            "np.zeros without a dtype: expected counts will be fractions, and these stand beside them",
        ),
        Mistake(
            "another order",
            told(lambda start, transition, emission: (transition, emission, start)),
            "the order of the three: start, transition, emission",
        ),
        Mistake(
            "start missing",
            told(lambda start, transition, emission: (transition, emission)),
            "three tables: start has counts as well",
        ),
    ),
    (one_by_one, by_add_at, by_products),
)

EXERCISES = (COUNTS,)

"""The exercise of lesson 15 on constraints: an oracle that walks token by token, its mistakes, and other right solutions."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

# token_targets(table, state, data, lengths) -> the state after each token


def follow(table: np.ndarray, state: int, piece: list[int]) -> int:
    """Byte after byte, until the piece ends or no state is left."""
    for byte in piece:
        if state == -1:
            break
        state = int(table[state][byte])
    return state


def one_by_one(
    table: np.ndarray,
    state: int,
    data: np.ndarray,
    lengths: np.ndarray,
    reads: Callable[[np.ndarray, int, list[int]], int] = follow,
    nothing: Callable[[int], int] = lambda state: -1,
    first: Callable[[list[int], int], int] = lambda lengths, token: sum(lengths[:token]),
    carried: bool = False,
    begins: Callable[[int], int] = lambda state: state,
    dtype: Any = None,
) -> np.ndarray:
    """One token after the other. The switches make the mistakes."""
    sizes, found, now = lengths.tolist(), list[int](), begins(state)
    for token, size in enumerate(sizes):
        at = first(sizes, token)
        piece = data[at : at + size].tolist()
        target = reads(table, now, piece) if piece or size else nothing(now)
        found.append(target)
        now = target if carried else now
    return np.array(found, dtype=table.dtype if dtype is None else dtype)


def mistaken(**switch: Any) -> Callable[..., np.ndarray]:
    """The walk with switches thrown."""
    return lambda *arguments: one_by_one(*arguments, **switch)


def through_the_last_row(table: np.ndarray, state: int, piece: list[int]) -> int:
    for byte in piece:
        state = int(table[state][byte])
    return state


def as_far_as_it_goes(table: np.ndarray, state: int, piece: list[int]) -> int:
    first, last = int(table[state][piece[0]]), state
    for byte in piece:
        last = int(table[last][byte])
        if last == -1:
            return first
        first = last
    return last


def never_moves(table: np.ndarray, state: int, piece: list[int]) -> int:
    targets = [int(table[state][byte]) for byte in piece]
    return -1 if -1 in targets else targets[-1]


def all_together(table: np.ndarray, state: int, data: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """With one more state for "left", which is never left again."""
    closed = np.vstack([table, np.full((1, 256), -1, dtype=table.dtype)])
    states, starts = np.where(lengths > 0, state, -1), np.cumsum(lengths) - lengths
    for step in range(int(lengths.max(initial=0))):
        reading = step < lengths
        states[reading] = closed[states[reading], data[starts[reading] + step]]
    return states.astype(table.dtype)


def by_beginnings(table: np.ndarray, state: int, data: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Each beginning of a token is looked up once."""
    reached: dict[bytes, int] = {b"": state}
    answer = np.full(lengths.shape, -1, dtype=table.dtype)
    for token, piece in enumerate(np.split(data, np.cumsum(lengths)[:-1])):
        text = piece.tobytes()
        for n in range(1, len(text) + 1):
            before = reached[text[: n - 1]]
            reached[text[:n]] = -1 if before < 0 else int(table[before, text[n - 1]])
        answer[token] = reached[text] if text else -1
    return answer


def with_an_iterator(table: np.ndarray, state: int, data: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    stream, answer = iter(data.tobytes()), []
    for length in lengths:
        now = state if length else -1
        for byte in itertools.islice(stream, int(length)):
            now = table[now, byte] if now != -1 else -1
        answer.append(now)
    return np.array(answer).astype(table.dtype)


def packed(pieces: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    return np.frombuffer(b"".join(pieces), dtype=np.uint8), np.array([len(piece) for piece in pieces])


def some_walks(seed: int) -> list[tuple[np.ndarray, int, np.ndarray, np.ndarray]]:
    """First (ab)* by hand, in both states; then random automata over five bytes, tokens without bytes among the others."""
    rng = np.random.default_rng(seed)
    by_hand = np.full((2, 256), -1, dtype=np.int16)
    by_hand[0, ord("a")], by_hand[1, ord("b")] = 1, 0
    cases = [(by_hand, state, *packed([b"a", b"", b"ab", b"ba", b"aba", b"b", b"aa"])) for state in (0, 1)]
    letters = [0, ord("a"), ord("b"), 200, 255]
    for n_states, n_tokens, dtype in ((3, 11, np.int16), (5, 23, np.int32), (7, 41, np.int16)):
        table = np.full((n_states, 256), -1, dtype=dtype)
        table[:, letters] = np.where(rng.random((n_states, 5)) < 0.35, -1, rng.integers(0, n_states, (n_states, 5)))
        pieces = [bytes(rng.choice(letters, size=rng.integers(0, 5)).tolist()) for _ in range(n_tokens)]
        pieces[n_tokens // 2] = pieces[-1] = b""
        cases += [(table, state, *packed(pieces)) for state in (0, n_states - 2)]
    return cases


TOKEN_TARGETS = Exercise(
    "token_targets",
    "write the walk of one token first: state = table[state, byte] for each of its bytes, and stop at -1; then for all tokens",
    some_walks,
    one_by_one,
    (
        Mistake(
            "on from -1",
            mistaken(reads=through_the_last_row),
            "table[-1] is the *last* row to Python: who has left the automaton must stay out",
        ),
        Mistake(
            "the first byte",
            mistaken(reads=lambda table, state, piece: int(table[state][piece[0]])),
            "a token is allowed only if *all* its bytes are, each read in the state that the one before it leads to",
        ),
        Mistake(
            "the last byte",
            mistaken(reads=lambda table, state, piece: int(table[state][piece[-1]])),
            "the bytes before the last one must be read too",
        ),
        Mistake(
            "never moves",
            mistaken(reads=never_moves),
            "each byte is read in the state where the last one has led, not in the first state again",
        ),
        Mistake(
            "as far as it goes",
            mistaken(reads=as_far_as_it_goes),
            "a token that begins well and then leaves is not valid: -1, not the last state that it had",
        ),
        Mistake(
            "backwards",
            mistaken(reads=lambda table, state, piece: follow(table, state, piece[::-1])),
            "you read the bytes from the last to the first",
        ),
        Mistake(
            "an empty token stays",
            mistaken(nothing=lambda state: state),
            "a token without bytes would be written for ever and get nowhere: -1",
        ),
        Mistake(
            "on from -1, and an empty token stays",
            mistaken(reads=through_the_last_row, nothing=lambda state: state),
            "two things: (1) table[-1] is the *last* row to Python, so stop at -1 (2) a token without bytes is not valid: -1",
        ),
        Mistake(
            "on from the last token",
            mistaken(carried=True),
            "every token begins in the same `state`: set it back before each",
        ),
        Mistake(
            "from state 0",
            mistaken(begins=lambda state: 0),
            "the walk begins in `state`: 0 is only where a text begins",
        ),
        Mistake(
            "one token too far",
            mistaken(first=lambda lengths, token: sum(lengths[: token + 1])),
            "cumsum(lengths) says where the tokens *end*: token i begins lengths[i] earlier",
        ),
        Mistake(
            "all from the beginning",
            mistaken(first=lambda lengths, token: 0),
            "the bytes of all tokens lie behind one another: token i begins behind all earlier ones",
        ),
        Mistake(
            "the byte first",
            mistaken(reads=lambda table, state, piece: follow(table.T, state, piece)),
            "the table has a row for each state and a column for each byte: table[state, byte]",
        ),
        Mistake(
            "yes or no",
            lambda *arguments: one_by_one(*arguments) != -1,
            "not only whether a token is allowed: to which state it leads",
        ),
        Mistake(
            "numbers of another kind",
            mistaken(dtype=np.int64),
            "the answer has the dtype of the table: np.full(V, -1, dtype=table.dtype), then fill it in",
        ),
    ),
    (all_together, by_beginnings, with_an_iterator),
)

EXERCISES = (TOKEN_TARGETS,)

"""Constrained decoding: the model may only write what an automaton accepts (as in Willard and Louf 2023).

The automaton reads bytes, the model writes tokens. In a given state a token is allowed if its bytes, one after the other,
lead to a state that can still reach an end; <|endoftext|> is allowed exactly where the text may end. All other scores
become -inf, so the output is valid whatever the model says.

What is drawn from. Let Z be the model's probability of all allowed tokens together. Softmax over the masked scores gives an
allowed token the probability p(token | text) / Z: the model's own distribution, exactly, renormalised **at each step**. The
probability of a whole text is then the product of p / Z over its tokens. That is *not* the model's distribution **given
that the whole text is valid**, p(text) / p(all valid texts), because a step does not know how much of what may follow an
allowed token is valid. An example: the valid texts are "ab" and "ba"; at first p(a) = p(b) = 0.5, after a the model says b
with 0.9, after b it says a with 0.1. Step by step, each text has probability 0.5; given that the text is valid, they have
0.9 and 0.1. The two differ by the product of the Z along a text, up to one constant: in an average of the second kind, a
text that was drawn here has that product as its weight.

A text can be cut into tokens in several ways. All of them are allowed, also those that the tokenizer would not have chosen.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from minilm.decoding.automaton import LEFT, Automaton

ENDED = -2  # the state after <|endoftext|>
FAR = 2**30  # a distance: no end can be reached
CACHED = 512  # states whose tokens are remembered: 50 MB with 50,000 tokens
SINGLE_BYTES = {bytes([byte]) for byte in range(256)}


class TokenAutomaton:
    """An automaton over bytes, read token by token. `specials` are ids that stand for no text, as <|endoftext|> always does.

    ValueError if no valid text can be written with the tokens. What has no single byte as a token may lead where only a
    missing one goes on; such ways are never entered.

    >>> answers = TokenAutomaton(compile_pattern("yes|no"), tokenizer.token_bytes, tokenizer.end_of_text)
    """

    def __init__(
        self, automaton: Automaton, token_bytes: Sequence[bytes], end_of_text: int, specials: Collection[int] = ()
    ) -> None:
        for token in (end_of_text, *specials):
            if not 0 <= token < len(token_bytes):
                raise ValueError(f"the special token {token} is none of 0..{len(token_bytes) - 1}")
        self.automaton, self.token_bytes, self.end_of_text = automaton, token_bytes, end_of_text
        pieces = [b"" if token in {end_of_text, *specials} else piece for token, piece in enumerate(token_bytes)]
        self.bytes, self.lengths = np.frombuffer(b"".join(pieces), dtype=np.uint8), np.array([*map(len, pieces)])
        self.is_complete = SINGLE_BYTES.issubset(pieces)  # no way that bytes go is closed
        self.targets = lru_cache(CACHED)(self.find_targets)
        if not self.is_complete and self.distances[0] == FAR:
            raise ValueError("no valid text can be written with these tokens: take a tokenizer that has all bytes")

    def find_targets(self, state: int) -> np.ndarray:
        """The state after each token (V,), -1 where it is not valid; `targets` is the same, remembered."""
        return token_targets(self.automaton.table, state, self.bytes, self.lengths)

    @cached_property
    def distances(self) -> np.ndarray:
        """The smallest number of tokens (S,) from each state to an end: breadth first, backwards from the ends.

        All states read all tokens, once: 0.4 s for 250 states and 50,000 tokens, in proportion for others.
        """
        n_states = len(self.automaton.table)
        before: dict[int, list[int]] = defaultdict(list)
        for state in range(n_states):
            reached = np.zeros(n_states + 1, dtype=bool)
            reached[self.find_targets(state)] = True  # LEFT marks the last entry
            for target in np.flatnonzero(reached[:-1]).tolist():
                before[target].append(state)
        queue = np.flatnonzero(self.automaton.accepting).tolist()
        distances = np.full(n_states, FAR)
        distances[queue] = 0
        for target in queue:  # which grows meanwhile
            for state in before[target]:
                if distances[state] == FAR:
                    distances[state] = distances[target] + 1
                    queue.append(state)
        return distances

    def next(self, state: int, token: int) -> int:
        """The state after one more token; -1 if it is not valid there. After <|endoftext|> only that may follow."""
        if token == self.end_of_text:
            return ENDED if state == ENDED or (state >= 0 and self.automaton.accepting[state]) else LEFT
        return int(self.targets(state)[token]) if state >= 0 and 0 <= token < len(self.token_bytes) else LEFT

    def read(self, ids: Iterable[int]) -> int:
        """The state after these tokens, from the start."""
        state = 0
        for token in ids:
            state = self.next(state, token)
        return state

    def allowed(self, state: int, remaining: int | None = None) -> np.ndarray:
        """Which tokens (V,) may come next. With `remaining`: so that this one and remaining - 1 more can make a valid text."""
        if state in (ENDED, LEFT):
            found = np.zeros(len(self.token_bytes), dtype=bool)
        else:
            targets = self.targets(state)
            found = targets != LEFT
            if remaining is not None or not self.is_complete:
                found &= self.distances[targets] < (FAR if remaining is None else remaining)
        found[self.end_of_text] = state == ENDED or (state != LEFT and self.automaton.accepting[state])
        return found


def token_targets(table: np.ndarray, state: int, data: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Automaton (S, 256), a state, the bytes (N,) of all V tokens in a row, lengths (V,) -> the state after each token (V,).

    -1 stands for no state, in the table and in the answer, which has the dtype of the table. A token without bytes writes
    nothing: it is not valid. All tokens advance together, byte by byte; who leaves the automaton or is at its end drops out.
    """
    targets = np.full(len(lengths), LEFT, dtype=table.dtype)
    ends = np.cumsum(lengths)
    ids = np.flatnonzero(lengths)
    states, places = np.full(len(ids), state), (ends - lengths)[ids]
    while len(ids):
        states = table[states, data[places]]
        places = places + 1
        alive, whole = states != LEFT, places == ends[ids]
        targets[ids[alive & whole]] = states[alive & whole]
        ids, states, places = (rest[alive & ~whole] for rest in (ids, states, places))
    return targets


class Constraint:
    """A processor: (logits (B, V), texts) -> logits with -inf for all that an automaton does not allow.

    `start` is where in a text the constrained part begins: the length of the prompt, or, where rows differ, a function of
    the text (`after_prompts`). `budget` is the largest number of tokens of the output, max_new_tokens: with it, what cannot
    be finished in time is never begun, so that the output is valid also where it is cut off. The state of a row depends
    on its tokens alone: rows may be dropped, doubled and reordered between calls. A text that is not valid is an error;
    but where the same call has a valid beginning of it, it is a guess (speculative decoding) that has probability 0
    there and will be refused, and what follows the guess is left as it is.

    Let the generation stop at <|endoftext|>: it is all that is allowed when nothing else can follow. Another stop, and a
    context that ends before the budget does, can leave a text unfinished.

    >>> yes_or_no = Constraint(answers, start=len(prompt), budget=5)
    >>> sampler = Sampler(SampleConfig(), generator, processors=[yes_or_no])
    >>> ids = list(generate(model, prompt, sampler, 5, stop_tokens=[tokenizer.end_of_text]))
    """

    def __init__(
        self, automaton: TokenAutomaton, start: int | Callable[[Sequence[int]], int], budget: int | None = None
    ) -> None:
        if budget is not None and budget < automaton.distances[0]:
            room = f"behind the prompt there is room for {max(budget, 0)}"
            raise ValueError(f"the shortest valid text has {automaton.distances[0]} tokens, {room}")
        self.automaton, self.start, self.budget = automaton, start, budget
        self.states: dict[tuple[int, ...], int] = {}  # of the outputs of the last call

    def __call__(self, logits: Tensor, texts: Sequence[Sequence[int]]) -> Tensor:
        n_tokens = len(self.automaton.token_bytes)
        if len(texts) != len(logits) or logits.shape[-1] < n_tokens:
            raise ValueError(f"logits {tuple(logits.shape)} for {len(texts)} texts and {n_tokens} tokens do not fit")
        outputs = [self.output(text) for text in texts]
        self.states = {output: self.state(output) for output in outputs}
        allowed = {output: self.allowed(output) for output in outputs}
        mask = np.zeros(logits.shape, dtype=bool)  # ids beyond the tokenizer's stay forbidden
        for row, output in zip(mask, outputs, strict=True):
            row[:n_tokens] = allowed[output]
            if not row.any():
                if not any(allowed[output[:n]].any() for n in range(len(output)) if output[:n] in allowed):
                    raise ValueError(
                        f"the tokens {list(output[-8:])} at the end of a text are not what is allowed there"
                    )
                row[:] = True  # behind a guess that is refused
        return logits.masked_fill(torch.from_numpy(~mask).to(logits.device), -torch.inf)

    def allowed(self, output: tuple[int, ...]) -> np.ndarray:
        """Which tokens (V,) may follow an output of this call: none if it is not valid, or cannot be finished in time."""
        remaining = None if self.budget is None else self.budget - len(output)
        return self.automaton.allowed(self.states[output], remaining)

    def output(self, text: Sequence[int]) -> tuple[int, ...]:
        """The constrained part of a text."""
        start = self.start(text) if callable(self.start) else self.start
        if not 0 <= start <= len(text):
            raise ValueError(
                f"the constraint starts after {start} tokens, a text has {len(text)}: texts hold the prompt too"
            )
        return tuple(text[start:])

    def state(self, output: tuple[int, ...]) -> int:
        """The state after an output: one step from what the last call has left, or else from the beginning."""
        if output in self.states:
            return self.states[output]
        if output and output[:-1] in self.states:
            return self.automaton.next(self.states[output[:-1]], output[-1])
        return self.automaton.read(output)


def after_prompts(prompts: Iterable[Sequence[int]]) -> Callable[[Sequence[int]], int]:
    """Where the output starts if a text begins with one of these prompts: for batches of prompts of different lengths.

    ValueError if one prompt is the beginning of another, longer one: then a text does not tell which of the two it had.
    """
    known = sorted({tuple(prompt) for prompt in prompts}, key=len)
    for i, prompt in enumerate(known):
        if any(longer[: len(prompt)] == prompt for longer in known[i + 1 :]):
            raise ValueError(f"prompt {list(prompt)} is the beginning of a longer one: constrain them in two batches")

    def start(text: Sequence[int]) -> int:
        for prompt in known:
            if tuple(text[: len(prompt)]) == prompt:
                return len(prompt)
        raise ValueError(f"a text that begins with {list(text[:8])} has none of the {len(known)} prompts")

    return start

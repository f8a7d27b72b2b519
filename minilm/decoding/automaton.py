"""The smallest deterministic automaton over bytes that accepts the language of an expression.

Three classical steps. A *nondeterministic* automaton may be in several states at once; the **subset construction** (Rabin
and Scott 1959) makes each set of states that can occur one state. **Minimisation** (Hopcroft 1971) merges states that no
continuation tells apart. Last, the **dead** state, from which nothing can be accepted, is removed: in what is left, every
state can still reach an end, so whoever never leaves the automaton can always finish.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from minilm.decoding.expressions import NFA, Node

LEFT = -1  # the state of a text that no continuation can make valid
MAX_STATES = 30_000  # of a deterministic automaton: a state fits in an int16, the table in 30 MB
MAX_WORK = 600_000  # the sizes of all sets of the subset construction together: some seconds
TOO_LARGE = f"the automaton would have more than {MAX_STATES:,} states, or take too long: repeat less, or smaller parts"


@dataclass(frozen=True, eq=False)
class Automaton:
    """`table` (S, 256): the state after a byte, or -1 where no continuation is valid; `accepting` (S,): may the text end
    here? State 0 is the start. States are numbered in the order of the shortest texts that reach them, so two automata
    with the same language have the same arrays.

    >>> Automaton.of(parse("(ab)*")).matches(b"abab")
    True
    """

    table: np.ndarray
    accepting: np.ndarray

    @classmethod
    def of(cls, node: Node) -> "Automaton":
        """The minimal automaton of an expression. ValueError if it would be too large, or if nothing matches."""
        nfa = NFA(node)
        cuts = sorted({0} | {cut for edges in nfa.edges for low, high, _ in edges for cut in (low, high + 1)} - {256})
        table, accepting = determinise(nfa, cuts)
        block_of = minimise(table, accepting)
        n_blocks = max(block_of) + 1
        small, ends = np.empty((n_blocks, len(cuts)), dtype=np.int64), np.empty(n_blocks, dtype=bool)
        small[block_of], ends[block_of] = block_of[table], accepting  # members of a block agree
        order = live_states(small, ends, start=int(block_of[0]))
        names = np.full(n_blocks, LEFT)
        names[order] = np.arange(len(order))
        return cls(names[small[order]].repeat(np.diff([*cuts, 256]), axis=1).astype(np.int16), ends[order])

    def next(self, data: bytes, state: int = 0) -> int:
        """The state after these bytes, -1 if no continuation is valid."""
        for byte in data:
            if state == LEFT:
                return LEFT
            state = int(self.table[state, byte])
        return state

    def matches(self, data: bytes) -> bool:
        """Are these bytes, as a whole, in the language?"""
        state = self.next(data)
        return state != LEFT and bool(self.accepting[state])


def closure(nfa: NFA, states: frozenset[int]) -> frozenset[int]:
    """These states and all that are reached from them without a byte; of those, the ones that matter: with edges, or the end."""
    found, waiting = set(states), list(states)
    while waiting:
        for target in nfa.jumps[waiting.pop()]:
            if target not in found:
                found.add(target)
                waiting.append(target)
    return frozenset(state for state in found if nfa.edges[state] or state == nfa.end)


def determinise(nfa: NFA, cuts: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """The subset construction -> table (S, C) and accepting (S,), start 0, complete: the empty set is a state too.

    Bytes that no edge tells apart are one column: column c stands for the bytes from cuts[c] to before cuts[c + 1].
    """
    column = {cut: c for c, cut in enumerate([*cuts, 256])}
    subsets: list[frozenset[int]] = []  # state -> the closed set that it stands for
    numbers: dict[frozenset[int], int] = {}  # and back, also from sets that are not closed
    work = 0

    def number(targets: frozenset[int]) -> int:
        nonlocal work
        if targets not in numbers:
            subset = closure(nfa, targets)
            work += len(subset)
            if subset not in numbers:
                numbers[subset] = len(subsets)
                subsets.append(subset)
            numbers[targets] = numbers[subset]
        return numbers[targets]

    number(frozenset([nfa.start]))
    rows: list[list[int]] = []
    for subset in subsets:  # which grows meanwhile
        reached: list[set[int]] = [set() for _ in cuts]
        for low, high, target in (edge for state in subset for edge in nfa.edges[state]):
            for c in range(column[low], column[high + 1]):
                reached[c].add(target)
        rows.append([number(frozenset(targets)) for targets in reached])
        if len(subsets) > MAX_STATES or work > MAX_WORK:
            raise ValueError(TOO_LARGE)
    return np.array(rows), np.array([nfa.end in subset for subset in subsets])


def minimise(table: np.ndarray, accepting: np.ndarray) -> np.ndarray:
    """A complete automaton (S, C) -> the block (S,) of each state: equal where no continuation tells two states apart.

    All states begin in two blocks, those that accept and those that do not. A splitter is a block and a column: states
    from which the column leads into the block part from those from which it does not. Of a block that is split, the
    smaller half becomes a new splitter, which is enough: a state is moved at most log2(S) times.
    """
    before: list[dict[int, list[int]]] = [defaultdict(list) for _ in table.T]  # per column: target -> sources
    for c, targets in enumerate(table.T.tolist()):
        for source, target in enumerate(targets):
            before[c][target].append(source)
    ends = set(np.flatnonzero(accepting).tolist())
    blocks = [block for block in (ends, set(range(len(table))) - ends) if block]
    block_of = np.zeros(len(table), dtype=np.int64)
    block_of[list(blocks[-1])] = len(blocks) - 1
    waiting = {(b, c) for b in range(len(blocks)) for c in range(len(before))}
    while waiting:
        b, c = waiting.pop()
        inside: dict[int, set[int]] = defaultdict(set)
        for source in (source for target in blocks[b] for source in before[c].get(target, ())):
            inside[int(block_of[source])].add(source)
        for old, part in inside.items():
            if len(part) < len(blocks[old]):
                part = min(part, blocks[old] - part, key=len)
                blocks[old] -= part
                block_of[list(part)] = len(blocks)
                waiting |= {(len(blocks), column) for column in range(len(before))}
                blocks.append(part)
    return block_of


def live_states(table: np.ndarray, accepting: np.ndarray, start: int) -> list[int]:
    """The states of a minimal automaton in the order of their shortest texts, without the dead one, of which all ways lead
    to itself."""
    dead = ~accepting & (table == np.arange(len(table))[:, None]).all(1)
    if dead[start]:
        raise ValueError("no text matches the expression: it asks for a character out of an empty set")
    order, seen = [start], {start, *np.flatnonzero(dead).tolist()}
    for state in order:  # which grows meanwhile
        for target in table[state].tolist():
            if target not in seen:
                seen.add(target)
                order.append(target)
    return order

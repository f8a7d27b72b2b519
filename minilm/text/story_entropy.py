"""The entropy of the story world, summed exactly although it tells more stories than there are atoms in a room.

A document costs -ln p = the sum over its choices, so what it costs on average is a sum over all choices that can be made
of: probability that it is made, times the entropy of its options (the chain rule of entropy). Two facts keep that sum
small. Expectations add up whatever depends on what, so bytes and wordings are averaged slot by slot, each time over the
few facts that this slot asks for and no others. And a fact is chosen just where its name, or a fact that depends on it,
first occurs, so for each fact alone the templates are followed up to there, over the few facts that decide the way.

Cover and Thomas, "Elements of Information Theory", section 2.5.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

from minilm.text.story_plots import Choice
from minilm.text.story_templates import Piece, Slot, pieces, probabilities


@dataclass(frozen=True)
class Entropy:
    """What the documents of a world cost and measure on average: the floor is the ratio of the two."""

    nats: float  # of a document
    bytes: float  # of its UTF-8

    @property
    def nats_per_byte(self) -> float:
        return self.nats / self.bytes

    @property
    def bits_per_byte(self) -> float:
        return self.nats_per_byte / math.log(2)


class Known(NamedTuple):
    """Some facts: their values, and which options they are, which names them in a table."""

    values: dict[str, Any]
    indices: frozenset[tuple[str, int]]


NOTHING = Known({}, frozenset())


def exact_entropy(facts: Mapping[str, Choice], lines: Mapping[str, Sequence[str]], todo: tuple[Piece, ...]) -> Entropy:
    """The entropy of all that the pieces `todo` can become, and its mean size."""
    sums = _Sums(facts, lines)
    n_bytes, nats = sums.bytes_and_wordings(todo, NOTHING)
    return Entropy(nats + sum(sums.surprise(fact, todo, NOTHING) for fact in facts), n_bytes)


class _Sums:
    def __init__(self, facts: Mapping[str, Choice], lines: Mapping[str, Sequence[str]]) -> None:
        self.facts, self.lines = facts, lines
        self.averages: dict[Any, tuple[float, float]] = {}
        self.surprises: dict[Any, float] = {}
        self.needed: dict[Any, set[str]] = {}

    def closure(self, name: str) -> set[str]:
        """A fact and all that it depends on."""
        return {name}.union(*map(self.closure, self.facts[name].given))

    def choices(self, names: Sequence[str], known: Known) -> Iterator[tuple[float, Known]]:
        """All ways to choose these facts and what they depend on, where they are not known yet, with probabilities."""
        missing = [name for name in names if name not in known.values]
        if not missing:
            yield 1.0, known
            return
        name, given = missing[0], self.facts[missing[0]].given
        for p, parents in self.choices(given, known):
            options = self.facts[name].options(parents.values)
            for i, (option, q) in enumerate(zip(options, probabilities(options), strict=True)):
                grown = Known({**parents.values, name: option}, parents.indices | {(name, i)})
                for r, everything in self.choices(missing[1:], grown):
                    yield p * q * r, everything

    def fillings(self, slot: Slot, known: Known) -> Iterator[tuple[float, tuple[Piece, ...], Known]]:
        """What can stand in a slot: probability, pieces, and what is known then."""
        if slot.name in self.lines:
            wordings = self.lines[slot.name]
            yield from ((1 / len(wordings), pieces(wording, slot.capital), known) for wording in wordings)
            return
        for p, then in self.choices([slot.name], known):
            yield p, pieces(attrgetter(slot.form)(then.values[slot.name]), slot.capital), then

    def bytes_and_wordings(self, todo: tuple[Piece, ...], known: Known) -> tuple[float, float]:
        """The mean of the bytes of what `todo` becomes, and the mean of the nats of the wordings chosen on the way."""
        n_bytes = nats = 0.0
        for piece in todo:
            if isinstance(piece, str):
                n_bytes += len(piece.encode())
                continue
            key = (piece, known.indices)
            if key not in self.averages:
                size, cost = 0.0, math.log(len(self.lines[piece.name])) if piece.name in self.lines else 0.0
                for p, told, then in self.fillings(piece, known):
                    inner = self.bytes_and_wordings(told, then)
                    size, cost = size + p * inner[0], cost + p * inner[1]
                self.averages[key] = size, cost
            n_bytes, nats = n_bytes + self.averages[key][0], nats + self.averages[key][1]
        return n_bytes, nats

    def surprise(self, fact: str, todo: tuple[Piece, ...], known: Known) -> float:
        """P(`fact` is chosen while `todo` is told) times the mean entropy of its options where it is."""
        while todo and not (isinstance(todo[-1], Slot) and fact in self.brings_up(todo[-1], known)):
            todo = todo[:-1]
        if not todo:
            return 0.0
        key = (fact, todo, known.indices)
        if key not in self.surprises:
            slot = todo[-1]
            assert isinstance(slot, Slot)
            if slot.name not in self.lines and fact in self.closure(slot.name):
                given = self.facts[fact].given
                parts = ((p, self.facts[fact].options(then.values)) for p, then in self.choices(given, known))
                self.surprises[key] = sum(p * entropy(probabilities(options)) for p, options in parts)
            else:
                self.surprises[key] = sum(
                    p * self.surprise(fact, (*todo[:-1], *told), then) for p, told, then in self.fillings(slot, known)
                )
        return self.surprises[key]

    def brings_up(self, slot: Slot, known: Known) -> set[str]:
        """The facts that what stands in the slot may need."""
        key = (slot, known.indices)
        if key not in self.needed:
            needed = set() if slot.name in self.lines else self.closure(slot.name)
            for _, told, then in self.fillings(slot, known):
                needed = needed.union(*(self.brings_up(piece, then) for piece in told if isinstance(piece, Slot)))
            self.needed[key] = needed
        return self.needed[key]


def entropy(distribution: Sequence[float]) -> float:
    """-sum p ln p, in nats."""
    return -math.fsum(p * math.log(p) for p in distribution if p)

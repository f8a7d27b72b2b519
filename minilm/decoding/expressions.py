"""Regular expressions as trees, and from a tree to a nondeterministic automaton over bytes (Thompson 1968).

Four kinds of nodes are enough: a set of characters, a sequence, a choice and a repetition. A character is a Unicode code
point; the automaton reads its UTF-8 bytes, since tokens are strings of bytes and may begin or end inside a character.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

Range = tuple[int, int]  # from, to: both included

LAST = 0x10FFFF  # the last code point
SURROGATES = (0xD800, 0xDFFF)  # halves of UTF-16 pairs: no characters, and they have no UTF-8
MAX_STATES = 50_000  # of a nondeterministic automaton


@dataclass(frozen=True)
class Characters:
    """One character out of these ranges of code points. No range at all: nothing matches."""

    ranges: tuple[Range, ...]

    def is_single(self) -> bool:
        """Is it one character and no other?"""
        return len(self.ranges) == 1 and self.ranges[0][0] == self.ranges[0][1]


@dataclass(frozen=True)
class Sequence:
    """One part after the other. No part at all: the empty text."""

    parts: tuple["Node", ...]


@dataclass(frozen=True)
class Choice:
    """One of the options."""

    options: tuple["Node", ...]


@dataclass(frozen=True)
class Repeat:
    """The body, `low` to `high` times; None means any number of times."""

    body: "Node"
    low: int
    high: int | None


Node = Characters | Sequence | Choice | Repeat


def characters(*ranges: Range) -> Characters:
    """The characters of all these ranges, sorted, merged where they meet, without surrogates.

    >>> characters((110, 122), (97, 112))
    Characters(ranges=((97, 122),))
    """
    merged: list[Range] = []
    for low, high in sorted(part for whole in ranges for part in without(whole, SURROGATES)):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return Characters(tuple(merged))


def without(whole: Range, hole: Range) -> list[Range]:
    """What of a range lies before and behind the hole."""
    pieces = [(whole[0], min(whole[1], hole[0] - 1)), (max(whole[0], hole[1] + 1), whole[1])]
    return [(low, high) for low, high in pieces if low <= high]


def complement(node: Characters) -> Characters:
    """All characters but these."""
    ends = [-1, *(end for low, high in node.ranges for end in (low - 1, high)), LAST]
    return characters(*[(low + 1, high) for low, high in zip(ends[::2], ends[1::2], strict=True) if low < high])


def text(literal: str) -> Sequence:
    """This text and no other."""
    return Sequence(tuple(characters((ord(character), ord(character))) for character in literal))


def optional(*parts: Node) -> Repeat:
    """The parts, one after the other, or nothing."""
    return Repeat(Sequence(parts), 0, 1)


@cache
def utf8_ranges(low: int, high: int) -> tuple[tuple[Range, ...], ...]:
    """Code points low..high -> sequences of byte ranges, which together spell exactly the UTF-8 of these characters.

    A range is cut where the number of bytes changes, then wherever a leading byte does not go with all of what may follow.

    >>> utf8_ranges(0x41, 0xE9)  # A to é
    (((65, 127),), ((194, 194), (128, 191)), ((195, 195), (128, 169)))
    """
    for last in (0x7F, 0x7FF, 0xFFFF):
        if low <= last < high:
            return utf8_ranges(low, last) + utf8_ranges(last + 1, high)
    return byte_ranges(chr(low).encode(), chr(high).encode())


def byte_ranges(low: bytes, high: bytes) -> tuple[tuple[Range, ...], ...]:
    """The same for characters of one length, given as bytes. A byte that follows is 0x80 to 0xBF."""
    if len(low) == 1:
        return (((low[0], high[0]),),)
    least, most = b"\x80" * (len(low) - 1), b"\xbf" * (len(low) - 1)
    first, last = low[0], high[0]
    if first == last:
        return tuple(((first, first), *rest) for rest in byte_ranges(low[1:], high[1:]))
    found: list[tuple[Range, ...]] = []
    if low[1:] > least:
        found += [((first, first), *rest) for rest in byte_ranges(low[1:], most)]
        first += 1
    if high[1:] < most:
        last -= 1
    if first <= last:
        found += [((first, last), *rest) for rest in byte_ranges(least, most)]
    if high[1:] < most:
        found += [((high[0], high[0]), *rest) for rest in byte_ranges(least, high[1:])]
    return tuple(found)


class NFA:
    """States 0, 1, ...; `edges[s]` are (first byte, last byte, target), `jumps[s]` are targets reached without a byte.

    It accepts a string of bytes if one of the ways through it, from `start`, ends in `end`.
    """

    def __init__(self, node: Node) -> None:
        self.edges: list[list[tuple[int, int, int]]] = []
        self.jumps: list[list[int]] = []
        self.start = self.new()
        self.end = self.add(node, self.start)

    def new(self) -> int:
        if len(self.edges) == MAX_STATES:
            raise ValueError(f"the expression needs more than {MAX_STATES:,} states: repeat less, or smaller parts")
        self.edges.append([])
        self.jumps.append([])
        return len(self.edges) - 1

    def add(self, node: Node, start: int) -> int:
        """Ways for the node that begin in `start` -> the state in which they all end. None of them comes back to `start`."""
        match node:
            case Characters(ranges):
                return self.add_characters(ranges, start)
            case Sequence(parts):
                for part in parts:
                    start = self.add(part, start)
                return start
            case Choice(options):
                end = self.new()
                for option in options:
                    self.jumps[self.add(option, start)].append(end)
                return end
            case Repeat():
                return self.add_repeat(node, start)

    def add_repeat(self, node: Repeat, start: int) -> int:
        """`low` copies, and then a loop, or the copies that may be left out. Each copy begins in a state of its own."""
        for _ in range(node.low):
            start = self.add(node.body, self.after([start]))
        if node.high is None:
            loop = self.after([start])
            self.jumps[self.add(node.body, loop)].append(loop)
            return loop
        ends = [start]
        for _ in range(node.high - node.low):
            ends.append(self.add(node.body, self.after([ends[-1]])))
        return self.after(ends)

    def after(self, states: Iterable[int]) -> int:
        """A new state to which all of these jump."""
        new = self.new()
        for state in states:
            self.jumps[state].append(new)
        return new

    def add_characters(self, ranges: tuple[Range, ...], start: int) -> int:
        """Byte by byte; what is equal behind the first bytes of two characters is built once."""
        tails: dict[tuple[Range, ...], int] = {(): self.new()}

        def state_before(tail: tuple[Range, ...]) -> int:
            if tail not in tails:
                target = state_before(tail[1:])
                tails[tail] = self.new()
                self.edges[tails[tail]].append((*tail[0], target))
            return tails[tail]

        for low, high in ranges:
            for first, *rest in utf8_ranges(low, high):
                self.edges[start].append((*first, state_before(tuple(rest))))
        return tails[()]

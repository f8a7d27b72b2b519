"""Near duplicates: texts that share most of their shingles, found without comparing every text with every other.

A shingle is 16 characters in a row of a text's plain form, its words in small letters. Two texts are as similar as their
sets of shingles A and B (Jaccard):

    similarity(A, B) = |A & B| / |A | B|

Every shingle gets a hash that looks random, so the smallest hashes of a set are a fair sample of it. A text is kept as

* a **sketch**, its 256 smallest hashes: they tell the similarity exactly for texts of up to 256 shingles (some 270
  characters), and for longer ones with a standard error of sqrt(s (1 - s) / 256), 0.025 at s = 0.8;
* its **minima**: all hashes are dealt out to 126 bins by size, and the smallest of each bin is kept (MinHash with one
  permutation). Texts of similarity s share the minimum of a bin with probability s.

Only texts that share a key are compared, first by their minima, then by their sketches; r minima in a row are a key. So a
pair of similarity s is looked at with probability 1 - (1 - s^r)^(126 / r). To find what is 0.8 similar r is 6: 99.8 % of
such pairs are looked at, and 1.5 % of those of 0.3. All this takes 2.5 kB of memory a text, however long it is.

Broder, "On the resemblance and containment of documents" (1997); Li, Owen and Zhang, "One permutation hashing" (2012).
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

SHINGLE = 16  # characters
SKETCH = 256  # hashes
BINS = 126
BLOCK = 1 << 20  # characters hashed at a time
FOUND = 0.99  # of the pairs that are just as similar as is asked for
MARGIN = 0.25  # of the share of equal minima below the threshold: three to seven standard errors

BASE = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, odd
BIN_STARTS = np.array([2**64 * i // BINS for i in range(BINS)], dtype=np.uint64)


class Sketch(NamedTuple):
    """What is kept of a text: at most 256 hashes, ascending, and its minima (126,). A text without words has neither."""

    hashes: np.ndarray
    minima: np.ndarray  # their low 32 bits: they are only asked whether they are equal


def plain(text: str) -> str:
    """The words of a text in small letters, joined by one blank: "To be, or NOT:" -> "to be or not"."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def shingles(text: str) -> np.ndarray:
    """The hashes (N,) of a plain text's shingles, in order. A text shorter than a shingle is one, filled up with zeros.

    The hash of c_1 ... c_16 is c_1 b^15 + c_2 b^14 + ... + c_16 modulo 2^64, then mixed. Half of a shingle gives the
    whole: hash(uv) = hash(u) b^|v| + hash(v), so four steps make 16 characters of one.
    """
    hashes = np.frombuffer(text.encode("utf-32-le"), dtype="<u4").astype(np.uint64)
    if len(hashes) < SHINGLE:
        hashes = np.pad(hashes, (0, SHINGLE - len(hashes)))
    for half in (1, 2, 4, 8):
        hashes = hashes[:-half] * np.uint64(pow(BASE, half, 2**64)) + hashes[half:]
    return mixed(hashes)


def mixed(hashes: np.ndarray) -> np.ndarray:
    """Spread every bit of uint64 numbers over all bits, one to one (the end of MurmurHash3)."""
    hashes = (hashes ^ (hashes >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    hashes = (hashes ^ (hashes >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return hashes ^ (hashes >> np.uint64(33))


def sketch(text: str) -> Sketch:
    """The sketch of a text; one of many megabytes is hashed a block at a time."""
    words = plain(text)
    if not words:
        return Sketch(np.empty(0, np.uint64), np.empty(0, np.uint32))
    kept = different(shingles(words[: BLOCK + SHINGLE - 1]))
    for start in range(BLOCK, len(words) - SHINGLE + 1, BLOCK):
        hashes = different(shingles(words[start : start + BLOCK + SHINGLE - 1]))
        parts = (part for whole in (kept, hashes) for part in (whole[:SKETCH], bin_minima(whole)))
        kept = different(np.concatenate([*parts]))
    return Sketch(kept[:SKETCH].copy(), bin_minima(kept).astype(np.uint32))


def different(hashes: np.ndarray) -> np.ndarray:
    """Each hash once, ascending."""
    ordered = np.sort(hashes)
    return ordered[np.append(True, ordered[1:] != ordered[:-1])]


def bin_minima(hashes: np.ndarray) -> np.ndarray:
    """The smallest hash in each of 126 equal parts of the range; an empty part borrows that of the next one."""
    first = np.searchsorted(hashes, BIN_STARTS)
    return hashes[first % len(hashes)]


def similarity(a: Sketch, b: Sketch) -> float:
    """The Jaccard similarity of two texts: exact where both sketches hold all hashes, else from the 256 smallest."""
    if not len(a.hashes) or not len(b.hashes):
        return 0.0
    both = np.sort(np.concatenate((a.hashes, b.hashes)))
    twice = both[1:] == both[:-1]
    if max(len(a.hashes), len(b.hashes)) == SKETCH:  # a sketch may be cut off: only so far are both complete
        distinct = np.cumsum(np.append(True, ~twice))
        n = int(np.searchsorted(distinct, SKETCH, side="right"))
        both, twice = both[:n], twice[: n - 1]
    n_shared = int(np.count_nonzero(twice))
    return n_shared / (len(both) - n_shared)


def rows_of_a_key(threshold: float) -> int:
    """How many minima make a key: as many as still find 99 % of the pairs whose similarity is the threshold."""
    good = (rows for rows in range(BINS, 0, -1) if 1 - (1 - threshold**rows) ** (BINS // rows) >= FOUND)
    return next(good, 1)


class Index:
    """Texts by their keys: whom must a text be compared with, and whom of those does it resemble?"""

    def __init__(self, sketches: list[Sketch], threshold: float) -> None:
        self.sketches, self.threshold = sketches, threshold
        self.numbers = np.array([i for i, sketch in enumerate(sketches) if len(sketch.hashes)], dtype=np.int64)
        self.minima = np.zeros((len(sketches), BINS), np.uint32)
        for i in self.numbers:
            self.minima[i] = sketches[i].minima

    def rows(self) -> Iterator[tuple[int, np.ndarray]]:
        """(i, later texts that share a key with text i), for each i and each key. A pair may come more than once."""
        width = rows_of_a_key(self.threshold)
        for first in range(0, BINS - width + 1, width):
            keys = np.zeros(len(self.numbers), np.uint64)
            for column in range(first, first + width):
                keys = mixed(keys * np.uint64(BASE) + self.minima[self.numbers, column])
            order = np.argsort(keys, kind="stable")
            starts = np.flatnonzero(np.append(True, keys[order][1:] != keys[order][:-1]))
            sizes = np.diff(np.append(starts, len(order)))
            for start, size in zip(starts[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
                members = self.numbers[order[start : start + size]]
                yield from ((int(members[at]), members[at + 1 :]) for at in range(size - 1))

    def similar(self, i: int, others: np.ndarray) -> Iterator[int]:
        """Those of `others` that resemble text i. The minima tell at once which are far from it, and save the time."""
        agreement = (self.minima[others] == self.minima[i]).mean(axis=1)
        for j in others[agreement >= self.threshold - MARGIN].tolist():
            if similarity(self.sketches[i], self.sketches[j]) >= self.threshold:
                yield j


def near_groups(sketches: list[Sketch], threshold: float) -> list[list[int]]:
    """Groups of two or more texts, each at least `threshold` similar to another one of its group; lists of numbers.

    The groups do not depend on the order of the texts. Similarity is passed on: where a resembles b and b resembles c,
    all three are one group.
    """
    index = Index(sketches, threshold)
    leader = np.arange(len(sketches))  # of the group so far
    for i, others in index.rows():
        for j in index.similar(i, others[leader[others] != leader[i]]):
            if leader[i] != leader[j]:
                leader[leader == leader[j]] = leader[i]
    groups: dict[int, list[int]] = {}
    for i, first in enumerate(leader.tolist()):
        groups.setdefault(first, []).append(i)
    return [group for group in groups.values() if len(group) > 1]

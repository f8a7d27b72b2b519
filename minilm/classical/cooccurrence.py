"""Which words stand near which: how often two words meet, where words that are d places apart count 1 / d.

    "the cat sat", window 2  ->  the cat: 1   cat sat: 1   the sat: 1/2   and the same the other way round

Two words see each other, so X (V, V) is symmetric, and a word that meets itself d places apart counts twice 1 / d.
A document ends what its words can see. A word outside the vocabulary is not counted, but keeps its place: the words around
it are no closer for its being unknown. (Stanford's program takes such words out first.)

`count_neighbours` says what is counted, in a plain loop. `cooccurrences` counts the same in arrays: a pair of words is one
number, equal pairs lie together once the numbers are sorted, and sums over neighbours are one call. A long text is counted
in blocks, whose sums are merged: the memory is that of a block and of the table, whatever the length of the text.

Pennington, Socher and Manning (2014), "GloVe: Global vectors for word representation", section 4.2, for the 1 / d.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from minilm.classical.bag_of_ngrams import SparseCounts

OUTSIDE = -1  # the id of a word that the vocabulary lacks
BLOCK = 2**17  # words that are counted at a time
Sums = tuple[np.ndarray, np.ndarray]  # keys (n,) int64, ascending, each once, and the sum of each (n,)


def count_neighbours(documents: Iterable[Sequence[Hashable]], window: int) -> dict[tuple[Hashable, Hashable], float]:
    """{(word, other): sum of 1 / distance}, over all places of a document that are at most `window` apart.

    >>> count_neighbours([["a", "b", "a"], ["b"]], window=2)
    {('a', 'b'): 2.0, ('b', 'a'): 2.0, ('a', 'a'): 1.0}
    """
    counts: dict[tuple[Hashable, Hashable], float] = {}
    for words in documents:
        for t, word in enumerate(words):
            for distance in range(1, min(window, len(words) - 1 - t) + 1):
                other = words[t + distance]
                for pair in ((word, other), (other, word)):
                    counts[pair] = counts.get(pair, 0.0) + 1 / distance
    return counts


def word_ids(
    texts: Iterable[str], index: Mapping[str, int], cut: Callable[[str], Sequence[Any]]
) -> Iterator[np.ndarray]:
    """Each text as the ids of its words; those that the index lacks are OUTSIDE."""
    for text in texts:
        yield np.array([index.get(word, OUTSIDE) for word in cut(text)], dtype=np.int64)


def cooccurrences(documents: Iterable[np.ndarray], vocab_size: int, window: int, block: int = BLOCK) -> SparseCounts:
    """X (V, V) of documents of ids, where OUTSIDE is no word: X[i, j] is the sum of 1 / distance.

    About `block` words are counted at a time; how many changes X by rounding only. ValueError for an id that is neither
    OUTSIDE nor one of 0 .. V - 1.

    >>> X = cooccurrences([np.array([0, 1, 0]), np.array([1])], vocab_size=2, window=2)
    >>> X @ np.eye(2)
    array([[1., 2.],
           [2., 0.]])
    """
    for name, value in (("vocab_size", vocab_size), ("window", window), ("block", block)):
        if value < 1:
            raise ValueError(f"{name} is {value}: it must be at least 1")
    if vocab_size * vocab_size * window >= 2**63:
        raise ValueError(f"{vocab_size:,} words with a window of {window} are too many pairs to be numbered in 64 bits")
    merged: Sums = np.empty(0, dtype=np.int64), np.empty(0)
    waiting: list[Sums] = []
    for ids in blocks(documents, window, block):
        waiting.append(count_block(ids, vocab_size, window))
        if sum(len(keys) for keys, _ in waiting) >= len(merged[0]):  # seldom enough that merging costs little
            merged, waiting = merge([merged, *waiting]), []
    return both_sides(*merge([merged, *waiting]), vocab_size)


def blocks(documents: Iterable[np.ndarray], window: int, size: int) -> Iterator[np.ndarray]:
    """All documents in one row of ids, with `window` times OUTSIDE behind each, cut into overlapping blocks.

    The last `window` places of a block are the first of the next one, for they are seen from here and see on from there.
    So no pair reaches over the end of a document, and none is lost at that of a block.

    >>> [block.tolist() for block in blocks([np.array([5, 6, 7, 8])], window=1, size=2)]
    [[5, 6, 7, 8], [8, -1]]
    """
    border = np.full(window, OUTSIDE)
    waiting: list[np.ndarray] = []
    length = 0
    for document in documents:
        cuts = range(0, len(document), size)
        for part in (*(document[start : start + size] for start in cuts), border):
            waiting.append(np.asarray(part, dtype=np.int64))
            length += len(part)
            if length >= size + window:
                row = np.concatenate(waiting)
                yield row
                waiting, length = [row[-window:]], window
    if length > window:
        yield np.concatenate(waiting)


def count_block(ids: np.ndarray, vocab_size: int, window: int) -> Sums:
    """The pairs whose left word is not among the last `window` ids, each by its key: smaller id * V + larger id.

    For the sort the distance is made the last digit of the key: one array is sorted, and nothing has to be carried along.
    """
    if len(ids) and not (ids.min() >= OUTSIDE and ids.max() < vocab_size):
        raise ValueError(f"ids lie in {ids.min()}..{ids.max()}, they must be 0..{vocab_size - 1}, or {OUTSIDE}")
    n = max(0, len(ids) - window)
    found = [np.empty(0, dtype=np.int64)]
    for distance in range(1, window + 1):
        left, right = ids[:n], ids[distance : distance + n]
        both = (left >= 0) & (right >= 0)
        left, right = left[both], right[both]
        keys = np.minimum(left, right) * vocab_size + np.maximum(left, right)
        found.append(keys * window + (distance - 1))
    digits = np.sort(np.concatenate(found))
    return sum_equal(digits // window, 1 / (digits % window + 1))


def sum_equal(keys: np.ndarray, values: np.ndarray) -> Sums:
    """Ascending keys (n,) with values (n,) -> each key once, with the sum of its values.

    >>> sum_equal(np.array([2, 2, 7]), np.array([1.0, 0.5, 3.0]))
    (array([2, 7]), array([1.5, 3. ]))
    """
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    return keys[starts], np.add.reduceat(values, starts) if len(starts) else values


def merge(parts: Sequence[Sums]) -> Sums:
    """The sums of all parts together."""
    keys, values = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.argsort(keys, kind="stable")  # quick where long stretches are in order already, and here they are
    return sum_equal(keys[order], values[order])


def both_sides(keys: np.ndarray, values: np.ndarray, vocab_size: int) -> SparseCounts:
    """X from what was counted of the pairs (smaller, larger): the other half is the mirror image."""
    small, large = keys // vocab_size, keys % vocab_size
    apart = small != large
    values = np.where(apart, values, 2 * values)  # of two equal words each sees the other
    rows, columns = np.concatenate([small, large[apart]]), np.concatenate([large, small[apart]])
    values = np.concatenate([values, values[apart]])
    order = np.argsort(rows * vocab_size + columns, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=vocab_size))])
    return SparseCounts(starts, columns[order], values[order], vocab_size)

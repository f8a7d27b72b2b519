"""Learning the merges of byte-pair encoding: join the most frequent pair of neighbours, again and again.

`learn_merges` is that sentence in Python. It counts every pair anew for every merge, so its time grows with merges times
text. `trace_merges` gives the same merges by looking only at the places that a merge changes. Sennrich et al. 2016, "Neural
machine translation of rare words with subword units".
"""

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

from minilm.text.bpe_merge import Pair
from minilm.text.bpe_pieces import count_pieces
from minilm.text.tokenizer import utf8

LONGEST = 1000  # bytes of a token: in a file of one letter, each merge would double the last token
EDGE, GONE = -1, -2  # what stands around every word, and in a place whose token was merged into its left neighbour


def count_pairs(words: Sequence[Sequence[int]], frequencies: Sequence[int]) -> dict[Pair, int]:
    """How often each pair of neighbours occurs in words that occur `frequencies` times: at each place, inside words only.

    >>> count_pairs([[1, 1, 1], [1, 2]], [5, 3])
    {(1, 1): 10, (1, 2): 3}
    """
    counts: dict[Pair, int] = {}
    for word, frequency in zip(words, frequencies, strict=True):
        for pair in pairwise(word):
            counts[pair] = counts.get(pair, 0) + frequency
    return counts


def merge_pair(ids: Sequence[int], pair: Pair, token: int) -> list[int]:
    """Replace each occurrence of the pair by the token, from left to right, without overlap.

    >>> merge_pair([1, 1, 1, 2], (1, 1), 9)
    [9, 1, 2]
    """
    left, right = pair
    merged: list[int] = []
    i = 0
    while i < len(ids):
        if ids[i] == left and i + 1 < len(ids) and ids[i + 1] == right:
            merged.append(token)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


def learn_merges(words: Iterable[Sequence[int]], frequencies: Sequence[int], n_merges: int) -> list[Pair]:
    """The first n_merges merges of these words of byte ids 0..255; merge i makes token 256 + i. Fewer if no pair is left.

    The most frequent pair wins; among equals the one whose (left bytes, right bytes) come last in the alphabet.

    >>> learn_merges([b"aab", b"cab"], [1, 2], 2)  # "ab" 3 times, then "c" + "ab" twice
    [(97, 98), (99, 256)]
    """
    current = [list(word) for word in words]
    spelling = [bytes([byte]) for byte in range(256)]  # what each token stands for
    merges: list[Pair] = []
    while len(merges) < n_merges and (counts := count_pairs(current, frequencies)):
        best = max(counts, key=lambda pair: (counts[pair], spelling[pair[0]], spelling[pair[1]]))
        current = [merge_pair(word, best, len(spelling)) for word in current]
        spelling.append(spelling[best[0]] + spelling[best[1]])
        merges.append(best)
    return merges


@dataclass(frozen=True, slots=True)
class Merge:
    """One step of the training: these two tokens, with these bytes, were neighbours `count` times and became `token`."""

    left: int
    right: int
    token: int
    count: int
    parts: tuple[bytes, bytes]


def train_bpe(
    documents: Iterable[str],
    n_merges: int,
    pattern: str,
    min_frequency: int = 1,
    processes: int = 1,
    on_merge: Callable[[Merge], object] | None = None,
) -> list[Pair]:
    """The first n_merges merges (left id, right id) of the pieces that `pattern` cuts: those of `learn_merges`, by test.

    Fewer if no pair occurs min_frequency times; 1, the default, gives as many as were asked for from the shortest text, and
    2 leaves out what a word seen once would teach. The documents are read once, one after the other: their distinct pieces must
    fit in memory, their text need not. Neither their order nor the number of processes changes the result. `on_merge` is
    called with each step.

    >>> train_bpe(["aaab aaab"], 2, r"[^ ]+| +")
    [(97, 97), (256, 97)]
    """
    merges: list[Pair] = []
    for step in islice(trace_merges(count_pieces(documents, pattern, processes), min_frequency), n_merges):
        merges.append((step.left, step.right))
        if on_merge is not None:
            on_merge(step)
    return merges


def trace_merges(pieces: Mapping[str, int], min_frequency: int = 1) -> Iterator[Merge]:
    """Every merge that {piece: how often it occurs} teaches, best first, until no pair occurs min_frequency times.

    All pieces stand in one row with an EDGE around each. A merge visits the places of its pair and corrects the counts beside
    them. The best pair comes from a heap. Only a pair with the new token can gain, so the others' entries may be too high:
    such an entry is put back with its true count when it surfaces. Two pairs never spell the same token: a string that no
    merge has reached across is cut in the same way wherever it stands. No token gets more than LONGEST bytes.
    """
    row = Row(pieces)
    spelling = [bytes([byte]) for byte in range(256)]
    order = [alphabet_end_first(piece) for piece in spelling]
    heap = [(-count, order[left], order[right], (left, right)) for (left, right), count in row.counts.items()]
    heapq.heapify(heap)
    while heap:
        negative, first, second, pair = heapq.heappop(heap)
        count = row.counts[pair]
        if count < max(1, min_frequency):
            continue
        if count < -negative:
            heapq.heappush(heap, (-count, first, second, pair))
            continue
        left, right = pair
        if len(spelling[left]) + len(spelling[right]) > LONGEST:
            continue
        token = len(spelling)
        yield Merge(left, right, token, count, (spelling[left], spelling[right]))
        spelling.append(spelling[left] + spelling[right])
        order.append(alphabet_end_first(spelling[token]))
        for fresh in row.merge(pair, token):
            heapq.heappush(heap, (-row.counts[fresh], order[fresh[0]], order[fresh[1]], fresh))


def alphabet_end_first(piece: bytes) -> str:
    """A key that sorts byte strings from the end of the alphabet to its beginning, a longer one before its own beginning.

    >>> sorted([b"a", b"ab", b"b"], key=alphabet_end_first)
    [b'b', b'ab', b'a']
    """
    return "".join(chr(255 - byte) for byte in piece) + chr(256)


class Row:
    """All pieces as one row of tokens, linked both ways; where each pair of neighbours stands, and how often it occurs."""

    def __init__(self, pieces: Mapping[str, int]) -> None:
        self.ids = [EDGE]
        self.weights = [0]  # how often the word of this place occurs
        for piece, frequency in pieces.items():
            word = utf8(piece)
            self.ids += [*word, EDGE]
            self.weights += [frequency] * (len(word) + 1)
        self.before = list(range(-1, len(self.ids) - 1))
        self.after = list(range(1, len(self.ids) + 1))
        self.counts: defaultdict[Pair, int] = defaultdict(int)
        self.places: defaultdict[Pair, list[int]] = defaultdict(list)  # of the left token; it may have changed since
        for place, pair in enumerate(pairwise(self.ids)):
            if pair[0] != EDGE and pair[1] != EDGE:
                self.counts[pair] += self.weights[place]
                self.places[pair].append(place)

    def merge(self, pair: Pair, token: int) -> set[Pair]:
        """Write the token over each occurrence of the pair, from left to right; -> the pairs that this has made."""
        ids, before, after, counts, places = self.ids, self.before, self.after, self.counts, self.places
        left, right = pair
        fresh: set[Pair] = set()
        for place in places.pop(pair):  # ascending, for they were found from left to right
            other = after[place]
            if ids[place] != left or ids[other] != right:
                continue  # merged with another neighbour since, or just now: the second pair of aaa
            weight, previous, following = self.weights[place], before[place], after[other]
            ids[place], ids[other] = token, GONE
            after[place] = following
            before[following] = place
            if ids[previous] != EDGE:
                counts[ids[previous], left] -= weight
                made = (ids[previous], token)
                counts[made] += weight
                places[made].append(previous)
                fresh.add(made)
            if ids[following] != EDGE:
                counts[right, ids[following]] -= weight
                made = (token, ids[following])
                counts[made] += weight
                places[made].append(place)
                fresh.add(made)
        del counts[pair]
        return fresh

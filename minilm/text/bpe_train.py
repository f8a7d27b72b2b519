"""Learning the merges of byte-pair encoding: join the most frequent pair of neighbours, again and again.

Counting every pair anew for every merge would be quadratic. Three ideas make it fast: a word is handled once, however often it
occurs; a merge touches only the words that hold its pair; and the best pair is read from a heap whose stale entries are
dropped when they surface. Sennrich et al. 2016, "Neural machine translation of rare words with subword units".
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

import regex

from minilm.text.tokenizer import utf8

Pair = tuple[int, int]
LONGEST = 100  # characters; few words are longer, but a file without blanks is one piece of millions


def train_bpe(documents: Iterable[str], n_merges: int, pattern: str) -> list[Pair]:
    """The first n_merges merges (left id, right id); merge i makes token 256 + i. Fewer if no pair is left.

    Ids 0..255 are the bytes. Pairs live inside the pieces that `pattern` cuts, and pieces longer than LONGEST are cut again.
    The most frequent pair wins; among equals the one with the smaller ids, so that the result depends on nothing else. A
    pair whose joined bytes are a token already (aa + a after a + aa) is passed over.

    >>> train_bpe(["aaab aaab"], 2, r"[^ ]+| +")
    [(97, 97), (97, 98)]
    """
    split = regex.compile(pattern)
    pieces = Counter(piece for document in documents for piece in split.findall(document))
    cut: Counter[str] = Counter()
    for piece, count in pieces.items():
        for start in range(0, len(piece), LONGEST):
            cut[piece[start : start + LONGEST]] += count
    words = [list(utf8(piece)) for piece in cut]
    frequency = list(cut.values())
    counts: Counter[Pair] = Counter()
    holders: defaultdict[Pair, set[int]] = defaultdict(set)  # the words in which a pair stands, or has stood
    for index, word in enumerate(words):
        for pair in pairwise(word):
            counts[pair] += frequency[index]
            holders[pair].add(index)
    heap = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(heap)
    spelling = [bytes([byte]) for byte in range(256)]
    known = set(spelling)
    merges: list[Pair] = []
    while heap and len(merges) < n_merges:
        negative, pair = heapq.heappop(heap)
        if counts[pair] != -negative:
            continue  # the count has changed since, and the true one is in the heap as well
        joined = spelling[pair[0]] + spelling[pair[1]]
        if joined in known:
            continue  # another pair already makes this token
        known.add(joined)
        spelling.append(joined)
        token = 256 + len(merges)
        merges.append(pair)
        changed: Counter[Pair] = Counter()
        for index in holders.pop(pair):
            old = words[index]
            new = words[index] = merge_pair(old, pair, token)
            if len(new) == len(old):
                continue
            for neighbours in pairwise(old):
                changed[neighbours] -= frequency[index]
            for neighbours in pairwise(new):
                changed[neighbours] += frequency[index]
                holders[neighbours].add(index)
        for neighbours, change in changed.items():
            if change:
                counts[neighbours] += change
                if counts[neighbours] > 0:
                    heapq.heappush(heap, (-counts[neighbours], neighbours))
    return merges


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

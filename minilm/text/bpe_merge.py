"""One piece of text -> ids, given `made`: {pair of ids: the token it makes}. Both functions give the ids of `encode_piece`.

Applying every merge of the vocabulary to every piece, as `encode_piece` does, takes thousands of passes. A merge can only
happen where its pair stands, so it is enough to look at the pairs that are there and take the earliest merge among them,
at its leftmost place: what it makes never opens the way for an earlier one.
"""

import heapq
from collections.abc import Mapping
from itertools import pairwise

Pair = tuple[int, int]
NO_TOKEN, GONE = 2**62, -1


def merge_short(piece: bytes, made: Mapping[Pair, int]) -> list[int]:
    """The ids of a piece of a few bytes: the time grows with the square of the length.

    >>> merge_short(b"abac", {(97, 98): 256, (256, 97): 257})
    [257, 99]
    """
    ids = list(piece)
    offers = [made.get(pair, NO_TOKEN) for pair in pairwise(ids)]  # what each id and its right neighbour make
    while offers:
        token = min(offers)
        if token == NO_TOKEN:
            break
        i = offers.index(token)
        ids[i : i + 2] = (token,)
        del offers[i]
        if i > 0:
            offers[i - 1] = made.get((ids[i - 1], token), NO_TOKEN)
        if i < len(offers):
            offers[i] = made.get((token, ids[i + 1]), NO_TOKEN)
    return ids


def merge_long(piece: bytes, made: Mapping[Pair, int]) -> list[int]:
    """The ids of a piece of any length: a chain of neighbours and a heap of possible merges keep the time at n log n.

    >>> merge_long(b"abac", {(97, 98): 256, (256, 97): 257})
    [257, 99]
    """
    ids = [*piece, GONE]  # a pair with GONE makes nothing, so the end of the piece needs no case of its own
    after = list(range(1, len(ids) + 1))
    before = list(range(-1, len(ids) - 1))
    # What can be merged: the token that it makes, and the place of its left part.
    heap = [(made[pair], left) for left, pair in enumerate(pairwise(ids)) if pair in made]
    heapq.heapify(heap)
    while heap:
        token, left = heapq.heappop(heap)
        right = after[left]
        if made.get((ids[left], ids[right])) != token:
            continue  # one of the two has been merged with another since
        ids[left], ids[right] = token, GONE
        after[left] = after[right]
        before[after[left]] = left
        for place in (before[left], left):
            if place >= 0 and (pair := (ids[place], ids[after[place]])) in made:
                heapq.heappush(heap, (made[pair], place))
    return [token for token in ids if token != GONE]

"""What the tests of byte-pair encoding share: texts that break tokenizers, and the slowest possible trainer and encoder."""

import random
from collections import Counter
from itertools import pairwise

import regex

from minilm.text.tokenizer import END_OF_TEXT

# GPT-2's own spelling of its pattern
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

WORDS = ["a", "b", "ab", "the", "Over", "1", "23", "½", "'s", "'ll", "'l", "'", "_", "!?", "é", "e\u0301", "中", "ß"]
BLANKS = [" ", "  ", "\n", "\r\n", "\t", "\x0b", "\x85", "\xa0", "\u2028"]
ODD = ["\x00", "\x1c", "\x1f", "😀", "👩‍🚀", "\ue000", "\ufeff", END_OF_TEXT, "<|user|>", "<|"]


def fuzz(rng: random.Random, most: int = 30) -> str:
    """A text of up to `most` parts, half of them words, with blanks, line ends, astral and odd characters between."""
    return "".join(rng.choice(rng.choice((WORDS, WORDS, BLANKS, ODD))) for _ in range(rng.randrange(most)))


def naive_words(documents: list[str], pattern: str = GPT2) -> list[list[bytes]]:
    """Each piece of the text as a list of single bytes."""
    return [[bytes([byte]) for byte in piece.encode()] for text in documents for piece in regex.findall(pattern, text)]


def naive_merge(word: list[bytes], pair: tuple[bytes, bytes]) -> list[bytes]:
    if len(word) < 2:
        return word
    if (word[0], word[1]) == pair:
        return [word[0] + word[1], *naive_merge(word[2:], pair)]
    return [word[0], *naive_merge(word[1:], pair)]


def naive_train(words: list[list[bytes]], n_merges: int, least: int = 1) -> list[tuple[bytes, bytes, int]]:
    """(left, right, count) of each merge, on byte strings: count every pair of every word anew, every time."""
    merges: list[tuple[bytes, bytes, int]] = []
    while len(merges) < n_merges:
        counts = Counter(pair for word in words for pair in pairwise(word))
        if not counts or max(counts.values()) < least:
            break
        most = max(counts.values())
        pair = sorted(pair for pair in counts if counts[pair] == most)[-1]
        merges.append((*pair, most))
        words = [naive_merge(word, pair) for word in words]
    return merges


def naive_encode(token_bytes: list[bytes], text: str, pattern: str = GPT2) -> list[int]:
    """Merge the two neighbours that make the lowest token, the leftmost first, and look at everything again."""
    ranks = {piece: i for i, piece in reversed(list(enumerate(token_bytes)))}
    ids: list[int] = []
    for parts in naive_words([text], pattern):
        while True:
            made = [(ranks[a + b], i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in ranks]
            if not made:
                break
            i = min(made)[1]
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        ids += [ranks[part] for part in parts]
    return ids

"""Tags belong to words, a model reads tokens: which token speaks for which word.

A word is encoded with the blank before it, as it stands in running text. A backbone that reads from left to right has seen
all of a word only at its last token, so that is the token which carries the tag; the others are not counted.
"""

from collections.abc import Sequence

from minilm.text.joining import join_words
from minilm.text.tokenizer import Tokenizer
from minilm.training.loss import IGNORE


def encode_words(words: Sequence[str], tokenizer: Tokenizer, context_length: int) -> tuple[list[int], list[int]]:
    """Words -> ids, with <|endoftext|> before them, and the place of each word's last token, as far as they fit.

    The second list is shorter than `words` where the context is too short for all of them: those words are not read.
    ValueError for an empty word, which would have no token.
    """
    ids = [tokenizer.end_of_text]
    places: list[int] = []
    for word, piece in zip(words, join_words(words), strict=True):
        tokens = tokenizer.encode(piece) if word else []
        if not tokens:
            raise ValueError(f"word {len(places) + 1} of {' '.join(words)[:60]!r} is empty: leave it out")
        if len(ids) + len(tokens) > context_length:
            break
        ids += tokens
        places.append(len(ids) - 1)
    return ids, places


def tag_targets(n_tokens: int, places: Sequence[int], tags: Sequence[int]) -> list[int]:
    """The label of each token: the word's at its last token, IGNORE elsewhere; tags beyond the places are left out.

    >>> tag_targets(5, [1, 4], [7, 8, 9])
    [-100, 7, -100, -100, 8]
    """
    targets = [IGNORE] * n_tokens
    for place, tag in zip(places, tags, strict=False):
        targets[place] = tag
    return targets

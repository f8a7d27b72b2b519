"""Tags belong to words, a model reads tokens: which token speaks for which word.

A word is encoded with the blank before it, as it stands in running text. A backbone that reads from left to right has seen
all of a word only at its last token, so that is the token which carries the tag; the others are not counted.
"""

from collections.abc import Sequence

from minilm.text.tokenizer import Tokenizer
from minilm.training.loss import IGNORE

CLOSING = set(".,;:!?)]}%…’'”")  # no blank before a word that begins with one of these


def join_words(words: Sequence[str]) -> list[str]:
    """The words as pieces of a text: with a blank before each, but for the first and before closing marks.

    Words of which some bring a blank along ("Ada", " saw", " it", ".") are such pieces already.

    >>> "".join(join_words(["Ada", "saw", "it", "."]))
    'Ada saw it.'
    """
    if any(word[:1].isspace() for word in words):
        return list(words)
    return [word if i == 0 or word[:1] in CLOSING else f" {word}" for i, word in enumerate(words)]


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

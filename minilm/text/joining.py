"""Words become a text again: where the blanks go that a list of words has lost."""

from collections.abc import Sequence

CLOSING = set(".,;:!?)]}%…’'”")  # no blank before a word that begins with one of these


def join_words(words: Sequence[str]) -> list[str]:
    """The words as pieces of a text: with a blank before each, but for the first and before closing marks.

    Words of which some bring a blank along ("Ada", " saw", " it", ".") are such pieces already.

    >>> "".join(join_words(["Ada", "saw", "it", "."]))
    'Ada saw it.'
    """
    if any(word != word.strip() for word in words):
        return list(words)
    return [word if i == 0 or word[:1] in CLOSING else f" {word}" for i, word in enumerate(words)]

"""Sentences of the story world and the part of speech of each word: noun, verb, adjective ... (story_lexicon.py says which).

The world has few words, so a list says what each of them is. Some are several things: "her" in "saw her" and in "her
hat", "to" in "to run" and "to town", "saw" in "the saw" and "he saw"; there the words beside decide. That is what a tagger
must learn from examples.
"""

import re
from collections.abc import Iterator

from minilm.tasks.splits import draws
from minilm.tasks.story_lexicon import SEVERAL, WORDS
from minilm.tasks.tagging import Tagged, split_words
from minilm.text.story_spans import tell
from minilm.text.story_words import FRIENDS, HEROES

LEXICON = {word: part for part, words in WORDS.items() for word in words.split()}
NAMES = {character.name for character in (*HEROES, *FRIENDS)} | {"Monday", "Sunday", "May"}
ONE_THING = {"NOUN", "ADJ", "NUM", "NAME"}  # what may stand behind "her" and "one", where they are no pronouns
_MARK = re.compile(r"[^\w\s]+")
_END = re.compile(r"[.!?]")


def parts_of_speech(n: int, seed: int, split: str = "train") -> list[Tagged]:
    """The sentences of `n` stories with their parts of speech: those of story i depend on seed, split and i alone.

    >>> sentence = parts_of_speech(1, seed=0)[0]
    >>> len(sentence.words) == len(sentence.tags)
    True
    """
    found: list[Tagged] = []
    for story, _ in draws("parts of speech", n, seed, split):
        for words in sentences(split_words(tell(story).text)):
            found.append(Tagged(tuple(words), tuple(parts_of(words))))
    return found


def sentences(words: list[str]) -> Iterator[list[str]]:
    """Words, each with the blanks before it, cut behind full stops, question and exclamation marks, with the quotes there.

    >>> [len(sentence) for sentence in sentences(['"', "No", "!", '"', " said", " Ada", ".", " So", "?"])]
    [4, 3, 2]
    """
    sentence: list[str] = []
    for i, word in enumerate(words):
        sentence.append(word)
        ended = any(_END.fullmatch(one.strip()) for one in sentence[-2:])
        if ended and not (i + 1 < len(words) and words[i + 1] == '"'):
            yield sentence
            sentence = []
    if sentence:
        yield sentence


def parts_of(words: list[str]) -> list[str]:
    """The part of speech of each word of a sentence. ValueError for a word that the story world does not have."""
    bare = [word.strip() for word in words]
    small = [word.lower() for word in bare]
    return [part_of(bare, small, i) for i in range(len(bare))]


def part_of(bare: list[str], small: list[str], i: int) -> str:
    """The part of word i, of which `small` is in small letters."""
    word, before, behind = small[i], small[i - 1] if i else "^", small[i + 1] if i + 1 < len(small) else "."
    if _MARK.fullmatch(word):
        return "MARK"
    if bare[i] in NAMES and not (bare[i] == "May" and i == 0):
        return "NAME"
    if word in BESIDE:
        return BESIDE[word](bare, small, i)
    if word in SEVERAL:
        rules, otherwise = SEVERAL[word]
        return next((part for a, b, part in rules if fits(a, before) and fits(b, behind)), otherwise)
    if word not in LEXICON:
        raise ValueError(f"{bare[i]!r} is no word of the story world: only its sentences can be tagged so")
    return LEXICON[word]


def fits(wanted: str | None, word: str) -> bool:
    """Whether a word is among those of a rule; "." stands for every mark."""
    return wanted is None or ("." if _MARK.fullmatch(word) and word != "^" else word) in wanted.split()


def next_part(bare: list[str], small: list[str], i: int) -> str:
    return part_of(bare, small, i + 1) if i + 1 < len(small) else "MARK"


def part_of_her(bare: list[str], small: list[str], i: int) -> str:
    """her hat: like his; saw her: like him."""
    return "DET" if next_part(bare, small, i) in ONE_THING else "PRON"


def part_of_one(bare: list[str], small: list[str], i: int) -> str:
    """one arm: a number; one never forgets: a pronoun."""
    return "NUM" if next_part(bare, small, i) in ONE_THING and small[i - 1] != "little" else "PRON"


def part_of_to(bare: list[str], small: list[str], i: int) -> str:
    """to run: a particle; to town: a preposition."""
    return "PART" if next_part(bare, small, i) == "VERB" else "PREP"


def part_of_that(bare: list[str], small: list[str], i: int) -> str:
    """that day; that was all; so loudly that all heard it, the bag that he carried."""
    if i + 1 < len(small) and small[i + 1] in ("day", "evening", "night", "way"):
        return "DET"
    first = i == 0 or bool(_MARK.fullmatch(small[i - 1])) or small[i - 1] in ("after", "but")
    return "PRON" if first else "CONJ"


BESIDE = {"her": part_of_her, "one": part_of_one, "to": part_of_to, "that": part_of_that}

"""Tagging data of the story world: which words of a story name the hero, the helper, a thing, a place.

Tags are BIO (Ramshaw and Marcus 1995): B-HELPER on the first word of a name, I-HELPER on its others, O outside of all names.
A word takes the blank before it along, as the tokens of a language model do, so the words joined are the text, and a
tokenizer can encode them one by one. `metrics.entities` reads the names back from the tags.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from minilm.tasks.splits import draws
from minilm.text.story_spans import Told, tell

# Which slots are names, and of what. A name inside another one, as the bell in "the bell", is not tagged a second time.
SLOTS = {
    "hero": "HERO",
    "friend": "FRIEND",
    "helper": "HELPER",
    "loved": "LOVED",  # the one for whom the hero does it
    "wish.thing": "THING",
    "treasure": "THING",
    "treasure.a": "THING",
    "home": "PLACE",
    "time": "TIME",
    "occasion": "TIME",
}
KINDS = tuple(dict.fromkeys(SLOTS.values()))
TAGS = ("O", *(f"{place}-{kind}" for kind in KINDS for place in "BI"))
_WORD = re.compile(r"\s*(\w+(?:['-]\w+)*|[^\w\s])")


class Tagged(NamedTuple):
    """The words of a text, each with the blanks before it, and a tag for each.

    >>> Tagged(("Ada", " met", " the", " owl", "."), ("B-HERO", "O", "B-HELPER", "I-HELPER", "O")).text
    'Ada met the owl.'
    """

    words: tuple[str, ...]
    tags: tuple[str, ...]

    @property
    def text(self) -> str:
        return "".join(self.words)


def tagged(n: int, seed: int, split: str = "train") -> list[Tagged]:
    """`n` tagged stories: story i depends on seed, split and i alone. All names of the test are known from training."""
    return [tag(tell(story)) for story, _ in draws("tagging", n, seed, split)]


def tag(told: Told) -> Tagged:
    """The words of a text and their tags, from its spans."""
    found = list(_WORD.finditer(told.text))
    tags = ["O"] * len(found)
    for start, end, kind in _names(told):
        inside = [i for i, word in enumerate(found) if start <= word.start(1) < end]
        for i in inside:
            tags[i] = f"{'B' if i == inside[0] else 'I'}-{kind}"
    return Tagged(tuple(word[0] for word in found), tuple(tags))


def split_words(text: str) -> list[str]:
    """The words of a text, each with the blanks before it; marks are words of their own.

    >>> split_words("He has the glow-worm's hat, too.")
    ['He', ' has', ' the', " glow-worm's", ' hat', ',', ' too', '.']
    """
    return [word[0] for word in _WORD.finditer(text)]


def _names(told: Told) -> Iterator[tuple[int, int, str]]:
    """The names of a text as (start, end, kind), from left to right. An article before a name belongs to it."""
    last = 0
    for span in told.find(*SLOTS):
        if span.start >= last:
            article = told.text[last : span.start].lower().endswith("the ")
            yield span.start - 4 * article, span.end, SLOTS[span.slot]
            last = span.end

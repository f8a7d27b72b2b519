"""The story world's words: people and animals, places, things, wishes, and what can go wrong and be put right.

Each record is one option of one choice. Its fields are phrases that fit into the sentences of `story_plots.py`; a phrase
may hold slots of its own. Every phrase must do for people and animals alike unless it belongs to one `Folk`: no hands, no
paws. Adding an option adds stories; so that a text still tells which options made it, no two options of a choice may
read the same in every sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minilm.text.stories import Story


@dataclass(frozen=True)
class Choice:
    """What a fact is chosen from: `options(story)`, which may look at the facts `given`, the names of its parents."""

    options: Callable[[Story], Sequence[Named]]
    given: tuple[str, ...] = ()


@dataclass(frozen=True)
class Named:
    """Anything that has a name. `a` puts the right article before it: "a fox", "an otter"."""

    name: str

    @property
    def a(self) -> str:
        return ("an " if self.name[0] in "aeiou" else "a ") + self.name


@dataclass(frozen=True)
class Character(Named):
    pronoun: str = "he"  # or "she"

    @property
    def he(self) -> str:
        return self.pronoun

    @property
    def him(self) -> str:
        return {"he": "him", "she": "her"}[self.pronoun]

    @property
    def his(self) -> str:
        return {"he": "his", "she": "her"}[self.pronoun]


@dataclass(frozen=True)
class Helper(Character):
    """`about` says why one may ask; `remedy` what the helper does; `need` and `aid` what the helper may need first."""

    about: str = ""
    remedy: str = ""
    need: str = ""
    aid: str = ""


@dataclass(frozen=True)
class Trait(Named):
    habit: str = ""


@dataclass(frozen=True)
class Reason(Named):
    """Why somebody is to get something, and what that somebody does on getting it."""

    joy: str = ""


@dataclass(frozen=True)
class Trouble(Named):
    """A kind of difficulty: what one tries first, how one manages alone, and how it looks when nothing helps."""

    attempts: tuple[Named, ...] = field(default=(), repr=False)
    ways: tuple[Named, ...] = field(default=(), repr=False)
    failure: str = field(default="", repr=False)


@dataclass(frozen=True)
class Obstacle(Named):
    """`name` is the sentence that says what is wrong; `what` and `it` the thing in question; `found` where or how it ends."""

    trouble: Trouble
    what: str = ""
    it: str = "it"
    found: str = ""


@dataclass(frozen=True)
class Wish(Named):
    """`name` is what is to be done; `thing` what it is about; then what is told if it comes true, and if it does not."""

    thing: str = ""
    success: str = ""
    failure: str = ""
    obstacles: tuple[Obstacle, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Folk(Named):
    """Whom a story is about, where they live and who may help them: `helpers[trouble.name]`."""

    kinds: Mapping[str, tuple[Named, ...]] = field(default_factory=dict, repr=False)  # by the hero's pronoun
    homes: tuple[Named, ...] = field(default=(), repr=False)
    helpers: Mapping[str, tuple[Helper, ...]] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Ending(Named):
    """One way for a plot to go on: its `text`, and the mood in which it leaves the hero."""

    mood: str
    weight: float
    text: str = field(repr=False)


@dataclass(frozen=True)
class Plot(Named):
    text: str = field(repr=False)
    wishes: tuple[Wish, ...] = field(repr=False)
    endings: tuple[Ending, ...] = field(repr=False)
    weight: float = 1.0


def _named(phrases: str) -> tuple[Named, ...]:
    """Phrases divided by bars, spaces and line ends aside."""
    return tuple(Named(" ".join(phrase.split())) for phrase in phrases.split("|"))

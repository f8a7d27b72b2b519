"""The story world's plots: how stories go, in sentences with slots, and how the facts depend on each other.

A plot is a template of lines; its ending is one more fact, and the ending's text is the rest of the plot. `LINES` holds the
ways to say each line. `FACTS` is the Bayesian network: every fact with its parents, which are chosen before it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from minilm.text.story_wishes import ANIMALS, DUTIES, ERRANDS, GIFTS, OUTINGS, PEOPLE, SEARCHES, TOYS
from minilm.text.story_words import (
    FEELINGS,
    FRIENDS,
    HEROES,
    LOVED,
    OCCASIONS,
    REASONS,
    TIMES,
    TRAITS,
    TREASURES,
    Named,
    Wish,
)


@dataclass(frozen=True)
class Ending(Named):
    """One way for a plot to end: the `mood` in which it leaves the hero, and its `text`."""

    mood: str
    weight: float
    text: str = field(repr=False)


@dataclass(frozen=True)
class Plot(Named):
    """What kind of story: its text up to the ending, the wishes that fit, the endings that may come."""

    text: str = field(repr=False)
    wishes: tuple[Wish, ...] = field(repr=False)
    endings: tuple[Ending, ...] = field(repr=False)
    weight: float = 1.0


@dataclass(frozen=True)
class Choice:
    """What a fact is chosen from: `among(parents...)`, a function of the facts whose names are `given`."""

    among: Callable[..., Sequence[Named]]
    given: tuple[str, ...] = ()

    def options(self, facts: Mapping[str, Any]) -> Sequence[Named]:
        return self.among(*(facts[parent] for parent in self.given))


PLOTS = (
    Plot(
        "gift",
        "{opening}\n{gift_wish} {gift_trouble} {attempt} {ending.text}",
        GIFTS,
        (
            Ending("helped", "happy", 4, "{ask}\n{agree} {gift_done} {gift_joy} {glad} {friends}"),
            Ending("alone", "happy", 3, "{ask} {refuse}\n{manage} {gift_done} {gift_joy} {glad} {proverb}"),
            Ending("failed", "sad", 3, "{ask} {refuse}\n{obstacle.trouble.failure} {gift_sad} {gloomy} {hope}"),
        ),
        weight=2,
    ),
    Plot(
        "loss",
        "{opening} {treasured}\n{lost} {attempt}{ending.text}",
        SEARCHES,
        (
            Ending("helped", "happy", 4, " {ask}\n{agree} {found} {glad} {friends}"),
            Ending("alone", "happy", 3, " {ask} {refuse}\n{manage} {found} {glad} {proverb}"),
            Ending("given away", "happy", 2, "\n{little_one} {glad}"),
            Ending("failed", "sad", 3, " {ask} {refuse}\n{obstacle.trouble.failure} {lost_sad} {gloomy} {hope}"),
        ),
        weight=2,
    ),
    Plot(
        "fear",
        "{opening}\n{errand} {fear} {attempt} {ending.text}",
        ERRANDS,
        (
            Ending("helped", "happy", 4, "{ask}\n{agree} {brave} {delivered} {glad} {friends}"),
            Ending("alone", "happy", 3, "{ask} {refuse}\n{manage} {brave} {delivered} {glad} {courage}"),
            Ending("failed", "sad", 3, "{ask} {refuse}\n{obstacle.trouble.failure} {not_delivered} {gloomy} {hope}"),
        ),
        weight=2,
    ),
    Plot(
        "quarrel",
        "{opening}\n{both_want} {attempt} {quarrel}\n{ending.text}",
        TOYS,
        (
            Ending("hero gives in", "happy", 3, "{hero_sorry} {obstacle.found} {glad} {peace}"),
            Ending("friend gives in", "happy", 3, "{friend_sorry} {obstacle.found} {glad} {peace}"),
            Ending("no one gives in", "sad", 3, "{no_one_sorry} {wish.failure}. {gloomy} {no_peace}"),
        ),
    ),
    Plot(
        "good turn",
        "{opening}\n{outing} {meeting} {ending.text}",
        OUTINGS,
        (
            Ending("repaid", "happy", 5, "{kindness}\n{mishap} {attempt} {repaid} {in_time} {glad} {good_turn}"),
            Ending("too late", "happy", 2, "{kindness}\n{mishap} {attempt} {alone_on} {consoled} {glad} {good_turn}"),
            Ending("passed by", "sad", 3, "{pass_by}\n{mishap} {attempt} {alone_on} {missed} {gloomy} {too_hasty}"),
        ),
    ),
    Plot(
        "promise",
        "{opening}\n{promise} {temptation} {attempt} {ending.text}",
        DUTIES,
        (
            Ending("kept", "happy", 4, "{keep}\n{praise} {glad} {after_duty}"),
            Ending("owned up", "happy", 3, "{forget}\n{confess} {glad} {truth}"),
            Ending("hidden", "sad", 3, "{forget}\n{hide} {gloomy} {untruth}"),
        ),
    ),
)

FACTS: Mapping[str, Choice] = {
    "plot": Choice(lambda: PLOTS),
    "ending": Choice(lambda plot: plot.endings, ("plot",)),
    "folk": Choice(lambda: (PEOPLE, ANIMALS)),
    "hero": Choice(lambda: HEROES),
    "kind": Choice(lambda folk, hero: folk.kinds[hero.pronoun], ("folk", "hero")),
    "trait": Choice(lambda: TRAITS),
    "home": Choice(lambda folk: folk.homes, ("folk",)),
    "time": Choice(lambda: TIMES),
    "wish": Choice(lambda plot: plot.wishes, ("plot",)),
    "loved": Choice(lambda: LOVED),
    "reason": Choice(lambda: REASONS),
    "friend": Choice(lambda: FRIENDS),
    "treasure": Choice(lambda: TREASURES),
    "occasion": Choice(lambda: OCCASIONS),
    "obstacle": Choice(lambda wish: wish.obstacles, ("wish",)),
    "attempt": Choice(lambda obstacle: obstacle.trouble.attempts, ("obstacle",)),
    "helper": Choice(lambda folk, obstacle: folk.helpers[obstacle.trouble.name], ("folk", "obstacle")),
    "way": Choice(lambda obstacle: obstacle.trouble.ways, ("obstacle",)),
    "feeling": Choice(lambda ending: FEELINGS[ending.mood], ("ending",)),
}

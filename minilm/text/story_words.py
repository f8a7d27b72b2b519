"""The story world's records and its words: heroes, friends, traits, times, reasons, treasures, troubles.

Each record is one option of one choice. Its fields are phrases that fit into the sentences of `story_plots.py`; a phrase
may hold slots of its own. A phrase must do for people and animals alike unless it belongs to one `Folk`: no hands, no
paws. So that a text tells which options made it, no two options of a choice may read the same, in any sentence.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field


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
    """`about` says what is special about the helper, `remedy` what the helper does, `aid` what is done for the helper."""

    about: str = ""
    remedy: str = ""
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
    """`name` says what is in the way; `what` is the thing in question, `it` its pronoun; `found` is told when all is well."""

    trouble: Trouble
    what: str = ""
    found: str = ""
    it: str = "it"


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


def rows(table: str) -> list[list[str]]:
    """The lines of a table, each cut at its bars; a line that ends in a bar goes on in the next.

    >>> rows("fox | runs \\n owl | flies | \\n by night")
    [['fox', 'runs'], ['owl', 'flies', 'by night']]
    """
    lines = re.sub(r"\|\s*\n", "|", table.strip()).splitlines()
    return [[cell.strip() for cell in line.split("|")] for line in lines]


def named(phrases: str) -> tuple[Named, ...]:
    """Phrases divided by bars: "a pin | a pan" -> (Named("a pin"), Named("a pan"))."""
    return tuple(Named(phrase) for row in rows(phrases) for phrase in row)


def cast(she: str, he: str) -> tuple[Character, ...]:
    """Characters from names divided by bars."""
    return tuple(Character(x.name, pronoun) for names, pronoun in ((she, "she"), (he, "he")) for x in named(names))


# Who

HEROES = cast(
    """
    Ada | Anna | Bella | Clara | Daisy | Edith | Ella | Flora | Greta | Hanna | Ida | Iris | Julia | Kara | Lena | Lily |
    Maja | Marta | Mina | Nora | Olive | Paula | Rosa | Runa | Selma | Tilda | Vera | Willa
    """,
    """
    Adam | Anton | Basil | Bruno | Carl | David | Emil | Finn | Hugo | Ivan | Jakob | Jonah | Karim | Leo | Luka | Milo |
    Nico | Oskar | Otto | Pavel | Peter | Rafi | Robin | Samir | Theo | Timo | Viktor | Walter
    """,
)
FRIENDS = cast(
    "Alma | Dora | Elsa | Fanny | Gwen | Hilda | Jenny | Kitty | Molly | Nelly | Polly | Tessa",
    "Alfred | Benny | Casper | Danny | Eddie | Freddy | Harry | Jasper | Kasim | Ludo | Max | Toby",
)
LOVED = cast(
    "{hero.his} mother | {hero.his} grandmother | {hero.his} aunt | {hero.his} older sister | {hero.his} godmother",
    "{hero.his} father | {hero.his} grandfather | {hero.his} uncle | {hero.his} older brother | {hero.his} godfather",
)
TRAITS = tuple(
    Trait(*row)
    for row in rows("""
        curious     | {Hero.he} asked questions from morning to night.
        quiet       | {Hero.he} would rather listen than talk.
        cheerful    | {Hero.he} whistled even when it rained.
        careful     | {Hero.he} looked twice before every step.
        stubborn    | When {hero.he} had begun a thing, {hero.he} wanted to finish it.
        dreamy      | {Hero.he} could watch the clouds for hours.
        gentle      | Even the sparrows were not afraid of {hero.him}.
        clever      | There was no riddle that {hero.he} could not solve.
        shy         | {Hero.he} spoke so softly that one had to bend down to hear {hero.him}.
        lively      | Where others walked, {hero.he} ran.
        merry       | {Hero.he} knew a hundred songs and sang them all.
        thoughtful  | {Hero.he} never forgot a kind word.
        adventurous | {Hero.he} dreamed of islands that nobody had ever seen.
        tidy        | Every button and every pebble that {hero.he} owned had its own box.
    """)
)
TIMES = named("""
    one bright morning | one windy afternoon | on the first warm day of spring | early one summer morning |
    one misty morning | on a golden autumn day | on a quiet Monday | one Sunday in May | one day after the rain |
    on the longest day of the year
""")
FEELINGS = {
    "happy": named("happy | glad | proud | delighted | joyful | pleased | content"),
    "sad": named("sad | unhappy | downhearted | miserable | gloomy | sorry"),
}

# Why

REASONS = tuple(
    Reason(*row)
    for row in rows("""
        had been ill in bed all week                 | smiled for the first time in days
        was going to have a birthday                 | said that it was the best birthday present of all
        was sad because an old friend had moved away | laughed out loud and forgot to be sad
        had worked for months without a day of rest  | sat down at last and took a long, happy rest
        had just come home from a long journey       | said that nothing in the wide world was better than this
        had once taught {hero.him} to whistle        | whistled a long and happy tune
        had had nothing but bad luck lately          | said that the bad luck was over now
        always thought of others first               | was so touched that for a while no word would come
    """)
)
OCCASIONS = named("""
    long ago | on {hero.his} last birthday | at the midsummer feast | before a long journey | one summer evening |
    one winter night
""")
TREASURES = named("""
    silver bell | blue glass marble | wooden whistle | brass compass | painted spinning top | pocket mirror |
    green silk ribbon | amber bead | old copper coin | small mouth organ | shell necklace | red woollen cap |
    carved wooden horse | ivory button
""")

# What goes wrong: what one tries first, how one manages without help, how it looks when nothing works.
# `obstacle.what` and `obstacle.it` belong to the obstacle at hand.

_TROUBLES = (
    Trouble(
        "high",
        named("""
            {Hero} jumped as high as {hero.he} could, but it was not high enough. |
            {Hero} climbed on a bucket, stretched, and fell off the bucket. |
            {Hero} threw a pine cone at {obstacle.it}, but the pine cone came down on {hero.his} own head.
        """),
        named("""
            piled up three boxes, climbed to the top and got {obstacle.it} down |
            tied a hook to a long stick and pulled {obstacle.it} down
        """),
        "{Hero} tried until it was dark, but {obstacle.what} stayed out of reach.",
    ),
    Trouble(
        "heavy",
        named("""
            {Hero} pushed and pulled until {hero.he} was out of breath, but {obstacle.what} did not move. |
            {Hero} took a long run and threw {hero.him}self against {obstacle.it}, but nothing happened. |
            {Hero} tried to lift {obstacle.it} and sat down hard on the ground.
        """),
        named("""
            put round logs underneath and rolled {obstacle.what} along, bit by bit |
            used a long branch as a lever and moved {obstacle.what} inch by inch
        """),
        "{Hero} tried until it was dark, but {obstacle.what} would not move an inch.",
    ),
    Trouble(
        "broken",
        named("""
            {Hero} tied a piece of string around {obstacle.it}, but the string slipped off. |
            {Hero} tried to mend {obstacle.it} with flour and water, but that did not hold. |
            {Hero} turned {obstacle.it} over and over and had no idea how to mend {obstacle.it}.
        """),
        named("""
            cooked a thick glue from resin and mended {obstacle.what} with great care |
            bound {obstacle.what} with strips of willow bark, so tightly that it held
        """),
        "{Hero} tried until it was dark, but {obstacle.what} was only more broken than before.",
    ),
    Trouble(
        "missing",
        named("""
            {Hero} looked on every shelf and found nothing but crumbs. |
            {Hero} searched the house from top to bottom, without luck. |
            {Hero} tried to do without, but it was no good.
        """),
        named("""
            walked all the way to the next valley and came back with {obstacle.what} |
            gave a pedlar {hero.his} best marble for {obstacle.what}
        """),
        "{Hero} knocked at ten more doors, but nobody had {obstacle.what} to spare.",
    ),
    Trouble(
        "lost",
        named("""
            {Hero.he} turned {hero.his} bag inside out, twice. |
            "Where can it be?" {hero.he} cried. "It was here a moment ago!" |
            {Hero.he} ran home to look there, and ran back again.
        """),
        named("""
            followed {hero.his} own footprints back, step by step |
            waited until the evening sun shone under every leaf, and looked once more
        """),
        "{Hero} looked until it was dark, but the {treasure} was nowhere to be found.",
    ),
    Trouble(
        "afraid",
        named("""
            {Hero.he} took three steps and ran back again. | {Hero.his} heart beat like a drum. |
            {Hero.he} closed {hero.his} eyes and opened them again, but nothing had changed.
        """),
        named("""
            counted {hero.his} steps out loud and did not stop before a hundred |
            sang the loudest song in the world and marched straight on |
            took a deep breath, thought of {loved}, and went
        """),
        "{Hero} took ten steps and no more. Then a twig snapped, and {hero.he} ran all the way home.",
    ),
    Trouble(
        "road",
        named("""
            {Hero} sat down on a stone and did not know what to do. |
            {Hero} tried to go on, but it was no use. |
            {Hero} called for help, once, twice, three times.
        """),
    ),
    Trouble(
        "quarrel",
        named("""
            "I was here first!" said {hero}. "No, I was!" said {friend}. |
            "You always go first," said {friend}. "That is not true," said {hero}. |
            "It is my turn," they both said at the same moment. | Neither of them wanted to wait.
        """),
    ),
    Trouble(
        "temptation",
        named("""
            It sounded like great fun. | {Hero} would have liked nothing better. |
            {Hero} looked at the sky, and then at {friend}, and did not know what to say.
        """),
    ),
)
TROUBLES = {trouble.name: trouble for trouble in _TROUBLES}

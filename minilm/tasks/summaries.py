"""Two-sentence summaries of stories, told from the facts: what the hero wanted and met with, and how it ended.

They are written from what happened and not from the text, so they are abstractive: most of their words are not copied.
"""

from typing import NamedTuple

from minilm.tasks.splits import draws
from minilm.text.stories import Story
from minilm.text.story_spans import tell

_BEGINNINGS = {
    "gift": "{Hero}, {trait.a} {kind}, wanted to {wish} for {loved}, but {obstacle}.",
    "loss": "{Hero}, {trait.a} {kind}, lost {treasure.a} while {obstacle}.",
    "fear": "{Hero}, {trait.a} {kind}, wanted to {wish} {loved}, but was afraid of {obstacle.what}.",
    "quarrel": "{Hero}, {trait.a} {kind}, and {hero.his} friend {friend} both wanted to {wish}, and they quarrelled.",
    "good turn": "{Hero}, {trait.a} {kind}, set out to {wish} and met {helper}, {helper.about}.",
    "promise": "{Hero}, {trait.a} {kind}, promised {loved} to {wish}, but {friend} wanted to {obstacle}.",
}
_ENDS = {
    "gift": {
        "helped": "{Helper} helped, {wish.thing} was a great success, and {hero} was {feeling}.",
        "alone": "{Helper} did not help, but {hero} found a way, and in the end {hero.he} was {feeling}.",
        "failed": "Nobody helped, there was no present, and {hero} was {feeling}.",
    },
    "loss": {
        "helped": "With the help of {helper} it was found {obstacle.found}, and {hero} was {feeling}.",
        "alone": "{Helper} did not help, but {hero} found it {obstacle.found} and was {feeling}.",
        "given away": "A very small {kind} had it, and {hero} made a present of it and was {feeling}.",
        "failed": "{Helper} did not help, it was not found, and {hero} was {feeling}.",
    },
    "fear": {
        "helped": "{Helper} helped, {hero} came to {loved} after all, and in the end {hero.he} was {feeling}.",
        "alone": "{Helper} did not help, but {hero} found the courage to go alone and was {feeling}.",
        "failed": "{Helper} did not help, {hero} ran home again, and in the end {hero.he} was {feeling}.",
    },
    "quarrel": {
        "hero gives in": "{Hero} said sorry, they shared, and in the end {hero.he} was {feeling}.",
        "friend gives in": "{Friend} said sorry, they shared, and in the end {hero} was {feeling}.",
        "no one gives in": "Neither of them said sorry, and in the end {hero} was {feeling}.",
    },
    "good turn": {
        "repaid": "{Hero} stopped to help, was helped in turn, came in time and was {feeling}.",
        "too late": "{Hero} stopped to help and came too late, but {helper} was grateful, and {hero} was {feeling}.",
        "passed by": "{Hero} did not stop to help, found no help either, came too late and was {feeling}.",
    },
    "promise": {
        "kept": "{Hero} kept the promise and was {feeling}.",
        "owned up": "{Hero} forgot the promise, but told the truth and was {feeling}.",
        "hidden": "{Hero} forgot the promise, did not tell the truth and was {feeling}.",
    },
}


class Summary(NamedTuple):
    text: str
    summary: str


def summaries(n: int, seed: int, split: str = "train") -> list[Summary]:
    """`n` stories with their summaries: story i depends on seed, split and i alone."""
    return [Summary(tell(story).text, summary_of(story)) for story, _ in draws("summaries", n, seed, split)]


def summary_of(story: Story) -> str:
    """The two sentences that say what a story says in ten."""
    assert story.plot and story.ending
    plot, ending = story.plot.name, story.ending.name
    return tell(story, f"{_BEGINNINGS[plot]} {_ENDS[plot][ending]}").text

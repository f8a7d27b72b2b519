"""Sentiment data of the story world, from texts whose words give the answer away to texts whose words say nothing.

A text is positive if it ends well for the one whom it is about, or if the one who writes about a book likes it. The forms,
from easy to hard:

* **stories**: whole stories; the words "glad" and "sad" decide.
* **silent**: the same without the sentence that names the feeling; what happens decides, and so do its words.
* **plain**: short tales and reviews in which every feeling points the same way.
* **mixed**: three or four signs, one of them perhaps against the others, many of them negated: "anything but dull".
* **twins**: each text has a twin of the other label with the very same words in another order: "Ada was sad in the morning,
  but she was glad in the evening". Twins are equally likely, so whoever only counts words gets half of them right,
  whatever was learnt. What helps is to see which word is negated, who feels it, and when.

Labels alternate, so that every even number of texts is balanced. Training and test share their words and their frames,
and no document, nor the facts of one (splits.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial

from minilm.tasks.labelled import Labelled
from minilm.tasks.sentiment_lines import REVIEWS, SENTENCES, TALES
from minilm.tasks.splits import check, draw, generator
from minilm.text.stories import StoryWorld
from minilm.text.story_lines import LINES, read_lines
from minilm.text.story_plots import FACTS, Choice, Ending, Plot
from minilm.text.story_spans import tell
from minilm.text.story_wishes import GIFTS, OUTINGS

LABELS = ("negative", "positive")
FORMS = ("stories", "silent", "plain", "mixed", "twins")
_MOODS = {"positive": "happy", "negative": "sad"}
_SIDES = {"happy": ("good", "bad"), "sad": ("bad", "good")}  # of _Y and _X


def labelled(n: int, seed: int, form: str = "mixed", split: str = "train") -> list[Labelled]:
    """`n` texts with labels "positive", "negative", "positive" ...: text i depends on the arguments but n.

    >>> labelled(3, seed=0, form="twins") == labelled(5, seed=0, form="twins")[:3]
    True
    """
    check(n, split)
    if form not in FORMS:
        raise ValueError(f"form {form!r} is unknown: choose one of {', '.join(FORMS)}")
    return list(_texts(n, seed, form, split))


def _texts(n: int, seed: int, form: str, split: str) -> Iterator[Labelled]:
    for i in range(n):
        label = LABELS[(i + 1) % 2]
        world = sentiment_world(form, label)
        told = tell(draw(world, generator(f"sentiment {form}", seed, i, split), split), lines=world.lines)
        yield Labelled(told.without("glad", "gloomy") if form == "silent" else told.text, label)


@cache
def sentiment_world(form: str, label: str) -> StoryWorld:
    """The world that tells the texts of one form and one label: the story world itself, or a smaller one with short texts."""
    ending = Choice(partial(_endings, _MOODS[label]), ("plot",))
    if form in ("stories", "silent"):
        return StoryWorld({**FACTS, "ending": ending}, LINES)
    frames = _frames("tale", TALES[form]) + _frames("review", REVIEWS[form])
    return StoryWorld({**FACTS, "plot": Choice(lambda: frames), "ending": ending}, _two_sided(read_lines(SENTENCES)))


def _endings(mood: str, plot: Plot) -> tuple[Ending, ...]:
    return tuple(ending for ending in plot.endings if ending.mood == mood)


def _frames(kind: str, frames: Mapping[str, str]) -> tuple[Plot, ...]:
    """Plots whose two endings are the two outcomes of a frame, with a sentence before and after that says nothing."""
    text = f"{{{kind}}} {{before_{kind}}} {{ending.text}} {{after_{kind}}}"
    return tuple(
        Plot(
            f"{kind}, {name}",
            text,
            GIFTS + OUTINGS,
            tuple(Ending(mood, mood, 1.0, _side(frame, *_SIDES[mood])) for mood in _SIDES),
        )
        for name, frame in frames.items()
    )


def _side(text: str, y: str, x: str) -> str:
    """A text with its sides filled in: _side("{feeling_Y}", "good", "bad") -> "{feeling_good}"."""
    return text.replace("_Y}", f"_{y}}}").replace("_X}", f"_{x}}}")


def _two_sided(lines: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Each line whose name ends in _Y becomes two lines."""
    both: dict[str, tuple[str, ...]] = {}
    for name, wordings in lines.items():
        for y, x in _SIDES.values() if name.endswith("_Y") else [("", "")]:
            key = name.removesuffix("Y") + y if y else name
            both[key] = tuple(_side(wording, y, x) for wording in wordings)
    return both

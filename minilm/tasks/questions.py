"""Questions about stories, whose answers stand in the story: what an extractive model answers with a start and an end.

Which characters are the answer is known from the spans, so there is no search that could hit the wrong place. One kind of
question, "end", has no span: its answers are "yes" and "no", and its start is -1.
"""

import random
from collections.abc import Iterator
from typing import NamedTuple

from minilm.tasks.splits import draws
from minilm.text.stories import Story
from minilm.text.story_spans import Told, tell

NO_SPAN = -1


class Question(NamedTuple):
    """A question and its answer: context[start : start + len(answer)] == answer, unless start is -1."""

    context: str
    question: str
    answer: str
    start: int
    kind: str  # "who", "what", "where", "when", "why", "how", "end"
    slot: str  # the fact that answers it, as a template writes it: "helper", "wish.thing"


class _Form(NamedTuple):
    """A way to ask: for stories of these plots (divided by bars; none: all), for the slot that answers it."""

    kind: str
    plots: str
    question: str
    slot: str
    endings: str = ""  # divided by bars; none: all


_FORMS = (
    _Form("who", "", "Who is the story about?", "hero"),
    _Form("who", "gift", "For whom did {hero} want to {wish}?", "loved"),
    _Form("who", "gift|loss|fear", "Whom did {hero} ask for help?", "helper"),
    _Form("who", "gift|loss|fear|good turn", "Who helped {hero}?", "helper", "helped|repaid"),
    _Form("who", "loss", "Who had given the {treasure} to {hero}?", "loved"),
    _Form("who", "fear", "To whom did {hero} set out?", "loved"),
    _Form("who", "quarrel", "With whom did {hero} quarrel?", "friend"),
    _Form("who", "good turn", "Whom did {hero} meet on the way?", "helper"),
    _Form("who", "promise", "Who tempted {hero} to come along?", "friend"),
    _Form("who", "promise", "To whom did {hero} make a promise?", "loved"),
    _Form("what", "", "What was special about {hero}?", "trait.habit"),
    _Form("what", "gift", "What did {hero} want to do for {loved}?", "wish"),
    _Form("what", "gift", "What was the difficulty?", "obstacle"),
    _Form("what", "loss", "What was {hero} doing when the {treasure} was lost?", "obstacle"),
    _Form("what", "loss", "What did {hero} lose?", "treasure.a"),
    _Form("what", "fear", "What was {hero} afraid of?", "obstacle.what"),
    _Form("what", "quarrel", "What did {hero} and {friend} both want to do?", "wish"),
    _Form("what", "quarrel", "What came of the quarrel?", "obstacle"),
    _Form("what", "good turn", "What was {hero} on the way to do?", "wish"),
    _Form("what", "good turn", "What did {hero} do for {helper}?", "helper.aid"),
    _Form("what", "promise", "What had {hero} promised to do?", "wish"),
    _Form("what", "promise", "What did {friend} want to do?", "obstacle"),
    _Form("where", "", "Where did {hero} live?", "home"),
    _Form("where", "loss", "Where was the {treasure} in the end?", "obstacle.found"),
    _Form("where", "loss", "Where did {hero} look for the {treasure}?", "obstacle.what"),
    _Form("when", "", "When did it happen?", "time"),
    _Form("when", "loss", "When had {loved} given the {treasure} to {hero}?", "occasion"),
    _Form("why", "gift|fear", "Why did {hero} think of {loved}?", "reason"),
    _Form("how", "", "How did {hero} feel in the end?", "feeling"),
    _Form("how", "gift|loss|fear", "How did {hero} manage without help?", "way"),
    _Form("how", "gift|loss|fear|good turn", "How did {helper} help {hero}?", "helper.remedy"),
    _Form("end", "", "Did the story end well for {hero}?", ""),
)
KINDS = tuple(dict.fromkeys(form.kind for form in _FORMS))


def questions(n: int, seed: int, split: str = "train") -> list[Question]:
    """`n` questions, each about a story of its own: first a kind is drawn, then one of the questions of that kind.

    >>> one = questions(1, seed=0)[0]
    >>> one.start == -1 or one.context[one.start :].startswith(one.answer)
    True
    """
    return [_draw(list(questions_about(story)), rng) for story, rng in draws("questions", n, seed, split)]


def questions_about(story: Story) -> Iterator[Question]:
    """All questions that this story answers."""
    told = tell(story)
    for form in _FORMS:
        if _fits(form, story, told):
            question = tell(story, form.question).text
            if form.kind == "end":
                yield Question(
                    told.text, question, "yes" if story.mood == "happy" else "no", NO_SPAN, form.kind, form.slot
                )
            else:
                span = told.find(form.slot)[0]
                yield Question(told.text, question, told.words(span), span.start, form.kind, form.slot)


def _draw(asked: list[Question], rng: random.Random) -> Question:
    kinds = sorted({one.kind for one in asked}, key=KINDS.index)
    kind = kinds[int(rng.random() * len(kinds))]
    of_kind = [one for one in asked if one.kind == kind]
    return of_kind[int(rng.random() * len(of_kind))]


def _fits(form: _Form, story: Story, told: Told) -> bool:
    """Whether the story is of a plot and ending of this form, and says the answer."""
    assert story.plot and story.ending
    return (
        story.plot.name in (form.plots or story.plot.name).split("|")
        and story.ending.name in (form.endings or story.ending.name).split("|")
        and (not form.slot or bool(told.find(form.slot)))
    )

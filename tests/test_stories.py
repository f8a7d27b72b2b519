"""The story world: it reads well, a document determines its choices, and its probabilities are exact."""

import math
import random
import re
import subprocess
import sys
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from minilm.text.stories import Story, StoryWorld, stories, story_floor
from minilm.text.story_plots import Choice, Ending, Plot
from minilm.text.story_words import Character, Named

WORLD = StoryWorld()


def small_world() -> StoryWorld:
    """Two plots, weighted endings, a fact that depends on another, and lines with slots: small enough to enumerate."""
    ends = (Ending("well", "happy", 3.0, "All was well."), Ending("badly", "sad", 1.0, "{Hero.he} wept."))
    cook = Plot("cook", "{who} {Hero.he} cooked {wish}. {ending.text}", (), ends, weight=2.0)
    walk = Plot("walk", "{who} The {friend} came too. {ending.text}", (), ends[:1], weight=1.0)
    facts = {
        "plot": Choice(lambda: (cook, walk)),
        "ending": Choice(lambda plot: plot.endings, ("plot",)),
        "hero": Choice(lambda: (Character("Ada", "she"), Character("Otto", "he"))),
        "friend": Choice(lambda: (Named("owl"), Named("fox"), Named("ox"))),
        "wish": Choice(lambda hero: tuple(map(Named, ("soup", "tea", "pie")[: len(hero.name) - 1])), ("hero",)),
    }
    return StoryWorld(facts, {"who": ("Here is {hero}.", "{Hero} was hungry.")})


def test_the_probabilities_of_all_documents_of_a_small_world_sum_to_one():
    """By hand: cook has 2 lines x (Ada 2 wishes + Otto 3) x 2 endings, walk 2 lines x 2 heroes x 3 friends x 1 ending."""
    world, rng = small_world(), random.Random(5)
    documents = {world.render(world.sample(rng)) for _ in range(4000)}
    assert len(documents) == 2 * (2 + 3) * 2 + 2 * 2 * 3
    assert math.fsum(math.exp(world.log_prob(document)) for document in documents) == pytest.approx(1.0, abs=1e-12)


def test_log_prob_by_hand():
    world = small_world()
    # plot 2/3, line 1/2, hero 1/2, wish 1/3 of Otto's, ending 1/4
    assert world.log_prob("Otto was hungry. He cooked pie. He wept.") == pytest.approx(math.log(2 / 3 / 2 / 2 / 3 / 4))
    # plot 1/3, line 1/2, hero 1/2, friend 1/3, ending 1
    assert world.log_prob("Here is Ada. The fox came too. All was well.") == pytest.approx(math.log(1 / 3 / 2 / 2 / 3))


def test_the_frequencies_are_the_probabilities():
    world, rng, n = small_world(), random.Random(8), 20_000
    counts: dict[str, int] = {}
    for _ in range(n):
        document = world.render(world.sample(rng))
        counts[document] = counts.get(document, 0) + 1
    expected = {document: n * math.exp(world.log_prob(document)) for document in counts}
    chi_square = sum((counts[document] - mean) ** 2 / mean for document, mean in expected.items())
    assert chi_square < 75  # 31 degrees of freedom: p = 1e-5


def test_a_document_determines_its_story():
    rng = random.Random(11)
    for _ in range(60):
        story = WORLD.sample(rng)
        document = WORLD.render(story)
        assert WORLD.parse(document) == story
        assert WORLD.log_prob(document) < -10


def test_numpy_generators_draw_too():
    assert WORLD.render(WORLD.sample(np.random.default_rng(3))) == WORLD.render(WORLD.sample(np.random.default_rng(3)))


def test_story_i_depends_on_seed_and_i_only():
    many = list(stories(40, seed=7))
    assert list(stories(13, seed=7)) == many[:13]
    assert len(set(many)) == 40
    assert not set(many) & set(stories(40, seed=8))


def test_the_stories_are_the_same_in_every_process(subprocess_env):
    code = "from minilm.text.stories import stories; print('\\n\\n'.join(stories(5, 2)))"
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**subprocess_env, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
            encoding="utf-8",
        ).stdout.strip()
        for seed in ("0", "1")
    ]
    assert runs[0] == runs[1] == "\n\n".join(stories(5, 2))


def test_the_language_is_sound():
    """No open slot, no double blank, `a` and `an` agree, sentences begin with a capital, and sizes are those of a story."""
    sizes = []
    for document in stories(400, seed=1):
        assert not re.search(r"[{}|]|  | \.| ,|\.\.", document), document
        assert not re.search(r"\b[Aa] [aeio]", document), document
        assert not re.search(r"\b[Aa]n [bcdfgjklmnpqrstvwxyz]", document), document
        assert not re.search(r"[.!?] [a-z]", re.sub(r'[.!?]"', "", document)), document
        sizes.append(len(document.split()))
    assert 50 < np.mean(sizes) < 170 and min(sizes) > 25


def every_story(world: StoryWorld) -> list[tuple[str, float]]:
    """The text and ln p of every story of a small world: all sequences of choices, one after the other."""
    told, script = [], [0]
    while script:
        made: list[tuple[int, int, float]] = []  # of each choice: what was taken, of how many, how likely that was

        def follow(
            name: str, options: Sequence[object], made: list = made, script: tuple[int, ...] = tuple(script)
        ) -> int:
            index = script[len(made)] if len(made) < len(script) else 0
            weights = [getattr(option, "weight", 1) for option in options]
            made.append((index, len(options), weights[index] / sum(weights)))
            return index

        told.append((world._tell(follow).text, math.fsum(math.log(p) for _, _, p in made)))
        script = [index for index, _, _ in made]
        while made and script[-1] + 1 == made[-1][1]:  # the last choice has been through all its options
            made.pop()
            script.pop()
        if script:
            script[-1] += 1
    assert math.fsum(math.exp(log_p) for _, log_p in told) == pytest.approx(1.0, abs=1e-12)
    return told


def tangled_world() -> StoryWorld:
    """What makes sums go wrong: facts that only some wordings need, that come up inside the phrases of other facts or as
    their parents, that are told twice, and letters of more than one byte."""
    one = Ending("one", "happy", 2.0, "{Friend} said: é! {time} {way}")
    two = Ending("two", "sad", 1.0, "{again} {Home.name}.")
    plots = (
        Plot("b", "{start} {wish.name} {ending.text} {ending.mood}", (), (two,), weight=2.0),
        Plot("a", "{start} {helper}; {ending.text}", (), (one, two), weight=3.0),
    )
    facts = {
        "plot": Choice(lambda: plots),
        "ending": Choice(lambda plot: plot.endings, ("plot",)),
        "folk": Choice(lambda: (Named("elves"), Named("gnomes"), Named("öxen"))),
        "home": Choice(lambda folk: tuple(map(Named, ("at hill", "by sea", "under")[: len(folk.name) - 3])), ("folk",)),
        "hero": Choice(lambda: (Character("Ada", "she"), Character("Öd", "he"))),
        "friend": Choice(lambda hero: tuple(map(Named, ("ümit", "Bo", "Cy")[: len(hero.name)])), ("hero",)),
        "wish": Choice(lambda hero: (Named("to see {friend}"), Named(f"({hero.name})"), Named("<{home}>")), ("hero",)),
        "helper": Choice(
            lambda wish, folk: (Named("nobody"), Named("x{time}"), Named(folk.name + wish.name))[: len(folk.name) - 2],
            ("wish", "folk"),
        ),
        "way": Choice(lambda: (Named("so"), Named("not so"))),
        "time": Choice(lambda: tuple(map(Named, ("now", "then", "later, with {hero.his} hat", "soon")))),
    }
    lines = {
        "start": ("{Hero} once", "There was", "- {again} -"),
        "again": ("{time}!", "well {wish}", "no {folk}", "so", "or {Home}"),
    }
    return StoryWorld(facts, lines)


@pytest.mark.parametrize("make", [small_world, tangled_world])
def test_entropy_against_all_documents(make: Callable[[], StoryWorld]) -> None:
    world = make()
    told, entropy = every_story(world), world.entropy()
    nats = -math.fsum(math.exp(log_p) * log_p for _, log_p in told)
    n_bytes = math.fsum(math.exp(log_p) * len(text.encode()) for text, log_p in told)
    assert entropy.nats == pytest.approx(nats, rel=1e-12)
    assert entropy.bytes == pytest.approx(n_bytes, rel=1e-12)
    assert entropy.bits_per_byte == pytest.approx(nats / n_bytes / math.log(2), rel=1e-12)


def test_entropy_of_the_whole_world_against_drawn_stories() -> None:
    """Within four standard errors of the mean of 1,500 stories."""
    entropy = story_floor()
    documents = list(stories(1500, seed=4))
    costs, sizes = np.array([-WORLD.log_prob(text) for text in documents[:300]]), np.array(list(map(len, documents)))
    for sample, mean in ((costs, entropy.nats), (sizes, entropy.bytes)):
        assert abs(sample.mean() - mean) < 4 * sample.std() / math.sqrt(len(sample))
    assert costs.std() < 5 and 0.06 < entropy.bits_per_byte < 0.08


@pytest.mark.parametrize("make", [small_world, tangled_world])
def test_the_beginning_of_a_story_is_as_likely_as_all_that_begin_so(make: Callable[[], StoryWorld]) -> None:
    world = make()
    told = every_story(world)
    for document, _ in sorted(told)[:: len(told) // 9]:
        for end in range(0, len(document) + 1, 5):
            p = math.fsum(math.exp(log_p) for text, log_p in told if text.startswith(document[:end]))
            assert world.log_prob(document[:end], cut=True) == pytest.approx(math.log(p), abs=1e-12)
    with pytest.raises(ValueError, match="no story of this world"):
        world.log_prob("Nobody", cut=True)


def test_no_blank_stands_before_a_line_break() -> None:
    assert not any(re.search(r"[ \t](\n|\Z)", text) for text in stories(1500, seed=12))


@pytest.mark.parametrize(
    "text", ["", "Once", "Tell me a story.", next(stories(1, 0)) + " More.", next(stories(1, 0))[:-1]]
)
def test_what_is_no_story_is_an_error(text):
    with pytest.raises(ValueError, match="no story of this world"):
        WORLD.log_prob(text)


def test_bad_arguments():
    with pytest.raises(ValueError, match="n = -1"):
        next(stories(-1, 0))
    with pytest.raises(ValueError, match="no fields of Story"):
        StoryWorld({"dragon": Choice(lambda: ())}, {})
    with pytest.raises(ValueError, match="the story has"):
        WORLD.render(Story())

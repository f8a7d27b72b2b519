"""The story world: it reads well, a document determines its choices, and its probabilities are exact."""

import math
import random
import re
import subprocess
import sys

import numpy as np
import pytest

from minilm.text.stories import Story, StoryWorld, stories
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


def test_entropy_is_the_mean_cost_per_byte():
    estimate = WORLD.entropy_per_byte(n=300, seed=4)
    documents = list(stories(60, seed=9))
    ratio = -sum(map(WORLD.log_prob, documents)) / sum(len(text.encode()) for text in documents)
    assert estimate.nats_per_byte == pytest.approx(ratio, rel=0.08)
    assert 0 < estimate.standard_error < 0.02 * estimate.nats_per_byte
    assert estimate.bits_per_byte == pytest.approx(estimate.nats_per_byte / math.log(2))


@pytest.mark.parametrize(
    "text", ["", "Once", "Tell me a story.", next(stories(1, 0)) + " More.", next(stories(1, 0))[:-1]]
)
def test_what_is_no_story_is_an_error(text):
    with pytest.raises(ValueError, match="no story of this world"):
        WORLD.log_prob(text)


def test_bad_arguments():
    with pytest.raises(ValueError, match="n = -1"):
        next(stories(-1, 0))
    with pytest.raises(ValueError, match="standard error"):
        WORLD.entropy_per_byte(n=1)
    with pytest.raises(ValueError, match="no fields of Story"):
        StoryWorld({"dragon": Choice(lambda: ())}, {})
    with pytest.raises(ValueError, match="the story has"):
        WORLD.render(Story())

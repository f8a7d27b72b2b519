"""Draws stories for the tasks: document i depends on the seed and i alone, and no document is in training and test.

Which split a story belongs to is decided by a hash of its facts, without its ending, its last feeling and its wording.
So the same events told in other words, or with the other ending, are on the same side: whoever has learnt a training
document by heart has not seen a test document, nor one that differs from it only in its end. Shared are the single facts
and the wordings: every name, every place and every sentence pattern of the test is known from training.
"""

import random
from collections.abc import Iterator
from dataclasses import fields
from hashlib import sha256

from minilm.text.stories import Story, StoryWorld

SPLITS = ("train", "test")
TEST_SHARE = 0.2  # of all stories
_LEFT_OUT = {"ending", "feeling", "wording"}


def split_of(story: Story) -> str:
    """ "train" or "test", by the facts of a story."""
    facts = ((field.name, getattr(story, field.name)) for field in fields(story) if field.name not in _LEFT_OUT)
    key = "|".join(f"{name}={fact.name}" for name, fact in facts if fact is not None)
    share = int.from_bytes(sha256(key.encode()).digest()[:4], "big") / 2**32
    return "test" if share < TEST_SHARE else "train"


def generator(task: str, seed: int, i: int, split: str) -> random.Random:
    """The generator of document i: other tasks, seeds and splits have others."""
    return random.Random(f"{task} {seed} {i} {split}")


def draw(world: StoryWorld, rng: random.Random, split: str) -> Story:
    """The first story of this split that the generator comes to: five draws on average for the test."""
    while True:
        story = world.sample(rng)
        if split_of(story) == split:
            return story


def draws(task: str, n: int, seed: int, split: str) -> Iterator[tuple[Story, random.Random]]:
    """`n` stories of the whole world, each with its generator, for what else is to be drawn. ValueError for a bad n or split."""
    check(n, split)
    world = StoryWorld()
    for i in range(n):
        rng = generator(task, seed, i, split)
        yield draw(world, rng, split), rng


def check(n: int, split: str) -> None:
    """ValueError if there can be no `n` documents, or no such split."""
    if n < 0:
        raise ValueError(f"n = {n} documents cannot be made; use 0 or more")
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown: choose one of {', '.join(SPLITS)}")

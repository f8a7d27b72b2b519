"""What the tests of the bench of fine-tuning share: a tiny plan, texts of which a word says the label, a task of them."""

import json
import random
from pathlib import Path
from typing import Any

from minilm.bench.labelled_task import Plan
from minilm.tasks.labelled import Labelled
from minilm.training.config import TrainConfig

TINY = Plan(
    labels=(4, 12, 5000),
    pool=30,
    kept_out=10,
    stories=4,
    vocab_size=280,
    shape={"context_length": 20, "d_model": 8, "n_layers": 1, "n_heads": 2},
    pretraining=TrainConfig(steps=3, batch_size=2, dtype="float32"),
)


def few_stories(n: int) -> list[str]:
    """In the place of the story world, which takes its time."""
    return [f"Once there was story number {i}." for i in range(n)]


def write(path: Path, examples: Any) -> str:
    """A file of labelled texts, and its name."""
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in examples))
    return str(path)


def signs(n: int, shares: tuple[str, ...] = ("up", "down")) -> list[Labelled]:
    """Texts of which each has a word that says its label, among others that say nothing, all of them different."""
    rng = random.Random(7)
    labels = [shares[i % len(shares)] for i in range(n)]
    return [Labelled(f"text {i} of {rng.randrange(1000)} goes {label} again", label) for i, label in enumerate(labels)]

"""A task of labelled texts as the bench of fine-tuning asks it, and the small GPT that starts on it in several ways.

A task has a pool of training texts, and texts that are kept out. Which of the pool are labelled is drawn by the seed. The text of
the whole pool, without its labels, is what a GPT may be pretrained on, and so is the text of other stories; neither holds a
text that is kept out, nor, in the story world, the facts of one. All that reads tokens reads those of one tokenizer.
"""

import hashlib
import itertools
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from minilm.finetuning.recipe import RECIPE, FinetuneConfig
from minilm.finetuning.skills import Classify
from minilm.models.config import GPTConfig, llama_config
from minilm.models.gpt import GPT
from minilm.runtime import minilm_home, pick_device, set_seed
from minilm.tasks.cross_validation import split_labelled
from minilm.tasks.labelled import Labelled, labels_of, load_labelled
from minilm.tasks.sentiment import FORMS, labelled
from minilm.text.bpe import BPETokenizer
from minilm.text.token_file import encode_corpus
from minilm.training.batches import Batches
from minilm.training.checkpoint import load_checkpoint, save_checkpoint
from minilm.training.config import TrainConfig
from minilm.training.loop import Batch, train
from minilm.training.loss import LossFunction, next_token_loss

STARTS = ("random weights", "pretrained on stories", "pretrained on the task's text")
SHAPE = {"context_length": 112, "d_model": 64, "n_layers": 2, "n_heads": 4}
PRETRAINING = TrainConfig(steps=1200, learning_rate=4e-3, batch_size=16, warmup=50, dtype="float32")
FINETUNING = TrainConfig(**RECIPE, dtype="float32")


@dataclass(frozen=True)
class Plan:
    """How large everything is. Steps are counted, not timed: the results do not depend on how busy the machine is."""

    labels: tuple[int, ...] = (20, 60, 200, 600, 2000)  # numbers of labelled texts to learn from
    pool: int = 6000  # texts of the story world for training
    kept_out: int = 1000  # texts to judge by; of a file at most a third
    stories: int = 3000  # to pretrain on
    vocab_size: int = 1024
    shape: Mapping[str, int] = field(default_factory=SHAPE.copy)
    pretraining: TrainConfig = PRETRAINING
    epochs: int = 20  # of pretraining at most: a small text is soon known by heart
    finetuning: TrainConfig = FINETUNING  # but for steps and warm-up
    steps_per_root: float = 10.0  # steps of fine-tuning / the square root of the number of labelled texts
    frozen_strength: float = 0.01  # penalty of the head's weights where all else is frozen


class Task:
    """Training texts and texts kept out, read or told when they are first asked for; a tokenizer; models that start somehow."""

    def __init__(self, name: str, plan: Plan, tune: bool = False, parts: Mapping[str, Any] | None = None) -> None:
        self.name, self.plan, self.tune, self.parts = name, plan, tune, dict(parts or {})
        self.from_file = Path(name).exists() or name not in FORMS
        self.title = Path(name).stem if self.from_file else name
        if self.from_file:
            self.sides  # noqa: B018  # whoever names a wrong file hears it before anything is measured

    @cached_property
    def sides(self) -> tuple[list[Labelled], list[Labelled]]:
        """The pool, and the texts kept out; with `tune` a third of the pool takes their place, and they are not looked at."""
        pool, kept_out = self._from_file() if self.from_file else self._from_world()
        if self.tune:
            pool, kept_out = split_labelled(pool, 1 / 3)
        return pool, kept_out[: self.plan.kept_out]

    def _from_file(self) -> tuple[list[Labelled], list[Labelled]]:
        examples = load_labelled(self.name)
        return split_labelled(examples, min(1 / 3, self.plan.kept_out / len(examples)))

    def _from_world(self) -> tuple[list[Labelled], list[Labelled]]:
        return labelled(self.plan.pool, 0, self.name, "train"), labelled(self.plan.kept_out, 0, self.name, "test")

    @cached_property
    def skill(self) -> Classify:
        """How texts become ids, a model a classifier, and how it is judged."""
        labels = labels_of(self.sides[0])
        names = sorted(set(labels))
        return Classify(FinetuneConfig(), names, [labels.count(name) for name in names])

    @property
    def sizes(self) -> list[int]:
        """The numbers of labelled texts that the pool has room for."""
        return [n for n in self.plan.labels if n <= len(self.sides[0])]

    def draw(self, seed: int) -> list[Labelled]:
        """The labelled texts of this seed; its first n are those of n, each label in its proportion.

        The i-th of the m texts of a label, drawn in random order, stands at (i + 1/2) / m of the row.
        """
        places: list[tuple[float, str, Labelled]] = []
        for name in self.skill.labels:
            group = [example for example in self.sides[0] if example.label == name]
            random.Random(f"{seed} {name}").shuffle(group)
            places += [((i + 0.5) / len(group), name, example) for i, example in enumerate(group)]
        ordered = sorted(places, key=lambda place: place[:2])
        return [example for _, _, example in ordered[: max(self.sizes)]]

    @cached_property
    def unlabelled(self) -> dict[str, list[str]]:
        """What can be pretrained on: stories, and the pool without its labels."""
        stories = story_texts(self.plan.stories)
        return {STARTS[1]: stories, STARTS[2]: [example.text for example in self.sides[0]]}

    @cached_property
    def tokenizer(self) -> BPETokenizer:
        """Of both texts together, so that every start has the same tokens."""
        return BPETokenizer.train(itertools.chain(*self.unlabelled.values()), self.plan.vocab_size)

    def fresh(self, seed: int) -> GPT:
        """Random weights."""
        set_seed(seed)
        config = llama_config(vocab_size=self.tokenizer.vocab_size, **self.plan.shape)
        return GPT(config, **self.parts).to(pick_device())

    def backbone(self, start: str, seed: int) -> GPT:
        """A GPT that starts in this way. Those that are pretrained are the same for all seeds."""
        return self.fresh(seed) if start == STARTS[0] else self._pretrained[start]

    @cached_property
    def _pretrained(self) -> dict[str, GPT]:
        return {start: self.pretrain(texts) for start, texts in self.unlabelled.items()}

    def pretrain(self, texts: Sequence[str]) -> GPT:
        """A GPT that has learnt to continue these texts: trained once, then kept below minilm_home()."""
        ids, model = encode_corpus(texts, self.tokenizer).ids, self.fresh(0)
        config, length = self.plan.pretraining, model.config.context_length
        most = -(-self.plan.epochs * len(ids) // (config.batch_size * length))
        config = replace(config, steps=min(config.steps, most))
        folder = minilm_home() / "bench" / fingerprint(model.config, config, self.tokenizer.fingerprint, ids.tobytes())
        if folder.exists():
            return load_checkpoint(folder, **self.parts).model.to(pick_device())
        learn(model, Batches(ids, config.batch_size, length), config, next_token_loss)
        save_checkpoint(folder, model, self.tokenizer, step=config.steps)
        return model


@lru_cache(maxsize=1)
def story_texts(n: int) -> list[str]:
    """Stories of the training split, which shares no story with any test."""
    return [example.text for example in labelled(n, 1, "stories", "train")]


def fingerprint(model: GPTConfig, config: TrainConfig, tokenizer: str, ids: bytes) -> str:
    """Of all that makes a pretrained model what it is: 16 digits."""
    return hashlib.sha256(f"{model} {config} {tokenizer} ".encode() + ids).hexdigest()[:16]


def learn(model: nn.Module, batches: Iterable[Batch], config: TrainConfig, loss: LossFunction) -> None:
    """Train in place and in silence. KeyboardInterrupt if a signal ended it."""
    history = train(model, batches, config, loss_function=loss, progress=False)
    if not history or "interrupted" in history[-1]:
        raise KeyboardInterrupt


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)

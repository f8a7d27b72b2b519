"""The skills that `minilm finetune` teaches: how examples become ids, which model learns, what is made small, how it is judged.

All have the same four parts, and differ in what an example is: a text and its label, words and their tags, or a conversation
whose last message is the answer.
"""

import copy
import functools
import random
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from minilm.finetuning.adapters import adapt
from minilm.finetuning.examples import Examples
from minilm.finetuning.freezing import freeze_first
from minilm.finetuning.heads import SequenceClassifier, TokenClassifier
from minilm.finetuning.lora_config import LoRAConfig
from minilm.finetuning.losses import class_weights, label_loss
from minilm.finetuning.predict import encode_text, outputs
from minilm.finetuning.recipe import FinetuneConfig
from minilm.finetuning.sft import answer, fitted, supervised, supervised_chat
from minilm.finetuning.vocabulary import grow_vocabulary, with_chat_tokens
from minilm.finetuning.words import encode_words, tag_targets
from minilm.metrics import accuracy, are_bio, confusion_matrix, entity_f1, exact_match, macro_f1, rouge_l, token_f1
from minilm.runtime import set_seed
from minilm.text.chat import CHAT_TOKENS, encode_prompt
from minilm.text.tokenizer import Tokenizer
from minilm.training.loss import IGNORE, LossFunction, next_token_loss

ANSWER_TOKENS = 64  # longest answer that is written when answers are judged
JUDGED_ANSWERS = 200  # so many of the examples are answered then: writing takes longer than reading


class Skill(Protocol):
    """What all have in common."""

    loss: LossFunction

    def learner(self, base: Any, generator: torch.Generator) -> Any:
        """A model that can learn it, made from a pretrained one, which stays as it was."""

    def examples(self, data: Sequence[Any], tokenizer: Tokenizer, context_length: int) -> Examples:
        """The data as rows of ids, and what is to be answered."""

    def judge(self, model: Any, tokenizer: Tokenizer, examples: Examples) -> dict[str, Any]:
        """How good a trained model is on examples that it has not seen: from 0 to 1, 1 is best."""


class Classify:
    """A label for each text: data are (text, label); `counts` says how often each label occurs in training."""

    def __init__(self, config: FinetuneConfig, labels: Sequence[str], counts: Sequence[int]) -> None:
        self.labels, self.pooling = tuple(labels), config.pooling
        self.loss = label_loss(config.smoothing, class_weights(counts) if config.balance else None)

    def learner(self, base: Any, generator: torch.Generator) -> SequenceClassifier:
        return SequenceClassifier.from_backbone(base, self.labels, self.pooling, generator)

    def examples(self, data: Sequence[Any], tokenizer: Tokenizer, context_length: int) -> Examples:
        inputs = [encode_text(text, tokenizer, context_length) for text, _ in data]
        shortened = sum(len(tokenizer.encode(text)) >= context_length for text, _ in data)  # beside <|endoftext|>
        return Examples(inputs, [self.labels.index(label) for _, label in data], shortened=shortened)

    def judge(self, model: Any, tokenizer: Tokenizer, examples: Examples) -> dict[str, Any]:
        given = [self.labels[int(logits.argmax())] for logits in in_order(model, examples)]
        truth = [self.labels[target] for target in examples.targets]
        confusion = confusion_matrix(given, truth, self.labels)
        return {"accuracy": accuracy(given, truth), "macro_f1": macro_f1(given, truth), "confusion": confusion}


class Tag:
    """A tag for each word: data are (words, tags)."""

    def __init__(self, config: FinetuneConfig, labels: Sequence[str], counts: Sequence[int]) -> None:
        self.labels = tuple(labels)
        self.loss = label_loss(config.smoothing, class_weights(counts) if config.balance else None)

    def learner(self, base: Any, generator: torch.Generator) -> TokenClassifier:
        return TokenClassifier.from_backbone(base, self.labels, generator=generator)

    def examples(self, data: Sequence[Any], tokenizer: Tokenizer, context_length: int) -> Examples:
        inputs, targets, shortened = [], [], 0
        for words, tags in data:
            ids, places = encode_words(words, tokenizer, context_length)
            shortened += len(places) < len(words)
            inputs.append(ids)
            targets.append(tag_targets(len(ids), places, [self.labels.index(tag) for tag in tags]))
        return Examples(inputs, targets, shortened=shortened)

    def judge(self, model: Any, tokenizer: Tokenizer, examples: Examples) -> dict[str, Any]:
        given, truth = [], []
        for logits, targets in zip(in_order(model, examples), examples.targets, strict=True):
            words = [place for place, target in enumerate(targets) if target != IGNORE]
            given.append([self.labels[int(logits[place].argmax())] for place in words])
            truth.append([self.labels[targets[place]] for place in words])
        flat = [tag for row in given for tag in row], [tag for row in truth for tag in row]
        f1 = {"entity_f1": entity_f1(given, truth)} if are_bio(self.labels) else {"macro_f1": macro_f1(*flat)}
        return {"accuracy": accuracy(*flat), **f1}


class Answer:
    """An answer to what was said: data are conversations, lists of messages, the last of them the assistant's.

    With a tokenizer that has the tokens of a chat all that the assistant says is learnt, else, in plain text, its last answer.
    """

    loss: LossFunction = staticmethod(next_token_loss)

    def learner(self, base: Any, generator: torch.Generator) -> Any:
        return copy.deepcopy(base)

    def examples(self, data: Sequence[Any], tokenizer: Tokenizer, context_length: int) -> Examples:
        if set(CHAT_TOKENS) <= set(tokenizer.special_tokens):
            rows = [supervised_chat(messages, tokenizer) for messages in data]
        else:
            ends = [tokenizer.encode(f" {messages[-1]['content']}") for messages in data]
            prompts = [encode_prompt(messages[:-1], tokenizer) for messages in data]
            rows = [supervised(*pair, tokenizer.end_of_text) for pair in zip(prompts, ends, strict=True)]
        return fitted(rows, context_length, tokenizer.end_of_text)

    def judge(self, model: Any, tokenizer: Tokenizer, examples: Examples) -> dict[str, Any]:
        prompts, truth = [], []
        for i in drawn(len(examples)):
            ids, targets = examples.inputs[i], examples.targets[i]
            start = last_answer(targets)
            prompts.append(ids[: start + 1])
            truth.append(tokenizer.decode(targets[start:-1]).strip())  # without its end
        given = [text.strip() for text in answer(model, tokenizer, prompts, ANSWER_TOKENS)]
        pairs = list(zip(given, truth, strict=True))
        measures = {"exact_match": exact_match, "token_f1": token_f1, "rouge_l": rouge_l}
        return {name: sum(measure(*pair) for pair in pairs) / len(pairs) for name, measure in measures.items()}


def drawn(n: int) -> list[int]:
    """Which of n examples are answered: all, or JUDGED_ANSWERS of them, always the same ones, from anywhere in the file."""
    return sorted(random.Random(0).sample(range(n), min(n, JUDGED_ANSWERS)))


def n_judged(task: str, n: int) -> int:
    """How many of n examples the figures of `judge` speak of."""
    return len(drawn(n)) if task == "generate" else n


def in_order(model: Any, examples: Examples) -> Iterator[Tensor]:
    """What a model with a head says of each example, in their order."""
    said = dict(outputs(model, examples.inputs))
    return (said[i] for i in range(len(examples)))


def last_answer(targets: Sequence[int]) -> int:
    """Where the last run of counted targets begins.

    >>> last_answer([-100, 5, 6, -100, -100, 7, 8])
    5
    """
    place = len(targets) - 1
    while place and targets[place - 1] != IGNORE:
        place -= 1
    return place


def skill_for(config: FinetuneConfig, labels: Sequence[str] = (), counts: Sequence[int] = ()) -> Skill:
    """The skill that the config names; classify and tag need the labels, and how often each occurs in training."""
    if config.task == "generate":
        return Answer()
    return (Classify if config.task == "classify" else Tag)(config, labels, counts)


def learner(base: Any, skill: Any, config: FinetuneConfig, lora: LoRAConfig | None, seed: int) -> tuple[Any, Any]:
    """The model that will learn, and its tokenizer. In a whole model a conversation gets tokens of its own; an adapter
    and a model with frozen tables cannot learn new rows, and take the base's tokenizer as it is."""
    set_seed(seed)
    generator, tokenizer = torch.Generator().manual_seed(seed), base.tokenizer
    if lora is not None:
        head = None if config.task == "generate" else functools.partial(skill.learner, generator=generator)
        return adapt(base, lora, generator, head), tokenizer
    model = skill.learner(base.model, generator)
    if config.task == "generate" and not config.freeze:
        tokenizer = with_chat_tokens(tokenizer)
        grow_vocabulary(model, tokenizer.vocab_size, generator)
    if config.freeze:
        freeze_first(model, config.freeze)
    return model, tokenizer

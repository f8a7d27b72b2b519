"""What `minilm search` can search: for each kind of model its options, and what a trial of it is, from text to a score.

A language model is scored in bits per byte on text of the training side that the trial has not learnt from: documents of its fold,
or the last tenth. A classifier is scored by its share of wrong labels on its fold. What the corpus keeps aside as validation text,
and what `minilm finetune` would keep aside of labelled texts, no trial sees.
"""

import dataclasses
import hashlib
import json
import math
import shlex
import signal
import typing
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from minilm.classical.config import NgramConfig, OneDiscount
from minilm.cli.model_options import CONFIGS, model_options
from minilm.cli.options import flag_of, make_config
from minilm.finetuning.recipe import FinetuneConfig
from minilm.models.rnn_config import CELLS
from minilm.training.config import TrainConfig
from minilm.training.recipes import RECIPES
from minilm.training.trials import Trial

TRAINED = ("speedrun", "gpt", "llama", *CELLS)
CLASSIFIERS: dict[str, dict[str, type]] = {  # kind -> its options
    "naive-bayes": {"smoothing": float, "longest": int, "min_count": int},
    "logistic-regression": {"strength": float, "longest": int, "min_count": int},
}
MODELS = (*TRAINED, "ngram", *CLASSIFIERS)
STEPS = 200  # of a trial, where nobody says otherwise
# Fields of configs that are no options of a trial: it is as long as its steps, and nobody looks at it on the way.
NO_OPTIONS = {"minutes", "eval_every", "save_every", "seed", "compile", "discounts", "cell"}
Say = Callable[[str], Any]


def option_types(kind: str) -> dict[str, type]:
    """The options that a search of this kind of model may try, and the type of each."""
    if kind in CLASSIFIERS:
        return CLASSIFIERS[kind]
    types: dict[str, type] = {}
    for config in (NgramConfig, OneDiscount) if kind == "ngram" else (CONFIGS[kind], TrainConfig):
        hints = typing.get_type_hints(config)
        for field in dataclasses.fields(config):
            if field.metadata and field.name not in NO_OPTIONS:
                parts = typing.get_args(hints[field.name]) or (hints[field.name],)
                types[field.name] = next(part for part in parts if part is not type(None))
    return types


def in_words(options: dict[str, Any]) -> str:
    """learning_rate=0.003 n_layers=2."""
    return " ".join(
        f"{name}={value:g}" if type(value) is float else f"{name}={value}" for name, value in options.items()
    )


class Language:
    """Language models of one kind on one text. `run` is the folder in which the text lies as tokens."""

    score_name = "bits per byte"

    def __init__(self, kind: str, chosen: dict[str, Any], folds: int, run: Path) -> None:
        self.kind, self.chosen, self.folds, self.run = kind, chosen, folds, run
        self.fixed = {name: chosen[name] for name in option_types(kind) if name in chosen}
        self.how, self.plain = chosen.get("tokenizer", "bpe"), chosen.get("plain", False)
        self.has_steps = kind in TRAINED
        self.texts: dict[int, tuple[Any, np.ndarray]] = {}  # vocab_size -> tokenizer and ids
        self.split = lru_cache(maxsize=1)(self._split)  # the trials of a fold follow each other

    def configs(self, options: dict[str, Any], trial: Trial | None = None) -> tuple[dict[str, Any], TrainConfig]:
        """All that is chosen for a trial, and how it is trained. ValueError for what cannot be.

        The warm-up of a short round of halving is shorter in proportion: it is the whole training in small.
        """
        chosen = {**self.fixed, **options}
        config = make_config(TrainConfig, {"steps": STEPS}, RECIPES.get(self.kind, {}), chosen)
        if trial is not None:
            warmup = math.ceil(config.warmup * trial.budget / config.steps)
            config = dataclasses.replace(config, steps=trial.budget, warmup=warmup, seed=trial.seed)
        return chosen, config

    def check(self, options: dict[str, Any]) -> None:
        """ValueError for options of which no model can be built or trained."""
        chosen, _ = self.configs(options)
        model_options(self.kind, chosen, vocab_size=chosen.get("vocab_size", 1024))

    def load(self, candidates: Sequence[dict[str, Any]], say: Say) -> str:
        """Read the training side, in every vocabulary that a candidate asks for; the digest of what was read."""
        from minilm.cli.doctor import refuse_wrong_device
        from minilm.runtime import pick_device
        from minilm.text.corpus import load_corpus
        from minilm.text.token_file import encode_corpus
        from minilm.text.tokenizer_formats import load_any
        from minilm.training.prepare import train_tokenizer

        device = pick_device(self.chosen.get("device", "auto"))
        if self.has_steps:
            refuse_wrong_device(device, self.configs({})[1].dtype, self.plain, self.kind)
        corpus = load_corpus(self.chosen["data"], progress=say)
        sha, n_bytes = hashlib.sha256(), 0
        for document in corpus.train:
            data = document.encode("utf-8")
            sha.update(len(data).to_bytes(8, "big") + data)
            n_bytes += len(data)
        readable = dataclasses.replace(corpus, validation=())  # a char tokenizer would look at both sides
        for size in sorted({{**self.fixed, **options}.get("vocab_size", 1024) for options in candidates}):
            known = self.how in ("bpe", "char", "byte")
            tokenizer = train_tokenizer(self.how, readable, size) if known else load_any(self.how)
            sha.update(tokenizer.fingerprint.encode())
            tokens = encode_corpus(corpus.train, tokenizer, self.run / f"train-{size}.tokens")
            self.texts[size] = tokenizer, tokens.ids
        held_out = f"{self.folds} folds of its documents" if self.folds else "its last tenth"
        say(f"{corpus.name}: {n_bytes:,} bytes to learn from; scored on {held_out}, the validation text is not touched")
        return sha.hexdigest()

    def _split(self, vocab_size: int, fold: int | None) -> tuple[np.ndarray, np.ndarray]:
        tokenizer, ids = self.texts[vocab_size]
        return split_text(ids, tokenizer.end_of_text, fold, self.folds)

    def score(self, trial: Trial, on_step: Callable[[], Any] = lambda: None) -> float:
        """Bits per byte of the text that is held out, after training on the rest; infinite if the training fails."""
        from minilm.bench.stopwatch import threads_restored
        from minilm.evaluation.evaluate import evaluate
        from minilm.training.loop import TrainingFailed

        chosen, config = self.configs(trial.options, trial)
        vocab_size = chosen.get("vocab_size", 1024)
        learned, held_out = self.split(vocab_size, trial.fold)
        tokenizer = self.texts[vocab_size][0]
        settings = model_options(self.kind, chosen, vocab_size=tokenizer.vocab_size)
        with threads_restored():  # a trial that sets them changes no other one
            try:
                learn = self.train if self.has_steps else self.count
                model = learn(settings, config, learned, tokenizer, on_step)
            except TrainingFailed:
                return math.inf
            return evaluate(model, held_out, tokenizer, max_bytes=self.chosen["score_bytes"]).bits_per_byte

    def count(self, settings: Any, config: TrainConfig, ids: np.ndarray, tokenizer: Any, on_step: Any) -> Any:
        """An n-gram of these ids."""
        from minilm.classical.ngram import NgramLM
        from minilm.models.counted import CountedLM

        return CountedLM(NgramLM(settings).fit(ids, tokenizer.end_of_text))

    def train(self, settings: Any, config: TrainConfig, ids: np.ndarray, tokenizer: Any, on_step: Any) -> Any:
        """A model that is trained as `minilm train` does it, but leaves nothing behind."""
        from minilm.cli.train import STORED
        from minilm.fast.choose import loss_part, parts_for, with_kernels
        from minilm.models.registry import build_model
        from minilm.runtime import pick_device, set_seed
        from minilm.training.loop import train
        from minilm.training.loss import next_token_loss
        from minilm.training.streams import batches_for

        device = pick_device(self.chosen.get("device", "auto"))
        set_seed(config.seed)
        parts = parts_for(self.plain, device, settings)
        model = build_model(STORED.get(self.kind, self.kind), dataclasses.asdict(settings), **parts).to(device)
        model = with_kernels(self.plain, model)
        loss = loss_part(self.plain, False, model).get("loss_function", next_token_loss)
        batches, loss = batches_for(model, ids, config, loss)
        history = train(model, batches, config, loss_function=loss, on_step=lambda *_: on_step(), progress=False)
        if "interrupted" in history[-1]:
            signal.raise_signal(history[-1]["interrupted"])  # the trial is not done: the signal ends the search
        return model

    def advice(self, options: dict[str, Any]) -> str:
        """The command that trains a model with these options."""
        chosen: dict[str, Any] = {
            name: self.chosen[name] for name in ("data", "tokenizer", "device") if name in self.chosen
        }
        steps = {"steps": STEPS} if self.has_steps else {}
        chosen = {**chosen, "model": self.kind, **steps, **self.fixed, **options}
        words = ["minilm", "train"]
        for name, value in chosen.items():
            flag = flag_of(name)
            words += [flag if value else f"--no{flag[1:]}"] if isinstance(value, bool) else [flag, str(value)]
        return shlex.join([*words, *(["--plain"] if self.plain else [])])

    def last_look(self, options: dict[str, Any]) -> dict[str, float]:
        """Nothing: the validation text is for the run that is trained with the winner's options."""
        return {}


class Labels:
    """Classifiers of one kind on labelled texts. The seed deals the texts out to the folds."""

    score_name, has_steps = "share of wrong labels", False

    def __init__(self, kind: str, chosen: dict[str, Any], folds: int) -> None:
        self.kind, self.chosen, self.folds = kind, chosen, folds
        self.examples: Sequence[Any] = ()
        self.aside: Sequence[Any] = ()
        self.dealt = lru_cache(maxsize=1)(self._dealt)

    def make(self, options: dict[str, Any]) -> Any:
        """A classifier with these options that has seen nothing."""
        from minilm.classical.bag_of_ngrams import BagOfNgrams
        from minilm.classical.logistic_regression import LogisticRegression
        from minilm.classical.naive_bayes import NaiveBayes

        of_bag = {name: options[name] for name in ("longest", "min_count") if name in options}
        others = {name: value for name, value in options.items() if name not in of_bag}
        kinds: dict[str, Any] = {"naive-bayes": NaiveBayes, "logistic-regression": LogisticRegression}
        return kinds[self.kind](BagOfNgrams(**of_bag), **others)

    def check(self, options: dict[str, Any]) -> None:
        """ValueError for options that no classifier takes."""
        self.make(options)

    def load(self, candidates: Sequence[dict[str, Any]], say: Say) -> str:
        """Read the labelled texts; the digest of those to learn from."""
        from minilm.cli.skilled import load_data

        columns = (self.chosen.get("text_column"), self.chosen.get("label_column"))
        data = load_data(self.chosen["data"], "classify", FinetuneConfig().kept_aside, 0, columns, say)
        self.examples, self.aside = data.train, data.aside
        say(f"{len(data.train):,} examples in {self.folds} folds; {len(data.aside):,} kept aside, which no trial sees")
        return hashlib.sha256(json.dumps([[*example] for example in data.train]).encode()).hexdigest()

    def _dealt(self, seed: int) -> list[list[int]]:
        from minilm.tasks.cross_validation import stratified_folds

        return stratified_folds(self.examples, self.folds, seed)

    def score(self, trial: Trial, on_step: Callable[[], Any] = lambda: None) -> float:
        """The share of the fold's texts that get a wrong label from a classifier that learnt from the others."""
        from minilm.tasks.cross_validation import parted

        learned, tested = parted(self.examples, self.dealt(trial.seed)[trial.fold or 0])
        return self.wrong(trial.options, learned, tested)

    def wrong(self, options: dict[str, Any], learned: Sequence[Any], tested: Sequence[Any]) -> float:
        from minilm.metrics import accuracy

        model = self.make(options).fit([one.text for one in learned], [one.label for one in learned])
        return 1 - accuracy(model.predict([one.text for one in tested]), [one.label for one in tested])

    def advice(self, options: dict[str, Any]) -> str:
        """How to make the classifier in Python."""
        of_bag = ", ".join(f"{name}={options[name]}" for name in ("longest", "min_count") if name in options)
        others = [f"{name}={options[name]}" for name in ("smoothing", "strength") if name in options]
        name = type(self.make(options)).__name__
        return f"{name}({', '.join([f'BagOfNgrams({of_bag})', *others])}).fit(texts, labels)"

    def last_look(self, options: dict[str, Any]) -> dict[str, float]:
        """The winner on the texts kept aside: the only time that anything sees them."""
        return {"kept_aside": len(self.aside), "accuracy": 1 - self.wrong(options, self.examples, self.aside)}


def split_text(ids: np.ndarray, end_of_text: int, fold: int | None, folds: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids (N,) to learn from, and ids to score that begin with <|endoftext|>: the documents of the fold, or the last tenth.

    Documents are dealt to the folds in turn. Equal ones go together: else a model would be asked what it has learnt by heart.
    """
    from minilm.classical.tuning import k_fold, split_last_tenth

    if fold is None:
        learned, held_out = split_last_tenth(np.asarray(ids), end_of_text)
        begun = held_out[0] == end_of_text
        return learned, held_out if begun else np.concatenate([[end_of_text], held_out.astype(np.int64)])
    documents = np.split(ids, np.flatnonzero(ids == end_of_text))[1:]
    different: dict[bytes, int] = {}
    numbers = [different.setdefault(document.tobytes(), len(different)) for document in documents]
    if len(different) < folds:
        raise ValueError(
            f"{folds} folds of {len(different)} different documents: give fewer --folds, or leave them out"
        )
    chosen = set(k_fold(len(different), folds)[fold][1])
    sides: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for document, number in zip(documents, numbers, strict=True):
        sides[number in chosen].append(document)
    return np.concatenate(sides[0]), np.concatenate(sides[1])

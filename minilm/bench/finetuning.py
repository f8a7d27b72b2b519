"""What is a good start worth? Accuracy on 1,000 texts kept out, over the number of labelled texts, for simple and neural methods.

Simple: the commonest label; naive Bayes and logistic regression, on words and on words and their pairs; a Kneser-Ney n-gram
model of each label. Neural: one small GPT with a head, from random weights, or pretrained on stories, or on the task's own
text without labels; fine-tuned whole, or frozen, so that only its head learns. A seed draws the labelled texts, the head, the
order of the batches and the random weights; the texts kept out and the pretrained weights are the same for all seeds. So the
spread says how much the labelled texts matter; that 1,000 texts are judged adds up to 1.6 points to every number.

Fine-tuning is that of `minilm finetune`, with 10 sqrt(n) steps for n labelled texts. Other settings are tried with --tune, which
judges on a third of the training side, and on other seeds. A row is one method, a column a number of labelled texts.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from minilm.bench.labelled_task import STARTS, Plan, Task, generator, learn
from minilm.bench.table import Job, Request, Row
from minilm.classical.bag_of_ngrams import BagOfNgrams
from minilm.classical.classifier import Classifier
from minilm.classical.config import NgramConfig
from minilm.classical.logistic_regression import LogisticRegression, Objective, newton
from minilm.classical.naive_bayes import NaiveBayes
from minilm.classical.ngram_classifier import NgramClassifier
from minilm.finetuning.predict import outputs
from minilm.metrics import accuracy
from minilm.runtime import keep_freed_memory, pick_device
from minilm.tasks.labelled import Labelled, labels_of
from minilm.training.config import TrainConfig
from minilm.training.loop import TrainingFailed

TASKS = ("silent", "mixed", "twins")
ORDER = 5  # of the n-gram models, in tokens
STRENGTH = 0.003  # the penalty of logistic regression
NO_SPLIT = Request().split
NEURAL = "GPT"  # how the names of the rows begin that it has
Scores = Callable[[int], float]  # number of labelled texts -> accuracy
Method = Callable[[Task, list[Labelled], int], Scores]  # (task, labelled texts, seed) -> its scores


# ---- methods


def majority(task: Task, drawn: list[Labelled], seed: int) -> Scores:
    """The label that most of the labelled texts have, of equals the first in the alphabet."""
    truth = labels_of(task.sides[1])

    def score(n: int) -> float:
        labels = labels_of(drawn[:n])
        commonest = max(sorted(set(labels)), key=labels.count)
        return accuracy([commonest] * len(truth), truth)

    return score


def counting(make: Callable[[Task], Classifier]) -> Method:
    """A method of minilm.classical."""

    def method(task: Task, drawn: list[Labelled], seed: int) -> Scores:
        texts, truth = zip(*task.sides[1], strict=True)

        def score(n: int) -> float:
            known, labels = zip(*drawn[:n], strict=True)
            return accuracy(make(task).fit(known, labels).predict(texts), truth)

        return score

    return method


def linear(make: Callable[[], Classifier]) -> Method:
    """A method that needs nothing of its task but the texts."""
    return counting(lambda task: make())


def ngram_models(task: Task) -> NgramClassifier:
    """A Kneser-Ney model of each label, on the tokens that the GPT reads too."""
    tokenizer = task.tokenizer
    return NgramClassifier(NgramConfig(tokenizer.vocab_size, ORDER), tokenizer.encode, tokenizer.end_of_text)


def finetuned(start: str, changes: Mapping[str, Any], steps: int | None = None) -> Method:
    """All weights of the GPT learn, and the head's; 10 sqrt(n) steps for n labelled texts, if nobody says otherwise."""

    def method(task: Task, drawn: list[Labelled], seed: int) -> Scores:
        length = task.plan.shape["context_length"]
        asked = task.skill.examples(task.sides[1], task.tokenizer, length)

        def score(n: int) -> float:
            model = task.skill.learner(task.backbone(start, seed), generator(seed))
            config = finetuning_config(task.plan, n, seed, changes, steps)
            examples = task.skill.examples(drawn[:n], task.tokenizer, length)
            learn(model, examples.batches(config.batch_size, seed), config, task.skill.loss)
            return task.skill.judge(model, task.tokenizer, asked)["accuracy"]

        return score

    return method


def finetuning_config(plan: Plan, n: int, seed: int, changes: Mapping[str, Any], steps: int | None) -> TrainConfig:
    """The recipe of `minilm finetune`, for n labelled texts."""
    steps = steps or max(1, round(plan.steps_per_root * n**0.5))
    settings = {"steps": steps, "warmup": round(0.1 * steps), "seed": seed, **changes}
    return dataclasses.replace(plan.finetuning, **settings)


class Features:
    """Rows of numbers (N, D) with the two products that logistic regression asks of counts."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows, self.shape = rows, rows.shape

    def __matmul__(self, weights: np.ndarray) -> np.ndarray:
        return self.rows @ weights

    def transposed_matmul(self, residuals: np.ndarray) -> np.ndarray:
        return self.rows.T @ residuals


def frozen(start: str) -> Method:
    """Only the head learns. What it reads never changes, so it is computed once, and the best head is searched for exactly:
    logistic regression on the pooled hidden states."""

    def method(task: Task, drawn: list[Labelled], seed: int) -> Scores:
        model: Any = task.skill.learner(task.backbone(start, seed), generator(seed))
        model.score = nn.Identity()
        known, asked = (pooled(task, model, side) for side in (drawn, task.sides[1]))
        targets = [task.skill.labels.index(label) for label in labels_of(drawn)]
        Y, truth = np.eye(len(task.skill.labels))[targets], labels_of(task.sides[1])

        def score(n: int) -> float:
            objective: Any = Objective(Features(known[:n]), Y[:n], task.plan.frozen_strength)  # type: ignore[arg-type]
            theta = newton(objective, np.zeros((known.shape[1] + 1, Y.shape[1])))
            best = (asked @ theta[:-1] + theta[-1]).argmax(1)
            return accuracy([task.skill.labels[c] for c in best], truth)

        return score

    return method


def pooled(task: Task, headless: nn.Module, examples: Sequence[Labelled]) -> np.ndarray:
    """What the backbone makes of each text: (N, D) float64."""
    inputs = task.skill.examples(examples, task.tokenizer, task.plan.shape["context_length"]).inputs
    rows = dict(outputs(headless, inputs))
    return torch.stack([rows[i] for i in range(len(rows))]).numpy()


def methods(changes: Mapping[str, Any], steps: int | None = None) -> dict[str, Method]:
    """All of them by name, the simple ones first."""
    bags = {"words": BagOfNgrams(1), "words and pairs": BagOfNgrams(2)}
    simple: dict[str, Method] = {"commonest label": majority}
    for name, bag in bags.items():
        simple[f"naive Bayes, {name}"] = linear(partial(NaiveBayes, bag))
        simple[f"logistic regression, {name}"] = linear(partial(LogisticRegression, bag, STRENGTH))
    simple["n-gram model of each label"] = counting(ngram_models)
    whole = {f"{NEURAL}, {start}": finetuned(start, changes, steps) for start in STARTS}
    return simple | whole | {f"{NEURAL}, {start}, frozen": frozen(start) for start in STARTS}


# ---- the table


def table(request: Request, plan: Plan | None = None) -> list[Job]:
    """Seed after seed every task by every method, so that a run that is broken off has compared all of them."""
    plan = plan or Plan()
    if unknown := sorted(request.changes.keys() - {field.name for field in dataclasses.fields(TrainConfig)}):
        raise ValueError(f"--set {unknown[0]}: the shape of this model is fixed; give a field of TrainConfig")
    if request.seconds:
        raise ValueError(
            "--seconds: finetuning counts its steps, so that its rows do not depend on the machine; give --steps"
        )
    if request.split != NO_SPLIT:
        raise ValueError(f"--split: finetuning keeps {plan.kept_out:,} texts out, or a third; leave it out")
    parts = request.attention(False, pick_device(), plan.shape["context_length"])
    tasks = [Task(name, plan, request.tune, parts) for name in ([request.data] if request.data else TASKS)]
    known = methods(request.changes, request.steps)
    return [
        Job(f"{task.title}: {name}", seed, seconds_of(name), partial(row, task, method, seed), ("runs", "split"))
        for seed in request.seeds
        for task in tasks
        for name, method in known.items()
    ]


def seconds_of(name: str) -> float:
    """About how long a row takes."""
    return 15 if name.startswith(NEURAL) and not name.endswith("frozen") else 3


def row(task: Task, method: Method, seed: int) -> Row:
    """The accuracy for each number of labelled texts, and the seconds of processor time that all of them took."""
    keep_freed_memory()
    began = time.process_time()
    score = method(task, task.draw(seed), seed)
    found: Row = {}
    for n in task.sizes:
        try:
            found[str(n)] = score(n)
        except TrainingFailed as failure:
            return {**found, "failed": str(failure).split(":")[0]}
    return {**found, "seconds": time.process_time() - began}


def sizes_in(rows: Iterable[Row]) -> list[int]:
    """The numbers of labelled texts that the rows have columns for."""
    return sorted({int(name) for row in rows for name in row if name.isdecimal()})


def curves(rows: Iterable[Row], task: str) -> tuple[list[int], dict[str, list[list[float]]]]:
    """What `plots.classification.plot_learning_curves` draws of a task: the sizes, and of each method a list of scores for each."""
    mine = [row for row in rows if row["row"].startswith(f"{task}: ")]
    sizes = sizes_in(mine)
    found: dict[str, list[list[float]]] = {}
    for row in mine:
        lists = found.setdefault(row["row"].removeprefix(f"{task}: "), [[] for _ in sizes])
        for scores, n in zip(lists, sizes, strict=True):
            scores += [row[str(n)]] if str(n) in row else []
    return sizes, found


def summaries(rows: Sequence[Row]) -> list[Row]:
    """A row for each method: for each number of labelled texts the mean accuracy over the seeds, ± their standard deviation."""
    found = []
    for name in dict.fromkeys(row["row"] for row in rows):
        mine = [row for row in rows if row["row"] == name]
        scores = {str(n): [row[str(n)] for row in mine if str(n) in row] for n in sizes_in(mine)}
        seconds = statistics.fmean(row.get("seconds", 0.0) for row in mine)
        found.append({"row": name, **{n: spread(s) for n, s in scores.items()}, "seconds": seconds, "seeds": len(mine)})
    return found


def spread(scores: Sequence[float]) -> str:
    """
    >>> spread([0.5, 0.75, 0.7]), spread([0.5])
    ('0.650 ± 0.132', '0.500')
    """
    mean = f"{statistics.fmean(scores):.3f}"
    return f"{mean} ± {statistics.stdev(scores):.3f}" if len(scores) > 1 else mean


def conclusions(rows: Sequence[Row]) -> list[str]:
    """For each task who wins with few and with many labelled texts, and what pretraining is worth to the GPT."""
    said = []
    for task in dict.fromkeys(row["row"].rpartition(": ")[0] for row in rows):
        sizes, found = curves(rows, task)
        means = {name: [statistics.fmean(s) if s else 0.0 for s in lists] for name, lists in found.items()}
        for i in dict.fromkeys((0, len(sizes) - 1)) if sizes else ():
            best = max(means, key=lambda name: means[name][i])
            said.append(f"{task}, {sizes[i]:,} labelled texts: the best is {best}, {means[best][i]:.3f}")
        said += [
            gain(task, start, sizes, means) for start in STARTS[1:] if {*names_of(start)} <= means.keys() and sizes
        ]
    return said


def names_of(start: str) -> tuple[str, str]:
    """The rows that a start is held against: random weights, and its own."""
    return f"{NEURAL}, {STARTS[0]}", f"{NEURAL}, {start}"


def gain(task: str, start: str, sizes: Sequence[int], means: Mapping[str, Sequence[float]]) -> str:
    """In points, at the number of labelled texts where a start changes most, to the better or the worse."""
    plain, better = (means[name] for name in names_of(start))
    points = [100 * (b - a) for a, b in zip(plain, better, strict=True)]
    i = max(range(len(sizes)), key=lambda i: abs(points[i]))
    return f"{task}: a GPT {start} differs most from random weights at {sizes[i]:,} labelled texts, by {points[i]:+.1f} points"

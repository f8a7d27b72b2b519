"""The bench of fine-tuning: its methods are what they are called, and its table says what was measured."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from labelled_tasks import TINY, few_stories, signs, write

from minilm.bench import finetuning
from minilm.bench import labelled_task as tasks
from minilm.bench.finetuning import conclusions, curves, finetuning_config, methods, row, summaries, table
from minilm.bench.labelled_task import STARTS, Plan, Task
from minilm.bench.table import Request, measure
from minilm.cli.main import main
from minilm.tasks.labelled import Labelled
from minilm.training.loop import TrainingFailed

SETTINGS = Request().settings("finetuning")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MINILM_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tasks, "story_texts", few_stories)


@pytest.fixture
def task(tmp_path):
    return Task(write(tmp_path / "signs.jsonl", signs(45)), TINY)


# ---- methods


def test_simple_methods_learn_the_word_that_decides(task):
    known = methods({})
    rows = {name: row(task, known[name], seed=5) for name in known if not name.startswith("GPT")}
    assert rows.pop("commonest label")["12"] == 0.5
    assert {name: found["12"] for name, found in rows.items() if name.startswith(("naive", "logistic"))} == {
        "naive Bayes, words": 1.0,
        "naive Bayes, words and pairs": 1.0,
        "logistic regression, words": 1.0,
        "logistic regression, words and pairs": 1.0,
    }
    assert all([*found] == ["4", "12", "seconds"] for found in rows.values())


def test_pairs_of_words_see_what_words_do_not(tmp_path):
    """Both words in each text; which of them is "not", only a pair can say."""
    examples = [
        Labelled(f"{i} not {a} but {b} {i * i}", b)
        for i in range(60)
        for a, b in [("up", "down"), ("down", "up")][i % 2 :][:1]
    ]
    task, known = Task(write(tmp_path / "a.jsonl", examples), replace(TINY, labels=(30,))), methods({})
    for kind in ("naive Bayes", "logistic regression"):
        assert row(task, known[f"{kind}, words and pairs"], 0)["30"] == 1.0
        assert row(task, known[f"{kind}, words"], 0)["30"] < 0.9
    assert row(task, known["n-gram model of each label"], 0)["30"] > 0.9


def test_a_gpt_learns_whole_and_the_pretrained_one_stays_as_it_was(task):
    shape = {**TINY.shape, "d_model": 32}
    task.plan = replace(TINY, labels=(30,), shape=shape, finetuning=replace(TINY.finetuning, learning_rate=0.01))
    before = [p.clone() for p in task.backbone(STARTS[2], 0).parameters()]
    score = methods({}, steps=250)[f"GPT, {STARTS[2]}"](task, task.draw(0), 0)
    assert score(30) >= 0.9
    assert all(torch.equal(a, b) for a, b in zip(before, task.backbone(STARTS[2], 0).parameters(), strict=True))


def test_rows_depend_on_their_seed_alone(task):
    method = methods({}, steps=4)[f"GPT, {STARTS[0]}"]
    first = row(task, method, 3)
    torch.rand(7)
    assert {**row(task, method, 3), "seconds": 0} == {**first, "seconds": 0}


def test_a_frozen_head_is_the_best_one_by_gradient_descent(task):
    """The oracle: torch's autograd on the same penalised loss finds no head that is better."""
    name = f"GPT, {STARTS[0]}, frozen"
    seen = []
    real = finetuning.newton

    def newton(objective, theta):
        seen.append((objective, real(objective, theta)))
        return seen[-1][1]

    finetuning.newton = newton
    try:
        found = row(task, methods({})[name], 0)
    finally:
        finetuning.newton = real
    objective, theta = seen[-1]
    X, Y = torch.from_numpy(objective.X.rows), torch.from_numpy(objective.Y)
    assert X.shape == (12, 8) and Y.sum(0).tolist() == [6, 6]
    weights = torch.from_numpy(theta).requires_grad_()
    log_p = (X @ weights[:-1] + weights[-1]).log_softmax(-1)
    loss = -(log_p * Y).sum() / 12 + TINY.frozen_strength / 2 * (weights[:-1] ** 2).sum()
    loss.backward()
    assert weights.grad.norm() < 1e-8
    assert all(0 <= found[n] <= 1 for n in ("4", "12"))


def test_frozen_features_are_the_mean_of_the_hidden_states(task):
    model = task.skill.learner(task.fresh(0), torch.Generator().manual_seed(0))
    model.score = finetuning.nn.Identity()
    rows = finetuning.pooled(task, model, task.sides[1][:3])
    for features, (text, _) in zip(rows, task.sides[1], strict=False):
        ids = [task.tokenizer.end_of_text, *task.tokenizer.encode(text)[-19:]]
        hidden = model.backbone.hidden(torch.tensor([ids]))[0].mean(0)
        np.testing.assert_allclose(features, hidden.detach().numpy(), atol=1e-6)


def test_steps_grow_with_the_root_of_the_labels():
    assert [finetuning_config(Plan(), n, 7, {}, None).steps for n in (20, 2000)] == [
        round(Plan().steps_per_root * math.sqrt(n)) for n in (20, 2000)
    ]
    config = finetuning_config(Plan(), 20, 7, {"learning_rate": 0.5}, 40)
    assert (config.steps, config.warmup, config.seed, config.learning_rate) == (40, 4, 7, 0.5)


def test_a_training_that_fails_is_a_row_that_says_so(task):
    def method(task, drawn, seed):
        def score(n):
            if n > 4:
                raise TrainingFailed("step 3: loss nan")
            return 0.5

        return score

    assert row(task, method, 0) == {"4": 0.5, "failed": "step 3"}


# ---- the table


def test_every_task_by_every_method_seed_after_seed(tmp_path):
    jobs = table(Request(seeds=(4, 5)), TINY)
    names = [f"{task}: {name}" for task in finetuning.TASKS for name in methods({})]
    assert [(job.seed, job.name) for job in jobs] == [(seed, name) for seed in (4, 5) for name in names]
    assert len(names) == 36


def rows_of(name, *scores):
    return [{"row": name, "seed": i, "settings": SETTINGS, **pair} for i, pair in enumerate(scores)]


ROWS = [
    *rows_of("a: b: x", {"20": 0.5, "200": 0.75, "seconds": 2.0}, {"20": 0.7, "200": 0.75, "seconds": 4.0}),
    *rows_of("a: b: GPT, random weights", {"20": 0.5, "200": 0.5, "seconds": 2.0}),
    *rows_of("a: b: GPT, pretrained on stories", {"20": 0.4, "200": 0.9, "seconds": 2.0}),
    *rows_of("c: x", {"20": 0.25, "failed": "step 3"}),
]


def test_summaries_are_means_and_deviations():
    found = summaries(ROWS)
    assert found[0] == {"row": "a: b: x", "20": "0.600 ± 0.141", "200": "0.750 ± 0.000", "seconds": 3.0, "seeds": 2}
    assert found[3] == {"row": "c: x", "20": "0.250", "seconds": 0.0, "seeds": 1}


def test_conclusions_are_computed_from_the_rows():
    assert conclusions(ROWS) == [
        "a: b, 20 labelled texts: the best is x, 0.600",
        "a: b, 200 labelled texts: the best is GPT, pretrained on stories, 0.900",
        "a: b: a GPT pretrained on stories differs most from random weights at 200 labelled texts, by +40.0 points",
        "c, 20 labelled texts: the best is x, 0.250",
    ]
    assert conclusions([]) == []
    assert conclusions(rows_of("c: x", {"failed": "step 1"})) == []


def test_curves_are_what_the_picture_draws():
    from minilm.plots.classification import plot_learning_curves

    sizes, found = curves(ROWS, "a: b")
    assert sizes == [20, 200] and found["x"] == [[0.5, 0.7], [0.75, 0.75]] and len(found) == 3
    plot_learning_curves(sizes, found, chance=0.5)


def test_the_verb_measures_and_resumes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(finetuning, "Plan", lambda: TINY)
    file, out = write(tmp_path / "signs.jsonl", signs(45)), str(tmp_path / "rows.jsonl")
    arguments = ["bench", "finetuning", "--data", file, "--out", out, "--steps", "3", "--seeds", "2"]
    assert main([*arguments, "--only", "GPT"]) == 0
    shown = capsys.readouterr().out
    assert "signs: GPT, pretrained on stories, frozen" in shown and " ± " in shown and "the best is GPT" in shown
    monkeypatch.setattr(finetuning, "row", lambda *_: pytest.fail("measured again"))
    assert main([*arguments, "--only", "GPT", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 12


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--data", "nowhere.csv"], "nowhere.csv"),
        (["--seconds", "3"], "--seconds: finetuning counts its steps"),
        (["--split", "0.8"], "--split: finetuning keeps 1,000 texts out"),
        (["--set", "n_layers=3"], "--set n_layers: the shape of this model is fixed"),
    ],
)
def test_what_cannot_be_asked_is_one_line(arguments, said, capsys):
    assert main(["bench", "finetuning", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_rows_of_other_settings_are_measured_again(tmp_path):
    out, done = tmp_path / "rows.jsonl", []
    for request in (
        Request(),
        Request(changes={"batch_size": 8}),
        Request(steps=3),
        Request(tune=True),
        Request(runs=9),
    ):
        jobs = [job._replace(measure=lambda: done.append(1) or {}) for job in table(request, TINY)[:1]]
        list(measure(jobs, request.settings("finetuning"), out, progress=False))
    assert len(done) == 4

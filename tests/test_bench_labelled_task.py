"""A task of the bench of fine-tuning: what it learns from and what it asks are apart, and models are pretrained once."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from labelled_tasks import TINY, few_stories, signs, write

from minilm.bench import labelled_task as tasks
from minilm.bench.labelled_task import STARTS, Task

STORY_TEXTS = tasks.story_texts  # before the fixture puts something cheap into its place


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MINILM_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tasks, "story_texts", few_stories)


@pytest.fixture
def task(tmp_path):
    return Task(write(tmp_path / "signs.jsonl", signs(45)), TINY)


# ---- data


def test_pool_and_texts_kept_out_are_apart_and_a_third_at_most(task):
    pool, kept_out = task.sides
    assert len(kept_out) == 10 and len(pool) == 35
    assert {*pool} | {*kept_out} == {*signs(45)} and not {*pool} & {*kept_out}


def test_a_short_file_keeps_a_third_out(tmp_path):
    pool, kept_out = Task(write(tmp_path / "a.jsonl", signs(18)), TINY).sides
    assert (len(pool), len(kept_out)) == (12, 6)


def test_tuning_does_not_look_at_the_texts_kept_out(tmp_path):
    file = write(tmp_path / "a.jsonl", signs(45))
    kept_out = Task(file, TINY).sides[1]
    pool, judged = Task(file, TINY, tune=True).sides
    assert not {*kept_out} & ({*pool} | {*judged}) and not {*pool} & {*judged}
    assert (len(pool), len(judged)) == (23, 10)


def test_the_story_world_has_two_splits():
    pool, kept_out = Task("twins", TINY).sides
    assert pool == tasks.labelled(30, 0, "twins", "train") and kept_out == tasks.labelled(10, 0, "twins", "test")


def test_stories_to_pretrain_on_come_from_the_training_split():
    assert STORY_TEXTS(3) == [example.text for example in tasks.labelled(3, 1, "stories", "train")]


def test_no_text_kept_out_is_pretrained_on(task):
    for texts in task.unlabelled.values():
        assert not {*texts} & {example.text for example in task.sides[1]}
    assert task.unlabelled[STARTS[2]] == [example.text for example in task.sides[0]]


def test_the_first_n_drawn_texts_have_each_label_in_its_proportion(tmp_path):
    shares = ("up", "up", "up", "down", "sideways")
    task = Task(write(tmp_path / "a.jsonl", signs(75, shares)), replace(TINY, labels=(5, 10, 40)))
    drawn = task.draw(seed=3)
    assert len(drawn) == len({*drawn}) == 40 and {*drawn} <= {*task.sides[0]}
    pool = Counter(example.label for example in task.sides[0])
    for n in task.sizes:
        for label, count in Counter(example.label for example in drawn[:n]).items():
            assert abs(count - n * pool[label] / len(task.sides[0])) < 1
    assert drawn == task.draw(seed=3) != task.draw(seed=4)


def test_sizes_beyond_the_pool_are_left_out(task):
    assert task.sizes == [4, 12]


# ---- starts


def test_pretrained_weights_are_found_again_and_belong_to_their_text(task, monkeypatch):
    first = {start: task.backbone(start, seed=1) for start in STARTS[1:]}
    monkeypatch.setattr(tasks, "learn", lambda *_: pytest.fail("trained again"))
    again = Task(task.name, TINY)
    for start, model in first.items():
        other = again.backbone(start, seed=2)
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    weights = [next(model.parameters()) for model in first.values()]
    assert not torch.equal(*weights) and not torch.equal(weights[0], next(task.fresh(0).parameters()))
    changed = Task(task.name, replace(TINY, pretraining=replace(TINY.pretraining, learning_rate=0.01)))
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        changed.backbone(STARTS[1], seed=1)


def test_random_weights_are_drawn_by_the_seed(task):
    a, b, c = (next(task.backbone(STARTS[0], seed).parameters()) for seed in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_a_small_text_is_not_read_too_often(task, monkeypatch):
    asked = []
    monkeypatch.setattr(
        tasks, "learn", lambda model, batches, config, loss: asked.append((config.steps, len(batches.ids)))
    )
    few = Task(task.name, replace(TINY, pretraining=replace(TINY.pretraining, steps=10_000), epochs=2))
    few.pretrain(few.unlabelled[STARTS[2]])
    ((steps, n_ids),) = asked
    assert (steps - 1) * 2 * 20 < 2 * n_ids <= steps * 2 * 20

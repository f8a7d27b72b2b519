"""What `minilm finetune` learns from: a base, and examples of a file or of the story world; and what simple methods can do."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minilm.tasks.sentiment import FORMS

N_STORIES = 2000  # examples of the story world, where no number is said
# The names of its data -> the form of sentiment, for classify, which alone has all of them: `stories` is a name of every task.
FORM_OF = {"stories": "mixed", "whole": "stories", **{form: form for form in FORMS if form != "stories"}}


@dataclass(frozen=True)
class Data:
    """The examples of both sides, the labels (none for answers), and how often each occurs among those to learn from."""

    train: Sequence[Any]
    aside: Sequence[Any]
    labels: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()


def load_data(
    name: str,
    task: str,
    kept_aside: float,
    seed: int,
    columns: tuple[str | None, str | None],
    say: Callable[[str], None],
) -> Data:
    """The data of a task: `stories` or `stories:N`, for classify also `twins:N` and the other forms, or a file or folder."""
    world, _, number = name.partition(":")
    if world in FORM_OF and not Path(name).exists():
        return counted(*story_data(world, number, task, kept_aside, seed), task)
    if not Path(name).exists():
        raise ValueError(
            f"--data {name} is neither a file or folder nor one of the built-in {', '.join(FORM_OF)}: check the path"
        )
    if task == "classify":
        from minilm.tasks.cross_validation import split_labelled
        from minilm.tasks.labelled import load_labelled, load_parts

        parts = load_parts(name) if columns == (None, None) else None
        return counted(*(parts or split_labelled(load_labelled(name, *columns, say=say), kept_aside, seed)), task)
    if columns != (None, None):
        raise ValueError(f"--text-column and --label-column are for --task classify, not {task}: leave them out")
    if task == "tag":
        from minilm.tasks.tagged import load_tagged

        rows: list[Any] = load_tagged(name)
        return counted(*learnable(*share_out(rows, kept_aside, seed, lambda row: row.words), say), task)
    from minilm.tasks.pairs import load_conversations

    rows = load_conversations(name, say=say)
    return counted(*share_out(rows, kept_aside, seed, lambda row: tuple(said["content"] for said in row[:-1])), task)


def story_data(form: str, number: str, task: str, kept_aside: float, seed: int) -> tuple[list[Any], list[Any]]:
    """Examples of the story world to learn from, and others, of other events, to judge by."""
    if number and not (number.isdecimal() and 20 <= int(number) <= 10**6):
        raise ValueError(f"--data {form}:{number}: give a number from 20 to 1,000,000, such as {form}:2000")
    if task != "classify" and form != "stories":
        raise ValueError(f"--data {form} is for --task classify: use stories, or a file, to {task}")
    from minilm.tasks.instructions import instructions
    from minilm.tasks.sentiment import labelled
    from minilm.tasks.tagging import tagged

    def draw(n: int, split: str) -> list[Any]:
        if task == "classify":
            return labelled(n, seed, FORM_OF[form], split)
        if task == "tag":
            return list(tagged(n, seed, split))
        return [[*one.messages] for one in instructions(n, seed, split)]

    n = int(number or N_STORIES)
    n_aside = max(10, 2 * round(kept_aside * n / 2))
    return draw(n - n_aside, "train"), draw(n_aside, "test")


def share_out(
    rows: Sequence[Any], kept_aside: float, seed: int, key: Callable[[Any], Hashable]
) -> tuple[list[Any], list[Any]]:
    """(train, aside): which side a row is on depends on the hash of its key and the seed alone; equal keys stay together."""
    hashes = [hashlib.sha256(repr((seed, key(row))).encode()).digest() for row in rows]
    different = sorted(set(hashes))
    if len(different) < 2:
        raise ValueError(
            f"{len(different)} different example: give at least two, one to learn from and one to judge by"
        )
    aside = set(different[: min(len(different) - 1, max(1, round(kept_aside * len(different))))])
    sides: tuple[list[Any], list[Any]] = ([], [])
    for row, digest in zip(rows, hashes, strict=True):
        sides[digest in aside].append(row)
    return sides


def learnable(train: list[Any], aside: list[Any], say: Callable[[str], None]) -> tuple[list[Any], list[Any]]:
    """(train, aside) of tagged sentences, after those with a tag that only stands aside have changed sides; but not all of them."""
    known = {tag for row in train for tag in row.tags}
    rare = {row.words for row in aside if not known.issuperset(row.tags)}
    left = [row for row in aside if row.words not in rare]
    if not rare or not left:
        return train, aside
    new = sorted({tag for row in aside for tag in row.tags} - known)
    n = len(aside) - len(left)
    say(f"{n:,} with a tag that no other example has, such as {new[0]!r}: learned from, and not kept aside")
    return train + [row for row in aside if row.words in rare], left


def refuse_share(name: str) -> None:
    """ValueError for a share to keep aside of a folder that comes with its own test."""
    if all((Path(name) / part).is_dir() for part in ("train", "test")):
        raise ValueError(f"--kept-aside: {name} has a folder test, which is kept aside as it is: leave the option out")


def counted(train: Sequence[Any], aside: Sequence[Any], task: str) -> Data:
    """The two sides with their labels; ValueError for one label only, or one that nobody could have learnt."""
    if task == "generate":
        return Data(train, aside)
    found = [Counter(labels_in(rows, task)) for rows in (train, aside)]
    if new := sorted(set(found[1]) - set(found[0])):
        raise ValueError(f"label {new[0]!r} occurs only among the examples kept aside: give more examples of it")
    labels = sorted(found[0])
    if len(labels) < 2:
        raise ValueError(
            f"all examples have the label {labels[0]!r}: there is nothing to learn, give at least two labels"
        )
    return Data(train, aside, tuple(labels), tuple(found[0][label] for label in labels))


def labels_in(rows: Sequence[Any], task: str) -> list[str]:
    """All labels of the rows, one after the other."""
    return [row.label for row in rows] if task == "classify" else [tag for row in rows for tag in row.tags]


def simple_methods(data: Data, task: str, say: Callable[[str], None] = print) -> dict[str, float]:
    """The accuracy, on what is kept aside, of methods that anybody would try first: what fine-tuning must be held against.
    One that cannot learn from these examples is left out, and `say` is told."""
    if task == "generate":
        return {}
    truth = labels_in(data.aside, task)
    commonest = data.labels[max(range(len(data.labels)), key=lambda i: data.counts[i])]
    scores = {f"always {commonest!r}": truth.count(commonest) / len(truth)}
    if task == "classify":
        from minilm.classical.bag_of_ngrams import BagOfNgrams
        from minilm.classical.logistic_regression import LogisticRegression

        bag = BagOfNgrams()
        if not any(any(bag.ngrams(row.text)) for row in data.train):
            say("no text has a word of letters or digits: without a comparison with logistic regression on words")
            return scores
        counted_words = LogisticRegression(bag).fit([row.text for row in data.train], [row.label for row in data.train])
        given = counted_words.predict([row.text for row in data.aside])
        name = "logistic regression on words"
    else:
        tags: dict[str, Counter[str]] = {}
        for row in data.train:
            for word, tag in zip(row.words, row.tags, strict=True):
                tags.setdefault(word.strip(), Counter())[tag] += 1
        known = {word: counts.most_common(1)[0][0] for word, counts in tags.items()}
        given = [known.get(word.strip(), commonest) for row in data.aside for word in row.words]
        name = "each word's commonest tag"
    return {**scores, name: sum(a == b for a, b in zip(given, truth, strict=True)) / len(truth)}


def describe(name: str, sides: dict[str, Any], labels: tuple[str, ...], context_length: int) -> str:
    """What there is to learn from, in a sentence or three."""
    train, aside = sides["train"], sides["aside"]
    shown = ", ".join(labels[:8]) + (", ..." if len(labels) > 8 else "")
    parts = [
        f"{name}: {len(train):,} examples to learn from, {len(aside):,} kept aside"
        + (f"; labels {shown}" if labels else "")
    ]
    shortened, dropped = (getattr(train, what) + getattr(aside, what) for what in ("shortened", "dropped"))
    if shortened:
        parts.append(
            f"{shortened:,} were longer than the model reads ({context_length} tokens): a part of each is left out; "
            "a base trained with a larger --context-length reads more"
        )
    if dropped:
        parts.append(f"{dropped:,} left out whole: their answers do not fit")
    return "\n".join(parts)


def load_base(path: str, device: str) -> Any:
    """The checkpoint of the trained model, on the device and with the attention that is fastest there."""
    from minilm.cli.doctor import refuse_wrong_device
    from minilm.fast.choose import parts_for
    from minilm.runtime import pick_device
    from minilm.training.checkpoint import load_checkpoint

    place = pick_device(device)
    refuse_wrong_device(place)
    checkpoint = load_checkpoint(path)
    if not hasattr(checkpoint.model, "hidden"):
        raise ValueError(
            f"{path} holds a {checkpoint.model.kind} model, which is counted: fine-tuning needs a gpt or speedrun"
        )
    if checkpoint.model.kind not in ("gpt", "speedrun", "rnn"):
        raise ValueError(f"{path} holds a {checkpoint.model.kind}: fine-tune the model that it was made from")
    part = parts_for(False, place, checkpoint.model.config)
    checkpoint = load_checkpoint(checkpoint.path, **part)
    checkpoint.model.to(place)
    return checkpoint


def untrained(base: Any, skill: Any, rows: Any) -> dict[str, Any]:
    """How good the trained model is before it was taught: asked in its own tokens, for those of a chat say nothing yet."""
    examples = skill.examples(rows, base.tokenizer, base.model.config.context_length)
    return skill.judge(base.model, base.tokenizer, examples)


def judge_skill(checkpoint: Any, path: str | None, as_json: bool) -> int:
    """How good a model that was taught a skill is on the examples of a file, or on those kept aside: `minilm evaluate`."""
    from minilm.finetuning.examples import Examples
    from minilm.finetuning.recipe import FinetuneConfig
    from minilm.finetuning.skills import n_judged, skill_for

    taught, labels = checkpoint.state["finetune"], checkpoint.state["labels"]
    config = FinetuneConfig(**taught)
    skill = skill_for(config, labels, [1] * len(labels))
    if path is None:
        examples = Examples.load(checkpoint.path.parent / "aside.json")
    else:
        columns = (taught.get("text_column"), taught.get("label_column"))
        rows = rows_to_judge(path, config.task, labels, columns, say=(lambda line: None) if as_json else print)
        examples = skill.examples(rows, checkpoint.tokenizer, checkpoint.model.config.context_length)
    figures = skill.judge(checkpoint.model, checkpoint.tokenizer, examples)
    if as_json:
        print(json.dumps({"examples": len(examples), "judged": n_judged(config.task, len(examples)), **figures}))
    else:
        by_them = "; its step was chosen by them" if path is None and step_was_chosen(checkpoint) else ""
        print(f"on {which(config.task, len(examples))}{by_them}: {in_words(figures)}")
    return 0


def step_was_chosen(checkpoint: Any) -> bool:
    """Whether a run chose the best of several checkpoints by the examples kept aside, which then flatter it a little."""
    plan = checkpoint.state["train"]
    return 0 < plan["eval_every"] < plan["steps"] and 0 < plan["save_every"] < plan["steps"]


def which(task: str, n: int) -> str:
    """How many examples the figures speak of, and of how many."""
    from minilm.finetuning.skills import n_judged

    judged = n_judged(task, n)
    return f"{n:,} examples" if judged == n else f"{judged:,} of {n:,} examples"


def rows_to_judge(
    path: str, task: str, labels: Sequence[str], columns: tuple[str | None, str | None], say: Callable[[str], None]
) -> list[Any]:
    """The examples of a file; ValueError for a label that the model does not know."""
    if not Path(path).exists():
        raise ValueError(f"--data {path} is not there: name a file or folder of examples as they were in fine-tuning")
    if task == "generate":
        from minilm.tasks.pairs import load_conversations

        return load_conversations(path, say=say)
    if task == "classify":
        from minilm.tasks.labelled import load_labelled

        rows: list[Any] = load_labelled(path, *(columns if Path(path).is_file() else (None, None)), say=say, least=1)
    else:
        from minilm.tasks.tagged import load_tagged

        rows = load_tagged(path)
    if unknown := sorted(set(labels_in(rows, task)) - set(labels)):
        raise ValueError(
            f"{path} has the label {unknown[0]!r}, which the model does not know: it knows {', '.join(labels)}"
        )
    return rows


def in_words(figures: dict[str, Any]) -> str:
    """The figures of a skill that are single numbers, from 0 to 1."""
    return ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in figures.items() if name != "confusion")

"""The three skills: from data to ids, to a model that has learnt them, to honest figures."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from minilm.finetuning.batches import PAD
from minilm.finetuning.examples import Examples
from minilm.finetuning.recipe import FinetuneConfig
from minilm.finetuning.skills import Answer, Classify, Tag, last_answer, skill_for
from minilm.finetuning.vocabulary import grow_vocabulary, with_chat_tokens
from minilm.finetuning.words import encode_words
from minilm.models.config import GPTConfig
from minilm.models.gpt import GPT
from minilm.text.chat import encode_chat
from minilm.text.tokenizer import CharTokenizer
from minilm.training.config import TrainConfig
from minilm.training.loop import train
from minilm.training.loss import IGNORE

LETTERS = CharTokenizer.train(["abc xyz.:\nUserAssistant"])


def small(vocab_size: int = LETTERS.vocab_size, context_length: int = 24) -> GPT:
    torch.manual_seed(3)
    return GPT(GPTConfig(vocab_size, context_length=context_length, d_model=24, n_layers=2, n_heads=3)).double()


def teach(skill: Any, model: Any, examples: Examples, steps: int = 120) -> None:
    config = TrainConfig(steps=steps, learning_rate=5e-3, eval_every=0, dtype="float32", threads=1)
    train(model, examples.batches(16), config, loss_function=skill.loss, progress=False)


def talk(question: str, reply: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]


def test_a_text_that_is_too_long_is_counted_and_keeps_its_end() -> None:
    skill = skill_for(FinetuneConfig(), ("no", "yes"), (1, 1))
    examples = skill.examples([("abc", "yes"), ("xyz", "no"), ("x" * 9 + "ab", "no"), ("zabc", "yes")], LETTERS, 4)
    end = LETTERS.end_of_text
    assert examples.inputs == [[end, *LETTERS.encode(text)] for text in ("abc", "xyz", "xab", "abc")]
    assert (examples.targets, examples.pad, examples.shortened) == ([1, 0, 0, 1], PAD, 2)


def test_words_that_do_not_fit_have_no_tag() -> None:
    skill = skill_for(FinetuneConfig(task="tag"), ("B-X", "O"), (1, 1))
    examples = skill.examples([(("ab", "c"), ("O", "B-X")), (("abcabc", "x"), ("B-X", "O"))], LETTERS, 7)
    assert examples.targets == [[IGNORE, IGNORE, 1, IGNORE, 0], [IGNORE] * 6 + [0]]
    assert examples.shortened == 1


@pytest.mark.parametrize("chat", [True, False], ids=["tokens", "text"])
def test_an_answer_is_found_again_in_its_ids(chat: bool) -> None:
    """What is judged is asked with the ids in front of the answer, whichever form the conversation has."""
    tokenizer = with_chat_tokens(LETTERS) if chat else LETTERS
    conversations = [talk("ab", "xyz"), [*talk("a", "x"), *talk("b", "y z")], talk("c", "")]
    examples = Answer().examples(conversations, tokenizer, 200)
    for messages, ids, targets in zip(conversations, examples.inputs, examples.targets, strict=True):
        start = last_answer(targets)
        assert tokenizer.decode(targets[start:-1]).strip() == messages[-1]["content"]
        if chat:
            assert ids[: start + 1] == encode_chat(messages[:-1], tokenizer, reply=True)
        else:
            assert tokenizer.decode(ids[1 : start + 1]).endswith("Assistant:")
        assert targets[-1] == (tokenizer.special_tokens["<|end|>"] if chat else tokenizer.end_of_text)


def test_classify_is_learnt_and_judged() -> None:
    """Whether an x stands in the text; judged wrong exactly as often as it is wrong."""
    skill, data = Classify(FinetuneConfig(), ("no", "yes"), (1, 1)), []
    for i in range(64):
        text = "".join("abc"[(i // 3**k) % 3] for k in range(4))
        data += [(text, "no"), (text[:2] + "x" + text[2:], "yes")]
    model, examples = skill.learner(small(), torch.Generator().manual_seed(0)), skill.examples(data, LETTERS, 24)
    before = skill.judge(model, LETTERS, examples)
    assert before["accuracy"] < 0.8
    teach(skill, model, examples, 150)
    figures = skill.judge(model, LETTERS, examples)
    assert figures == {"accuracy": 1.0, "macro_f1": 1.0, "confusion": [[64, 0], [0, 64]]}
    wrong = Examples(examples.inputs, [1 - target if i < 3 else target for i, target in enumerate(examples.targets)])
    assert skill.judge(model, LETTERS, wrong)["accuracy"] == pytest.approx(125 / 128)


def test_tag_is_learnt_and_judged() -> None:
    """xyz is a name, and so is the word behind it."""
    skill, rows = Tag(FinetuneConfig(task="tag"), ("B-N", "I-N", "O"), (1, 1, 1)), []
    for i in range(60):
        before, behind = ["a", "b", "c"][i % 3 :], ["c", "ab"][: i % 3]
        words = [*before, "xyz", "abc"[i % 2 :], *behind]
        rows.append((words, [*["O"] * len(before), "B-N", "I-N", *["O"] * len(behind)]))
    model, examples = skill.learner(small(), torch.Generator().manual_seed(0)), skill.examples(rows, LETTERS, 24)
    teach(skill, model, examples)
    assert skill.judge(model, LETTERS, examples) == {"accuracy": 1.0, "entity_f1": 1.0}
    ids, places = encode_words(rows[0][0], LETTERS, 24)
    assert examples.inputs[0] == ids and [examples.targets[0][place] for place in places] == [2, 2, 2, 0, 1]


def test_answers_are_learnt_and_judged() -> None:
    tokenizer = with_chat_tokens(LETTERS)
    skill = Answer()
    model = skill.learner(small(), torch.Generator().manual_seed(0))
    grow_vocabulary(model, tokenizer.vocab_size, torch.Generator().manual_seed(0))
    examples = skill.examples(
        [talk(letter, reply) for letter, reply in zip("abc", "xyz", strict=True)] * 8, tokenizer, 24
    )
    teach(skill, model, examples, 100)
    assert skill.judge(model, tokenizer, examples) == {"exact_match": 1.0, "token_f1": 1.0, "rouge_l": 1.0}
    other = skill.examples([talk("a", "x y")], tokenizer, 24)
    figures = skill.judge(model, tokenizer, other)
    assert figures["exact_match"] == 0 and figures["token_f1"] == pytest.approx(2 / 3)


def test_the_mean_loss_counts_each_label_once() -> None:
    """Whatever the batch size, as one by one; and the model's mode is as before."""
    model, skill = small().train(), Answer()
    examples = skill.examples([talk("a", "x"), talk("abc abc", "xyz"), talk("b", "")], LETTERS, 60)
    model = small(context_length=60).train()
    total, counted = 0.0, 0
    for ids, targets in zip(examples.inputs, examples.targets, strict=True):
        n = sum(target != IGNORE for target in targets)
        total += n * skill.loss(model.eval(), torch.tensor([ids]), torch.tensor([targets])).item()
        counted += n
    model.train()
    for batch_size in (1, 2, 3, 50):
        assert examples.mean_loss(model, skill.loss, batch_size) == pytest.approx(total / counted, abs=1e-12)
    assert model.training


def test_examples_come_back_from_their_file(tmp_path: Path) -> None:
    examples = Examples([[1, 2], [3]], [[IGNORE, 4], [5]], pad=7, shortened=1, dropped=2)
    examples.save(tmp_path / "some.json")
    assert Examples.load(tmp_path / "some.json") == examples
    with pytest.raises(ValueError, match="2 rows and 1 answers"):
        dataclasses.replace(examples, targets=[[1]])


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="task is 'sing': choose one of classify, tag, generate"):
        FinetuneConfig(task="sing")
    with pytest.raises(ValueError, match=r"kept_aside is 1\.5: it must be from 0\.001 to 0\.9"):
        FinetuneConfig(kept_aside=1.5)

"""`minilm finetune`: what it learns from and what its figures speak of is what it says, and no more."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from minilm.cli.main import main
from minilm.cli.skilled import FORM_OF, Data, learnable, load_data, simple_methods
from minilm.finetuning.examples import Examples
from minilm.finetuning.recipe import FinetuneConfig
from minilm.finetuning.sft import complete
from minilm.finetuning.skills import JUDGED_ANSWERS, drawn, skill_for
from minilm.metrics import are_bio, entity_f1, macro_f1
from minilm.models.config import GPTConfig
from minilm.models.gpt import GPT
from minilm.tasks import tagged
from minilm.tasks.labelled import Labelled
from minilm.tasks.sentiment import FORMS, labelled
from minilm.tasks.tagging import Tagged
from minilm.text.chat import encode_prompt
from minilm.text.joining import join_words
from minilm.text.tokenizer import ByteTokenizer
from minilm.training.checkpoint import load_checkpoint, save_checkpoint

Capture = pytest.CaptureFixture[str]
QUICK = ["--device", "cpu", "--threads", "1", "--dtype", "float32"]


@pytest.fixture
def base(tmp_path: Path) -> str:
    """A GPT with random weights and a tied head, as if it had been trained."""
    torch.manual_seed(1)
    model = GPT(GPTConfig(257, context_length=48, d_model=24, n_layers=2, n_heads=3, dropout=0.1))
    save_checkpoint(tmp_path / "base", model, ByteTokenizer())
    return str(tmp_path / "base")


def table(path: Path, rows: list[tuple[str, str]], header: str = "text,label") -> str:
    path.write_text(header + "\n" + "".join(f"{text},{label}\n" for text, label in rows), encoding="utf-8")
    return str(path)


def questions(path: Path, n: int) -> str:
    rows = [{"prompt": f"{i} and 1?", "answer": "abc"[i % 3] * 3} for i in range(n)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def complaint(capsys: Capture) -> str:
    said = capsys.readouterr().err
    assert said.startswith("minilm: ") and said.count("\n") == 1, said
    return said


def test_row_59_with_frozen_tables_a_model_learns_to_stop(base: str, tmp_path: Path) -> None:
    """A new token would be a row that never learns, of the head too where it is tied: the end is one that the base knows."""
    data, out = questions(tmp_path / "qa.jsonl", 30), str(tmp_path / "out")
    flags = ["--freeze", "1", "--steps", "100", "--learning-rate", "1e-2", "--json", *QUICK]
    assert main(["finetune", base, "--task", "generate", "--data", data, "--out", out, *flags]) == 0
    taught = load_checkpoint(out)
    assert taught.tokenizer.vocab_size == taught.model.config.vocab_size == 257
    asked = [[{"role": "user", "content": f"{i} and 1?"}] for i in range(30)]
    prompts = [encode_prompt(messages, taught.tokenizer) for messages in asked]
    done = complete(taught.model, taught.tokenizer, prompts, 8)
    assert sum(completion.reason == "stop token" for completion in done) >= 27


# ---- tags


def test_names_are_counted_only_where_tags_name_them() -> None:
    assert are_bio(["O", "B-x", "I-work-of-art", "B", "I"]) and not any(
        are_bio([tag]) for tag in ("NOUN", "Bx", "E-x", "B-", "o", "O-x", "")
    )
    with pytest.raises(ValueError, match="'NOUN' is no BIO tag"):
        entity_f1([["NOUN"]], [["NOUN"]])


def test_parts_of_speech_are_judged_by_macro_f1() -> None:
    """A model that always says the same is often wrong, and its figures say so."""
    labels, rows = ("NOUN", "VERB"), [(("ab", " c", " ab"), ("NOUN", "VERB", "NOUN")), (("c", " c"), ("VERB", "NOUN"))]
    skill = skill_for(FinetuneConfig(task="tag"), labels, (1, 1))
    examples = skill.examples(rows, ByteTokenizer(), 24)

    small = GPT(GPTConfig(257, context_length=24, d_model=24, n_layers=1, n_heads=3))
    model: Any = skill.learner(small, torch.Generator().manual_seed(0))
    with torch.no_grad():  # always VERB
        for name, weight in model.named_parameters():
            if not name.startswith("backbone."):
                weight.zero_()
                if weight.shape == (2,):
                    weight[1] = 1.0
    figures = skill.judge(model, ByteTokenizer(), examples)
    truth = [tag for _, tags in rows for tag in tags]
    assert figures == {"accuracy": 2 / 5, "macro_f1": macro_f1(["VERB"] * 5, truth)}


def test_words_of_a_file_are_joined_as_those_of_a_text() -> None:
    words = ["Ada", "saw", "(", "it", ")", ",", "didn", "’t", "she", "?"]
    assert list(tagged.sentence([(word, "O") for word in words]).words) == join_words(words)
    kept = [("Ada", "O"), (" ,", "O")]
    assert tagged.sentence(kept).words == ("Ada", " ,")  # a blank that a word brings stays


def test_a_word_is_the_same_wherever_it_stands() -> None:
    """London first in a sentence and London within one, in the comparison by each word's commonest tag."""
    train = [Tagged(("in", " London"), ("O", "PLACE"))] * 2 + [Tagged(("to", " it"), ("O", "O"))] * 2
    data = Data(train, [Tagged(("London", " to"), ("PLACE", "O"))], ("O", "PLACE"), (6, 2))
    assert simple_methods(data, "tag")["each word's commonest tag"] == 1.0


def test_a_rare_tag_is_learned_from() -> None:
    common, rare = Tagged(("a", " b"), ("O", "X")), Tagged(("c", " d"), ("O", "RARE"))
    said: list[str] = []
    other = Tagged(("c", " d"), ("O", "X"))  # the same words stay together, whatever their tags
    train, aside = learnable([common], [rare, common._replace(words=("e", " f")), other], said.append)
    assert train == [common, rare, other] and [row.words for row in aside] == [("e", " f")]
    assert len(said) == 1 and "2 with a tag that no other example has, such as 'RARE'" in said[0]
    assert learnable([common], [common], said.append) == ([common], [common]) and len(said) == 1
    assert learnable([common], [rare], said.append) == ([common], [rare])  # nothing would be left to judge by


def test_a_file_with_a_rare_tag_is_taken(tmp_path: Path) -> None:
    lines = [f"a{i} O\nb{i} X\n" for i in range(30)]
    said: list[str] = []
    for i in range(30):  # wherever the one rare tag stands, so also among those kept aside
        rare = [*lines[:i], f"a{i} O\nb{i} RARE\n", *lines[i + 1 :]]
        (tmp_path / "tags.conll").write_text("\n".join(rare), encoding="utf-8")
        data = load_data(str(tmp_path / "tags.conll"), "tag", 0.2, 0, (None, None), said.append)
        assert data.labels == ("O", "RARE", "X") and len(data.train) + len(data.aside) == 30
    assert len(said) == 6


# ---- texts and their labels


def test_the_columns_stand_in_the_checkpoint(base: str, tmp_path: Path, capsys: Capture) -> None:
    rows = [(f"{i},{'abc'[i % 3] * 9}{i}", "xy"[i % 2]) for i in range(40)]
    data = table(tmp_path / "three.csv", rows, "id,body,verdict")
    flags = ["--data", data, "--steps", "2", "--json", *QUICK]
    for out, named, kept in (
        ("named", ["--text-column", "id", "--label-column", "verdict"], ("id", "verdict")),
        ("guessed", [], (None, None)),
    ):
        assert main(["finetune", base, "--out", str(tmp_path / out), *flags, *named]) == 0
        taught = load_checkpoint(tmp_path / out).state["finetune"]
        assert (taught["text_column"], taught["label_column"]) == kept
        assert main(["finetune", "--resume", str(tmp_path / out), "--json"]) == 0  # it reads its own plan
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "named"), "--data", data]) == 0
    assert "text from column 'id', label from column 'verdict'" in capsys.readouterr().out


def test_texts_without_words_do_not_end_the_run(base: str, tmp_path: Path, capsys: Capture) -> None:
    signs = [Labelled("🙂!" * (i + 1), "good") for i in range(9)] + [Labelled("🙁" * (i + 1), "bad") for i in range(9)]
    data, said = Data(signs, signs[:4], ("bad", "good"), (9, 9)), []
    assert simple_methods(data, "classify", said.append) == {"always 'bad'": 0.0}
    assert said == ["no text has a word of letters or digits: without a comparison with logistic regression on words"]
    path = table(tmp_path / "signs.csv", [(row.text, row.label) for row in signs])
    assert main(["finetune", base, "--data", path, "--steps", "1", "--out", str(tmp_path / "out"), *QUICK]) == 0
    assert said[0] in capsys.readouterr().out


@pytest.mark.parametrize("n", [20, 21])
def test_a_picture_is_promised_where_there_is_one(n: int, base: str, tmp_path: Path, capsys: Capture) -> None:
    data = table(tmp_path / "many.csv", [(f"word{i} {'xyz'[i // n]}", f"label{i % n}") for i in range(3 * n)])
    assert main(["finetune", base, "--data", data, "--steps", "1", "--out", str(tmp_path / "out"), *QUICK]) == 0
    assert ("confusion.png" in capsys.readouterr().out) == (tmp_path / "out" / "confusion.png").exists() == (n == 20)


def test_each_form_of_sentiment_has_a_name(capsys: Capture) -> None:
    assert list(FORM_OF) == ["stories", "whole", "silent", "plain", "mixed", "twins"] and {*FORM_OF.values()} == {
        *FORMS
    }
    for name, form in FORM_OF.items():
        data = load_data(f"{name}:40", "classify", 0.5, 3, (None, None), print)
        assert [*data.train] == labelled(20, 3, form, "train") and [*data.aside] == labelled(20, 3, form, "test")
    with pytest.raises(ValueError, match="built-in stories, whole, silent, plain, mixed, twins: check the path"):
        load_data("nothing", "classify", 0.5, 0, (None, None), print)
    with pytest.raises(SystemExit):
        main(["finetune", "--help"])
    assert "for classify also whole, silent, plain, mixed" in " ".join(capsys.readouterr().out.split())


def test_a_folder_with_its_own_test_has_no_share(base: str, tmp_path: Path, capsys: Capture) -> None:
    for part in ("train", "test"):
        for label in ("pos", "neg"):
            folder = tmp_path / "reviews" / part / label
            folder.mkdir(parents=True)
            for i in range(3):
                (folder / f"{i}.txt").write_text(f"{part} {label} {i}", encoding="utf-8")
    flags = ["--data", str(tmp_path / "reviews"), "--out", str(tmp_path / "out"), "--steps", "1", "--json", *QUICK]
    assert main(["finetune", base, *flags, "--kept-aside", "0.1"]) == 2
    assert "has a folder test, which is kept aside as it is: leave the option out" in complaint(capsys)
    assert main(["finetune", base, *flags]) == 0


# ---- answers, and what the figures speak of


def test_the_answers_judged_are_drawn_from_all() -> None:
    places = drawn(1000)
    assert len(set(places)) == JUDGED_ANSWERS == 200 and places == sorted(places) == drawn(1000)
    assert all(30 <= sum(low <= place < low + 250 for place in places) <= 70 for low in range(0, 1000, 250))
    assert drawn(200) == [*range(200)] and drawn(3) == [0, 1, 2]


def test_it_says_of_how_many_answers_it_speaks(
    base: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minilm.finetuning.skills.JUDGED_ANSWERS", 4)
    data, out = questions(tmp_path / "qa.jsonl", 60), str(tmp_path / "out")
    flags = ["--task", "generate", "--data", data, "--steps", "2", "--out", out]
    flags += ["--eval-every", "1", "--save-every", "1"]
    assert main(["finetune", base, *flags, *QUICK]) == 0
    said = capsys.readouterr().out
    assert "on 4 of 6 examples it has not learned from, after step" in said and "(the step was chosen by them)" in said
    assert main(["evaluate", out]) == 0
    assert "on 4 of 6 examples; its step was chosen by them: exact match" in capsys.readouterr().out
    assert main(["evaluate", out, "--data", data]) == 0
    assert "on 4 of 60 examples: exact match" in capsys.readouterr().out
    assert main(["evaluate", out, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["examples"], figures["judged"]) == (6, 4)


@pytest.mark.parametrize("more", [["--eval-every", "0"], ["--save-every", "0"], ["--eval-every", "2"]], ids=" ".join)
def test_without_a_choice_no_step_was_chosen(more: list[str], base: str, tmp_path: Path, capsys: Capture) -> None:
    data = table(tmp_path / "some.csv", [(f"{'abc'[i % 3]}{i}", "xy"[i % 2]) for i in range(40)])
    flags = ["--data", data, "--steps", "2", "--eval-every", "1", "--save-every", "1"]
    assert main(["finetune", base, *flags, "--out", str(tmp_path / "out"), *QUICK, *more]) == 0
    assert "on 4 examples it has not learned from, after step 2: accuracy" in capsys.readouterr().out
    assert main(["evaluate", str(tmp_path / "out")]) == 0
    assert "on 4 examples: accuracy" in capsys.readouterr().out


# ---- an adapter whose base has moved


def test_an_adapter_goes_on_with_a_base_that_has_moved(
    base: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the best checkpoint is one from before, which names the old place."""
    looks = itertools.count(1.0)
    monkeypatch.setattr(Examples, "mean_loss", lambda *_: next(looks))
    data = table(tmp_path / "some.csv", [(f"{'abc'[i % 3]}{i}", "xy"[i % 2]) for i in range(40)])
    out, moved = str(tmp_path / "out"), str(tmp_path / "moved")
    flags = ["--data", data, "--steps", "4", "--save-every", "2", "--eval-every", "2", "--json", *QUICK]
    assert main(["finetune", base, "--out", out, "--lora", *flags]) == 0
    Path(base).rename(moved)
    for step in Path(out).glob("step-000004"):
        step.rename(tmp_path / "later")  # as if it had been stopped
    capsys.readouterr()
    assert main(["finetune", "--resume", out, "--json"]) == 2
    assert "--base" in complaint(capsys)
    assert main(["finetune", "--resume", out, f"--base={moved}", "--json"]) == 0
    assert load_checkpoint(out, base=moved).step == 2
    assert load_checkpoint(out, prefer="last").step == 4  # it knows the new place: no base is named here
    assert main(["finetune", "--resume", out, "--base", moved, "--json"]) == 0
    capsys.readouterr()
    for words, said in (
        (["--resume", out, "--base", moved, "--lora"], "leave out lora"),
        ([moved, "--data", data, "--base", moved], "--base is for --resume"),
    ):
        assert main(["finetune", *words]) == 2
        assert said in complaint(capsys)
    whole = str(tmp_path / "whole")
    assert main(["finetune", moved, "--out", whole, *flags]) == 0
    capsys.readouterr()
    assert main(["finetune", "--resume", whole, "--base", moved]) == 2
    assert "is no adapter, which would need a base: leave out --base" in complaint(capsys)

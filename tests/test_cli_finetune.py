"""`minilm finetune` and `minilm predict`: a stranger's file becomes a model with a skill, or one clear line says why not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from minilm.classical.config import NgramConfig
from minilm.classical.ngram import NgramLM
from minilm.cli.main import main
from minilm.cli.skilled import load_data, share_out, simple_methods
from minilm.decoding.config import SampleConfig
from minilm.decoding.generate import generate
from minilm.decoding.sampling import Sampler
from minilm.finetuning.recipe import LORA
from minilm.metrics import rouge_l, token_f1
from minilm.models.config import GPTConfig
from minilm.models.counted import CountedLM
from minilm.models.gpt import GPT
from minilm.text.tokenizer import ByteTokenizer
from minilm.training.checkpoint import load_checkpoint, save_checkpoint

Capture = pytest.CaptureFixture[str]
QUICK = ["--json", "--device", "cpu", "--threads", "1"]


@pytest.fixture
def base(tmp_path: Path) -> str:
    """A GPT with random weights, as if it had been trained."""
    torch.manual_seed(1)
    model = GPT(GPTConfig(257, context_length=48, d_model=24, n_layers=2, n_heads=3, dropout=0.1))
    save_checkpoint(tmp_path / "base", model, ByteTokenizer())
    return str(tmp_path / "base")


@pytest.fixture
def reviews(tmp_path: Path) -> str:
    """Two columns: whether an exclamation mark stands in the text."""
    rows = [f"{'abcdefg'[i % 7]}{i}{'!' if i % 2 else ''},{'glad' if i % 2 else 'calm'}" for i in range(80)]
    (tmp_path / "reviews.csv").write_text("remark,mood\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return str(tmp_path / "reviews.csv")


def run(*arguments: str) -> int:
    return main([*arguments])


def report(capsys: Capture) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def last_line(capsys: Capture) -> str:
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and len(said[0]) <= 420, said
    return said[0]


def test_a_strangers_file_becomes_a_classifier(base: str, reviews: str, tmp_path: Path, capsys: Capture) -> None:
    out = str(tmp_path / "mood")
    assert (
        run("finetune", base, "--data", reviews, "--epochs", "25", "--out", out, "--learning-rate", "5e-3", *QUICK) == 0
    )
    figures = report(capsys)
    assert figures["accuracy"] == figures["macro_f1"] == 1.0 and figures["kept_aside"] == 8
    assert figures["confusion"] == [[4, 0], [0, 4]]
    assert figures["simple"]["always 'calm'"] == 0.5  # no word says it, for marks are none
    assert {"loss.png", "confusion.png", "train.json", "aside.json", "log.jsonl"} <= {
        p.name for p in Path(out).iterdir()
    }

    assert run("predict", out, "c90!", "c90") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("glad  ") and first.endswith("%  c90!") and second.startswith("calm  ")
    texts = tmp_path / "texts.txt"
    texts.write_text("a1!\n\nb2\n", encoding="utf-8")
    assert run("predict", out, "--data", str(texts), "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["text"], row["label"]) for row in rows] == [("a1!", "glad"), ("b2", "calm")]
    assert all(sum(row["probabilities"].values()) == pytest.approx(1) for row in rows)

    assert run("evaluate", out, "--json") == 0  # on what was kept aside
    assert report(capsys)["accuracy"] == 1.0
    table = tmp_path / "more.csv"
    table.write_text('id,text\n1,"c, 90!"\n2,c91\n', encoding="utf-8")
    assert run("predict", out, "--json", "--data", str(table)) == 0
    assert [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()] == ["c, 90!", "c91"]
    assert run("predict", out, "--json", "c90!") == 0 and report(capsys)["label"] == "glad"
    assert run("predict", out, "c90!", " ") == 2
    assert "text 2 of 2 is empty" in last_line(capsys)

    assert run("evaluate", out, "--data", reviews, "--json") == 0
    figures = report(capsys)
    assert figures["examples"] == 80 and figures["accuracy"] > 0.9
    (tmp_path / "other.csv").write_text("text,label\na,glad\nb,odd\nc,glad\nd,odd\n", encoding="utf-8")
    assert run("evaluate", out, "--data", str(tmp_path / "other.csv")) == 2
    assert "label 'odd', which the model does not know: it knows calm, glad" in last_line(capsys)


def test_an_adapter_is_small_and_finds_its_base(base: str, reviews: str, tmp_path: Path, capsys: Capture) -> None:
    out = str(tmp_path / "adapted")
    before = load_checkpoint(base).model.arrays()
    flags = ["--lora", "--rank", "3", "--alpha", "5", "--epochs", "12", "--learning-rate", "0.02"]
    assert run("finetune", base, "--data", reviews, "--out", out, *flags, *QUICK) == 0
    assert report(capsys)["accuracy"] > 0.9
    model = load_checkpoint(out).model
    assert model.kind == "adapted" and model.config.lora["rank"] == 3 and model.config.lora["alpha"] == 5
    n_adapter, n_base = (sum(array.numel() for array in arrays.values()) for arrays in (model.arrays(), before))
    assert n_adapter < n_base / 4
    assert all(torch.equal(array, before[name]) for name, array in load_checkpoint(base).model.arrays().items())
    assert run("predict", out, "c90!") == 0
    assert capsys.readouterr().out.startswith("glad")

    (tmp_path / "base").rename(tmp_path / "moved")
    assert run("predict", out, "c90!") == 2
    assert "--base" in last_line(capsys)
    assert run("predict", out, "--base", str(tmp_path / "moved"), "c90!") == 0
    assert capsys.readouterr().out.startswith("glad")
    assert run("predict", str(tmp_path / "moved"), "--base", base, "c90!") == 2
    assert "is no adapter" in last_line(capsys)
    assert run("finetune", str(tmp_path / "moved"), "--data", reviews, "--lora", "--freeze", "1") == 2
    assert "--freeze is for training the whole model" in last_line(capsys)


@pytest.mark.parametrize("more", [[], ["--lora", "--rank", "2"], ["--freeze", "1"], ["--layer-decay", "0.7"]], ids=str)
def test_a_run_goes_on_as_if_nothing_had_been(
    more: list[str], base: str, reviews: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted after the fourth of twelve steps and resumed: the same bits as a run in one piece, dropout included."""
    from minilm.training import run as run_module

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    flags = ["--data", reviews, "--epochs", "3", "--batch-size", "16", "--save-every", "4", *more, *QUICK]
    assert run("finetune", base, "--out", str(whole), *flags) == 0

    class PowerCut(Exception):
        pass

    plain = run_module.save_checkpoint

    def save_and_stop(*arguments: Any, **settings: Any) -> Path:
        plain(*arguments, **settings)
        raise PowerCut

    monkeypatch.setattr(run_module, "save_checkpoint", save_and_stop)
    with pytest.raises(PowerCut):
        run("finetune", base, "--out", str(parts), *flags)
    monkeypatch.undo()
    assert run("finetune", "--resume", str(parts), "--json") == 0
    capsys.readouterr()
    ended, again = (load_checkpoint(folder, prefer="last") for folder in (whole, parts))
    assert ended.step == again.step > 4
    for name, array in ended.model.arrays().items():
        assert torch.equal(array, again.model.arrays()[name]), name
    logs = [(folder / "log.jsonl").read_text(encoding="utf-8").splitlines() for folder in (whole, parts)]
    losses = [[(row["step"], row["loss"]) for row in map(json.loads, log)] for log in logs]
    assert losses[0] == losses[1]


def test_frozen_blocks_stay(base: str, reviews: str, tmp_path: Path, capsys: Capture) -> None:
    out = str(tmp_path / "frozen")
    assert run("finetune", base, "--data", reviews, "--epochs", "1", "--freeze", "1", "--out", out, *QUICK) == 0
    before, after = load_checkpoint(base).model.arrays(), load_checkpoint(out).model.arrays()
    moved = {name for name in before if not torch.equal(before[name], after.get(f"backbone.{name}", before[name]))}
    assert moved and all(name.startswith(("blocks.1.", "norm.")) for name in moved)


def test_tags_from_a_file(base: str, tmp_path: Path, capsys: Capture) -> None:
    """A word and its tag on each line; names are those words that begin with a capital."""
    lines = []
    for i in range(60):
        lines += [f"{'abcd'[i % 4]}{i}\tO", f"{'XYZ'[i % 3]}{i % 7}\tB-NAME", f"{'klm'[i % 3]}\tO", ""]
    (tmp_path / "names.tsv").write_text("\n".join(lines), encoding="utf-8")
    flags = ["--task", "tag", "--data", str(tmp_path / "names.tsv"), "--epochs", "20", "--learning-rate", "5e-3"]
    assert run("finetune", base, "--out", str(tmp_path / "tagger"), *flags, *QUICK) == 0
    figures = report(capsys)
    assert figures["entity_f1"] > 0.9 and set(figures["simple"]) == {"always 'O'", "each word's commonest tag"}
    assert run("predict", str(tmp_path / "tagger"), "a1 X5 k") == 0
    assert capsys.readouterr().out == "a1 X5/B-NAME k\n"
    assert run("predict", str(tmp_path / "tagger"), "a1 X5 k", "--json") == 0
    assert report(capsys)["tags"] == ["O", "B-NAME", "O"]


def test_answers_from_a_file(base: str, tmp_path: Path, capsys: Capture) -> None:
    rows = [{"prompt": f"{n} and 1?", "answer": str(n + 1)} for n in range(1, 9)] * 4
    (tmp_path / "sums.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    out, data = str(tmp_path / "sums"), str(tmp_path / "sums.jsonl")
    assert run("finetune", base, "--task", "generate", "--data", data, "--epochs", "2", "--out", out, *QUICK) == 0
    figures = report(capsys)
    assert {"exact_match", "token_f1", "rouge_l"} <= set(figures)
    assert run("evaluate", out, "--data", data) == 0
    said = capsys.readouterr().out
    assert "prompt from column 'prompt', answer from column 'answer'" in said and "on 32 examples: exact match" in said
    grown = load_checkpoint(out)
    assert "<|assistant|>" in grown.tokenizer.special_tokens
    assert grown.model.config.vocab_size == grown.tokenizer.vocab_size == 257 + 4
    adapter = str(tmp_path / "adapter")
    flags = ["--task", "generate", "--data", data, "--epochs", "1", "--lora", "--out", adapter]
    assert run("finetune", base, *flags, *QUICK) == 0
    assert load_checkpoint(adapter).tokenizer.vocab_size == 257  # an adapter learns no rows of a table
    capsys.readouterr()
    assert run("generate", adapter, "--prompt", "User: 2 and 1?\nAssistant:", "--max-new-tokens", "3") == 0
    assert capsys.readouterr().out.startswith("User: 2 and 1?")


@pytest.mark.parametrize("task", ["classify", "tag", "generate"])
def test_the_story_world_is_the_default(task: str) -> None:
    """Without a download: other events on the two sides, and as many as were asked for."""
    data = load_data("stories:60", task, 0.2, 0, (None, None), print)
    assert len(data.train) == 48 and len(data.aside) == 12
    simple = simple_methods(data, task)
    assert len(simple) == (0 if task == "generate" else 2) and all(0 < share <= 1 for share in simple.values())
    again = load_data("stories:60", task, 0.2, 0, (None, None), print)
    assert again == data and load_data("stories:60", task, 0.2, 1, (None, None), print) != data


def test_equal_examples_stay_on_one_side() -> None:
    rows = [n % 40 for n in range(200)]
    for seed in range(5):
        train, aside = share_out(rows, 0.2, seed, lambda row: row)
        assert not set(train) & set(aside) and len(set(aside)) == 8 and len(train) + len(aside) == 200
        backwards = share_out(rows[::-1], 0.2, seed, lambda row: row)
        assert set(backwards[1]) == set(aside)  # wherever an example stands in the file
    with pytest.raises(ValueError, match="1 different example"):
        share_out([3, 3], 0.5, 0, lambda row: row)


# ---- refused in one line


def bad_files(tmp_path: Path) -> dict[str, tuple[str, list[str], str]]:
    """What is wrong -> file, flags, and what the line says."""
    files = {
        "columns": ("a.csv", "colour\n" + "red\nblue\n" * 9, [], "column"),
        "named": ("b.csv", "text,label\n" + "a,x\nb,y\n" * 3, ["--text-column", "txt"], "txt"),
        "one label": ("c.csv", "text,label\n" + "".join(f"t{i},same\n" for i in range(9)), [], "same"),
        "empty": ("d.csv", "", [], "d.csv"),
        "rows": ("e.csv", "text,label\n" + "".join(f",{'ab'[i % 2]}\n" for i in range(9)), [], "e.csv"),
        "few": ("f.csv", "text,label\nalone,x\nalso,y\n", [], "different text"),
        "pairs": ("g.jsonl", '{"prompt": "a"}\n', ["--task", "generate"], "answer"),
        "tags": ("h.tsv", "a b c d\n", ["--task", "tag"], "h.tsv"),
    }
    found = {}
    for what, (name, text, flags, said) in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        found[what] = (str(tmp_path / name), flags, said)
    return found


@pytest.mark.parametrize("what", ["columns", "named", "one label", "empty", "rows", "few", "pairs", "tags"])
def test_bad_data_is_one_line(what: str, base: str, tmp_path: Path, capsys: Capture) -> None:
    path, flags, said = bad_files(tmp_path)[what]
    assert run("finetune", base, "--data", path, "--out", str(tmp_path / "out"), *flags) == 2
    assert said in last_line(capsys)
    assert not (tmp_path / "out").exists()


def test_wrong_use_is_one_line(base: str, reviews: str, tmp_path: Path, capsys: Capture) -> None:
    ids = np.array([256, *b"abcabcabc"])
    counted = CountedLM(NgramLM(NgramConfig(vocab_size=257, order=2)).fit(ids, 256))
    save_checkpoint(tmp_path / "counted", counted, ByteTokenizer())
    for arguments, said in (
        (["finetune"], "name the trained model"),
        (["finetune", str(tmp_path / "nowhere")], "nowhere"),
        (["finetune", str(tmp_path / "counted"), "--data", reviews], "counted: fine-tuning needs"),
        (["finetune", base, "--data", "nothing.csv"], "nothing.csv is neither"),
        (["finetune", base, "--task", "sing"], "sing"),
        (["finetune", base, "--epochs", "0"], "epochs is 0"),
        (["finetune", base, "--lora", "--rank", "0"], "rank is 0"),
        (["finetune", base, "--freeze", "3", "--data", reviews], "cannot freeze the first 3 blocks: the model has 2"),
        (["finetune", base, "--data", "twins:100", "--task", "tag"], "twins is for --task classify"),
        (["finetune", base, "--data", "stories:3"], "give a number from 20"),
        (["finetune", "--resume", base], "no run of minilm finetune"),
        (["finetune", "--resume", base, "--lora"], "leave out lora"),
        (["predict", base, "hello"], "labels nothing"),
        (["predict", base], "give either texts or --data"),
        (["predict", base, "a", "--data", reviews], "give either texts or --data"),
        (["predict", base, "--data", str(tmp_path / "none.txt")], "none.txt"),
    ):
        where = ["--out", str(tmp_path / "out")] if arguments[0] == "finetune" and "--resume" not in arguments else []
        assert run(*arguments, *where) == 2, arguments
        assert said in last_line(capsys), arguments
        assert not (tmp_path / "out").exists()


def test_a_model_with_a_skill_is_no_base(base: str, reviews: str, tmp_path: Path, capsys: Capture) -> None:
    out = str(tmp_path / "mood")
    assert run("finetune", base, "--data", reviews, "--epochs", "1", "--out", out, *QUICK) == 0
    capsys.readouterr()
    for verb in (
        ["finetune", out, "--data", reviews, "--out", str(tmp_path / "x")],
        ["generate", out, "--prompt", "a"],
    ):
        assert run(*verb) == 2
        assert "sequence-classifier" in last_line(capsys)
    assert run("finetune", base, "--data", reviews, "--out", out) == 2
    assert "is not empty" in last_line(capsys)


# ---- what the flags mean together


def test_the_help_shows_tasks_and_the_defaults_that_hold(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        run("finetune", "--help-all")
    said = " ".join(capsys.readouterr().out.split())
    assert "--task {classify,tag,generate}" in said
    for flag, default in (
        ("batch-size INT", "16"),
        ("weight-decay FLOAT", "0.01"),
        ("steps INT", "what the epochs come to"),
    ):
        start = said.index(f"--{flag} ")
        assert f"(default: {default})" in said[start : start + 160], flag
    assert f"by default in {LORA['epochs']:g} epochs at {LORA['learning_rate']}" in said


def test_steps_or_epochs(base: str, reviews: str, tmp_path: Path, capsys: Capture) -> None:
    flags = ["--data", reviews, "--out", str(tmp_path / "out")]
    assert run("finetune", base, "--steps", "5", "--epochs", "2", *flags) == 2
    assert "--steps and --epochs: give one of them" in last_line(capsys)
    assert run("finetune", base, "--rank", "4", *flags) == 2
    assert "--rank is an option of --lora" in last_line(capsys)
    (tmp_path / "run.toml").write_text("epochs = 2\n", encoding="utf-8")
    assert run("finetune", base, "--steps", "5", "--config", str(tmp_path / "run.toml"), *flags) == 2
    assert "--steps and --epochs: give one of them" in last_line(capsys)
    assert not (tmp_path / "out").exists()
    assert run("finetune", base, "--steps", "3", *flags, *QUICK) == 0
    assert load_checkpoint(tmp_path / "out", prefer="last").step == 3


@pytest.mark.parametrize("more", [[], ["--epochs", "1", "--learning-rate", "0.01"]], ids=["own", "said"])
def test_an_adapter_has_a_recipe_of_its_own(
    more: list[str], base: str, reviews: str, tmp_path: Path, capsys: Capture
) -> None:
    """72 examples are 5 batches of 16 an epoch."""
    out = tmp_path / "adapted"
    assert run("finetune", base, "--data", reviews, "--lora", "--out", str(out), *more, *QUICK) == 0
    state = load_checkpoint(out, prefer="last").state
    epochs, rate = (1, 0.01) if more else (LORA["epochs"], LORA["learning_rate"])
    assert (state["finetune"]["epochs"], state["train"]["learning_rate"]) == (epochs, rate)
    assert state["train"]["steps"] == 5 * epochs and state["train"]["batch_size"] == 16


@pytest.mark.parametrize("lora", [[], ["--lora"]], ids=["whole", "adapter"])
def test_answers_are_held_against_those_before(lora: list[str], base: str, tmp_path: Path, capsys: Capture) -> None:
    """The model as it was, asked in the tokens that it knew: `minilm evaluate` of nothing would be no easier to beat."""
    rows = [{"prompt": f"{n} and 1?", "answer": str(n + 1)} for n in range(1, 9)] * 4
    (tmp_path / "sums.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    out, data = str(tmp_path / "sums"), str(tmp_path / "sums.jsonl")
    flags = ["--task", "generate", "--data", data, "--epochs", "1", *lora, *QUICK[1:]]
    assert run("finetune", base, "--out", out, *flags) == 0
    said = capsys.readouterr().out
    kept = load_checkpoint(out, prefer="last")
    before = kept.state["before"]
    assert set(before) == {"exact_match", "token_f1", "rouge_l"}
    assert f"for comparison, before it was taught: exact match {before['exact_match']:.3f}" in said

    plain = load_checkpoint(base)
    aside = load_data(data, "generate", 0.1, 0, (None, None), lambda line: None).aside
    given = []
    for messages in aside:
        prompt = [plain.tokenizer.end_of_text, *plain.tokenizer.encode(f"User: {messages[0]['content']}\nAssistant:")]
        ids = list(generate(plain.model.eval(), prompt, Sampler(SampleConfig(temperature=0.0), torch.Generator()), 64,
                            stop_tokens=frozenset([plain.tokenizer.end_of_text])))  # fmt: skip
        given.append(plain.tokenizer.decode(ids).strip())
    truth = [messages[1]["content"] for messages in aside]
    assert before["rouge_l"] == pytest.approx(sum(map(rouge_l, given, truth)) / len(truth))
    assert before["token_f1"] == pytest.approx(sum(map(token_f1, given, truth)) / len(truth))

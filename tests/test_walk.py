"""The main job in small: a tiny text walks all the way to the ladder, also when it is interrupted."""

import json

import pytest

from minilm.cli import walk
from minilm.cli.main import main
from minilm.text.stories import stories
from minilm.training.checkpoint import load_checkpoint


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n".join(stories(60, seed=3)), encoding="utf-8")
    return path


def test_walk_ends_with_every_rung_and_three_models(text, tmp_path, capsys):
    out = tmp_path / "run"
    assert (
        main(["walk", "--data", str(text), "--minutes", "0.05", "--out", str(out), "--prompt", "Once", "--json"]) == 0
    )
    printed = capsys.readouterr()
    rungs = json.loads(printed.out)["rungs"]
    assert [rung["model"] for rung in rungs] == ["uniform", "unigram", "bigram", "Kneser-Ney", "GPT", "GPT + n-gram"]
    bits = {rung["model"]: rung["bits_per_byte"] for rung in rungs}
    assert bits["uniform"] == pytest.approx(8.0)
    assert bits["Kneser-Ney"] < bits["unigram"] < 8
    assert len({rung["bytes"] for rung in rungs}) == 1  # the same text for all
    assert "Try next" in printed.err and "writes, at temperature 0.8" in printed.err
    assert json.loads((out / "ladder.json").read_text(encoding="utf-8"))["rungs"] == rungs
    assert (out / "ladder.png").stat().st_size > 10_000
    kinds = {name: load_checkpoint(out / name).model.kind for name in ("ngram", "gpt", "mixture")}
    assert kinds == {"ngram": "ngram", "gpt": "speedrun", "mixture": "mixture"}


def test_ctrl_c_still_prints_the_ladder(text, tmp_path, capsys, monkeypatch):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(walk.Walk, "train", interrupt)
    assert main(["walk", "--data", str(text), "--out", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    assert "here is what stands so far" in printed
    assert "Kneser-Ney" in printed.split("so far")[1] and "n-gram writes" in printed


@pytest.mark.parametrize(
    ("gpt", "both", "said"),
    [
        (1.9, 1.8, "beats the n-gram by 5.0%"),
        (2.1, 1.9, "The n-gram wins"),
        (2.1, 2.0, "no less than the better"),
    ],
)
def test_the_verdict_is_honest(gpt, both, said):
    assert said in walk.verdict({"GPT": gpt, "GPT + n-gram": both}, bar=2.0)


def test_the_bar_says_how_far_it_is():
    assert "0.500 above the n-gram" in walk.distance(2.5, 2.0)
    assert "0.100 below the n-gram" in walk.distance(1.9, 2.0)
    assert walk.distance(4.0, 2.0).startswith("[" + "." * 30)
    assert walk.distance(2.0, 2.0).startswith("[" + "#" * 30)


def test_no_run_overwrites_another(tmp_path):
    assert walk.next_free(tmp_path).name == "walk-1"
    (tmp_path / "walk-1").mkdir()
    assert walk.next_free(tmp_path).name == "walk-2"

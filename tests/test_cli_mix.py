"""`minilm mix`: what it saves is the mixture that was measured, better than either, and what cannot be mixed is refused."""

import json
import shutil
from dataclasses import asdict

import pytest

from minilm.classical.config import NgramConfig
from minilm.classical.ngram import NgramLM
from minilm.classical.tuning import tune_ngram
from minilm.cli.main import main
from minilm.cli.run_folder import text_of_run
from minilm.evaluation.evaluate import evaluate
from minilm.evaluation.mix import mix, mix_log_linear
from minilm.models.counted import CountedLM
from minilm.text.stories import stories
from minilm.training.checkpoint import load_checkpoint


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small network that has learned something, though less than the n-gram."""
    folder = tmp_path_factory.mktemp("mix")
    (folder / "text.txt").write_text("\n\n".join(stories(60, seed=3)), encoding="utf-8")
    shape = ["--n-layers", "1", "--d-model", "32", "--n-heads", "2", "--context-length", "32", "--vocab-size", "400"]
    how = ["--data", str(folder / "text.txt"), "--steps", "150", "--device", "cpu", "--json"]
    assert main(["train", *how, *shape, "--out", str(folder / "net")]) == 0
    return str(folder / "net")


@pytest.mark.parametrize(
    ("how", "kind", "join"), [("linear", "mixture", mix), ("log-linear", "log-linear", mix_log_linear)]
)
def test_what_is_saved_is_what_was_measured(how, kind, join, run, tmp_path, capsys) -> None:
    out = tmp_path / "both"
    assert main(["mix", run, "--how", how, "--out", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    bits = said["bits_per_byte"]
    assert said["kind"] == kind and bits["both"] < min(bits["network"], bits["ngram"])
    net, saved = load_checkpoint(run), load_checkpoint(out)
    text, end = text_of_run(net), net.tokenizer.end_of_text
    config = tune_ngram(NgramConfig(net.tokenizer.vocab_size), text.train.ids, end)
    ngram = CountedLM(NgramLM(config).fit(text.train.ids, end))
    expected = join(net.model, ngram, text.learned, text.held_out, end)
    assert asdict(saved.model.config) == asdict(expected.config) and said["order"] == config.order
    for name, model in (("network", net.model), ("ngram", ngram), ("both", expected)):
        assert bits[name] == pytest.approx(evaluate(model, text.validation, net.tokenizer).bits_per_byte, abs=1e-6)
    assert saved.validation == bits["both"] and saved.tokenizer.fingerprint == net.tokenizer.fingerprint
    for verb in (["evaluate", str(out), "--json"], ["generate", str(out), "--prompt", "Once", "--max-new-tokens", "5"]):
        assert main(verb) == 0


def test_the_order_can_be_given_and_the_folder_has_a_name(run, capsys) -> None:
    assert main(["mix", run, "--order", "2"]) == 0
    out = f"{run}-mixture"
    assert load_checkpoint(out).model.counted.config.order == 2
    said = capsys.readouterr().out
    assert "n-gram of order 2, weight 0." in said and f"minilm generate {out}" in said
    assert main(["mix", run]) == 2
    assert "-mixture" in capsys.readouterr().err  # nothing is overwritten


def test_what_cannot_be_mixed_is_refused_in_a_line(run, tmp_path, capsys) -> None:
    text = str(tmp_path / "text.txt")
    (tmp_path / "text.txt").write_text("the fox saw an owl and ran. " * 80, encoding="utf-8")
    assert main(["train", "--data", text, "--model", "ngram", "--out", str(tmp_path / "counted"), "--json"]) == 0
    assert main(["mix", run, "--out", str(tmp_path / "both"), "--order", "3", "--json"]) == 0
    for wrong, why in (
        ([str(tmp_path / "counted")], "holds a ngram model: give the run of a network"),
        ([str(tmp_path / "both")], "holds a mixture model"),
        ([str(tmp_path / "nothing")], "no folder"),
        ([run, "--order", "0", "--out", str(tmp_path / "x")], "order is 0"),
        ([run, "--how", "both"], "choose from"),
    ):
        capsys.readouterr()
        assert main(["mix", *wrong]) == 2
        assert why in (error := capsys.readouterr().err) and error.count("\n") == 1
        assert not (tmp_path / "x").exists()
    converted = str(tmp_path / "converted")
    assert main(["convert", run, "--int8", "--out", converted]) == 0
    capsys.readouterr()
    assert main(["mix", converted]) == 2 and "holds a quantized model" in capsys.readouterr().err
    alone = tmp_path / "alone"
    shutil.copytree(load_checkpoint(run).path, alone / load_checkpoint(run).path.name)
    assert main(["mix", str(alone)]) == 2 and "alone keeps no text" in capsys.readouterr().err


def test_a_network_of_the_walk_can_be_mixed(tmp_path, capsys) -> None:
    walk = str(tmp_path / "walk")
    assert main(["walk", "--data", "stories:60", "--minutes", "0.02", "--out", walk]) == 0
    assert main(["mix", f"{walk}/gpt", "--how", "log-linear", "--order", "3"]) == 0
    said = capsys.readouterr().out
    assert "log-linear with an n-gram of order 3, powers " in said and f"the model lies in {walk}/gpt-mixture" in said

"""`minilm train` of models that learn without gradients: the run folder, what is said, and the figures."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from minilm.classical.config import HMMConfig, NgramConfig
from minilm.cli.counted import COUNTED, train_counted
from minilm.text.token_file import encode_corpus
from minilm.text.tokenizer import CharTokenizer
from minilm.training.checkpoint import load_checkpoint
from minilm.training.prepare import Prepared

TEXTS = ["the fox saw the owl. ", "an owl saw a fox, and the fox ran. "] * 30
ABOUT = {"data": "x", "device": "cpu", "plain": False}


@pytest.fixture
def prepared() -> Prepared:
    tokenizer = CharTokenizer.train(TEXTS)
    return Prepared(tokenizer, encode_corpus(TEXTS, tokenizer), encode_corpus(["the owl ran. "], tokenizer))


def run(settings, chosen, prepared, tmp_path, as_json=False) -> list[str]:
    said: list[str] = []
    say = (lambda message: None) if as_json else said.append
    assert train_counted(settings, chosen, prepared, tmp_path / "run", ABOUT, say, as_json) == 0
    return said


def test_hidden_states_are_learned_and_kept(prepared, tmp_path) -> None:
    settings = HMMConfig(prepared.tokenizer.vocab_size, 3)
    said = run(settings, {"iterations": 15, "seed": 4}, prepared, tmp_path)
    loaded = load_checkpoint(tmp_path / "run")
    assert (
        "3 hidden states from 1,740 tokens after" in said[0]
        and "bits per byte" in said[1]
        and "minilm generate" in said[1]
    )
    history = loaded.state["log_probs"]
    assert loaded.state["rounds"] == len(history) - 1 > 3 and history[-1] > history[0] + 50
    assert f"{loaded.validation:.3f}" in said[1]
    even = np.log2(prepared.tokenizer.vocab_size)
    assert 0 < loaded.validation < even
    again = run(settings, {"iterations": 15, "seed": 4}, prepared, tmp_path / "again")
    twin = load_checkpoint(tmp_path / "again" / "run")
    assert again[0].split(" in ")[0] == said[0].split(" in ")[0]
    for name, array in loaded.model.arrays().items():
        np.testing.assert_array_equal(twin.model.arrays()[name], array)
    run(settings, {"iterations": 15, "seed": 5}, prepared, tmp_path / "other")
    assert load_checkpoint(tmp_path / "other" / "run").state["log_probs"] != history


def test_the_flags_reach_baum_welch(prepared, tmp_path) -> None:
    settings = HMMConfig(prepared.tokenizer.vocab_size, 2)
    run(settings, {"iterations": 3, "tolerance": 0.0}, prepared, tmp_path)
    assert load_checkpoint(tmp_path / "run").state["rounds"] == 3
    run(settings, {"tolerance": 1.0}, prepared, tmp_path / "early")
    assert load_checkpoint(tmp_path / "early" / "run").state["rounds"] == 1
    said = run(settings, {"minutes": 1e-9, "tolerance": 0.0}, prepared, tmp_path / "soon")
    assert load_checkpoint(tmp_path / "soon" / "run").state["rounds"] == 1
    assert "after 1 rounds of Baum-Welch, when the time was up, in" in said[0]
    said = run(settings, {"iterations": 2, "most_tokens": 500, "tolerance": 0.0}, prepared, tmp_path / "part")
    assert f"from the first 500 of {len(prepared.train.ids):,} tokens" in said[0]
    assert load_checkpoint(tmp_path / "part" / "run").state["log_probs"][0] > -1500  # about 3 nats a token
    run(settings, {"iterations": 2, "pseudo_count": 1e6}, prepared, tmp_path / "flat")
    emission = load_checkpoint(tmp_path / "flat" / "run").model.model.emission
    assert np.abs(emission - 1 / prepared.tokenizer.vocab_size).max() < 1e-2
    with pytest.raises(ValueError, match="iterations is -1"):
        run(settings, {"iterations": -1}, prepared, tmp_path / "bad")


def test_ngrams_are_counted_as_before(prepared, tmp_path, capsys) -> None:
    settings = NgramConfig(prepared.tokenizer.vocab_size, 3, "add-k")
    said = run(settings, {"order": 3}, prepared, tmp_path)
    assert "different n-grams up to order 3" in said[0]
    tuned = run(NgramConfig(prepared.tokenizer.vocab_size, 3, "add-k"), {}, prepared, tmp_path / "tuned")
    order = load_checkpoint(tmp_path / "tuned" / "run").model.config.order
    assert f"up to order {order}" in tuned[0] and load_checkpoint(tmp_path / "tuned" / "run").state["order"] == order
    capsys.readouterr()


@pytest.mark.parametrize("kind", sorted(COUNTED))
def test_json_is_one_object(kind, prepared, tmp_path, capsys) -> None:
    settings = COUNTED[kind](vocab_size=prepared.tokenizer.vocab_size)
    assert run(settings, {"iterations": 2}, prepared, tmp_path, as_json=True) == []
    found = json.loads(capsys.readouterr().out)
    assert found["kind"] == kind and found["out"] == str(tmp_path / "run")
    assert 0 < found["bits_per_byte"] < 20 and found["tokens"] == len("the owl ran. ")
    assert found["seconds"] == load_checkpoint(tmp_path / "run").state["seconds"]
    assert SimpleNamespace(**found).perplexity > 1

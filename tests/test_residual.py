"""The residual model: an n-gram times what a neural model learns of its errors, trained without what the n-gram knows by heart."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from minilm.classical.config import NgramConfig
from minilm.classical.leave_one_out import LeaveOneOut
from minilm.classical.ngram import NgramLM
from minilm.decoding.generate import generate
from minilm.evaluation.evaluate import token_log_probs
from minilm.evaluation.ladder import model_rung
from minilm.models.config import GPTConfig, SpeedrunConfig
from minilm.models.counted import CountedLM
from minilm.models.gpt import GPT
from minilm.models.registry import build_model
from minilm.models.residual import Residual, ResidualConfig
from minilm.models.speedrun_gpt import SpeedrunGPT
from minilm.text.token_file import encode_corpus
from minilm.text.tokenizer import CharTokenizer
from minilm.training.batches import Batches
from minilm.training.checkpoint import load_checkpoint, save_checkpoint
from minilm.training.config import TrainConfig
from minilm.training.loop import train
from minilm.training.residual import place_batches, residual_loss

V, CONTEXT, EOT = 11, 9, 10


def text(n: int, seed: int, back: int = 5) -> np.ndarray:
    """Two documents; a token is mostly that of `back` places before, which a short n-gram cannot see."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, EOT, n)
    for t in range(back, n):
        if rng.random() < 0.8:
            ids[t] = ids[t - back]
    ids[0] = ids[n // 3] = EOT
    return ids


def ngram(ids: np.ndarray, order: int = 3) -> NgramLM:
    return NgramLM(NgramConfig(V, order)).fit(ids, EOT)


@pytest.fixture(scope="module")
def model() -> Residual:
    generator = torch.Generator().manual_seed(1)
    neural = GPT(GPTConfig(V, CONTEXT, d_model=12, n_layers=2, n_heads=2)).double().eval()
    with torch.no_grad():
        for weight in neural.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)
    residual = Residual(neural, CountedLM(ngram(text(400, 2)))).double()
    with torch.no_grad():
        residual.trust.fill_(0.7)
    return residual


def some_ids(batch: int, seed: int, length: int = CONTEXT) -> torch.Tensor:
    return torch.randint(0, V, (batch, length), generator=torch.Generator().manual_seed(seed))


def test_it_corrects_the_ngram_by_a_factor_for_every_token(model: Residual) -> None:
    ids = some_ids(3, 3)
    with torch.no_grad():
        found = torch.softmax(model(ids), -1).numpy()
        factors = np.exp(model.neural(ids).numpy())
    counted = np.stack([np.exp(model.counted.model.log_probs(row)) for row in ids.numpy()])
    product = counted**0.7 * factors
    np.testing.assert_allclose(found, product / product.sum(-1, keepdims=True), rtol=0, atol=1e-13)


def test_other_answers_can_take_the_place_of_the_counted_ones(model: Residual) -> None:
    ids = some_ids(2, 4)
    rows = torch.log_softmax(torch.randn(2, CONTEXT, V, generator=torch.Generator().manual_seed(5)).double(), -1)
    rows[1, 2, 3] = -torch.inf
    with torch.no_grad():
        found, neural = model(ids, counted=rows), model.neural(ids)
    rows[1, 2, 3] = -50.0  # e^-50 is as unlikely as it gets
    torch.testing.assert_close(found, neural + 0.7 * rows, atol=1e-12, rtol=0)


def test_cached_steps_equal_the_whole(model: Residual) -> None:
    ids = some_ids(2, 6)
    with torch.no_grad():
        whole = model(ids)
        for split in (1, 4, CONTEXT - 1):
            cache = model.new_cache(2)
            parts = [model(ids[:, :split], cache=cache)]
            parts += [model(ids[:, t, None], cache=cache) for t in range(split, CONTEXT)]
            torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-12, rtol=0)
        cache.rollback(3)
        torch.testing.assert_close(model(ids[:, -3:], cache=cache), whole[:, -3:], atol=1e-12, rtol=0)


def test_it_comes_back_from_config_and_arrays_and_from_a_checkpoint(model: Residual, tmp_path) -> None:
    config = json.loads(json.dumps(asdict(model.config)))
    arrays = {name: np.asarray(torch.as_tensor(array).detach()).copy() for name, array in model.arrays().items()}
    settings = ResidualConfig(**config)
    assert (settings.vocab_size, settings.context_length) == (V, CONTEXT)
    save_checkpoint(tmp_path / "run", model, CharTokenizer("abcdefghij"))
    ids = some_ids(2, 7)
    for back in (build_model("residual", config, arrays), load_checkpoint(tmp_path / "run").model):
        assert isinstance(back, Residual) and back.trust.item() == pytest.approx(0.7)
        with torch.no_grad():
            torch.testing.assert_close(back.double()(ids), model(ids), atol=1e-5, rtol=0)  # built in float32
    del arrays["trust"]
    with pytest.raises(ValueError, match="trust"):
        build_model("residual", config, arrays)


def test_it_generates_and_stands_on_the_ladder(model: Residual) -> None:
    prompt = [EOT, 3, 1]
    text = list(prompt)
    while len(text) < CONTEXT:
        neural = model.neural(torch.tensor([text]))[0, -1].detach().numpy()
        text.append(int(np.argmax(neural + 0.7 * model.counted.model.next_log_probs(np.array(text)))))
    assert list(generate(model, prompt, lambda logits, texts: logits.argmax(-1), CONTEXT - len(prompt))) == text[3:]
    tokenizer = CharTokenizer("abcdefghij")
    rung = model_rung("n-gram, corrected", model, encode_corpus(["abcabj", "iab"], tokenizer), tokenizer, 1.0)
    scores = token_log_probs(model, np.array([EOT, 0, 1, 2, 0, 1, 9, EOT, 8, 0, 1]), EOT)
    assert rung.bits_per_byte == pytest.approx(-scores.sum() / np.log(2) / 9)


def test_places_are_those_of_the_tokens() -> None:
    ids = text(100, 8)
    of_places, of_tokens = place_batches(100, 4, 8, seed=9), Batches(ids, 4, 8, seed=9)
    for _ in range(5):
        for places, tokens in zip(next(of_places), next(of_tokens), strict=True):
            np.testing.assert_array_equal(ids[places.numpy()], tokens.numpy())


def test_the_loss_by_hand(model: Residual) -> None:
    """Each place is answered without its own event; the gradient reaches the neural weights and the trust."""
    ids = text(400, 2).astype(np.uint16)  # as a token file holds them
    left_out = LeaveOneOut(model.counted.model, ids)
    places = torch.tensor([[3, 4, 5, 6], [390, 391, 392, 393], [130, 131, 132, 133]])
    loss = residual_loss(ids, left_out.log_probs)(model, places, places + 1)
    nats = []
    for row in places.tolist():
        neural = model.neural(torch.from_numpy(ids[row].astype(np.int64))[None])[0].detach().numpy()
        for t, place in enumerate(row):
            product = np.exp(neural[t] + 0.7 * left_out.log_probs(np.array([place + 1]))[0])
            nats.append(-np.log(product[ids[place + 1]] / product.sum()))
    assert loss.item() == pytest.approx(np.mean(nats), abs=1e-6)  # the n-gram's answers pass through float32
    model.zero_grad()
    loss.backward()
    assert model.trust.grad.abs() > 0 and all(weight.grad is not None for weight in model.neural.parameters())
    model.zero_grad()


def trained(ids: np.ndarray, counted: NgramLM, log_probs, steps: int) -> tuple[Residual, list]:
    torch.manual_seed(3)
    neural = SpeedrunGPT(SpeedrunConfig(V, context_length=16, d_model=32, n_layers=2, n_heads=2, n_shift=0))
    residual = Residual(neural, CountedLM(counted))
    config = TrainConfig(steps=steps, learning_rate=5e-3, warmup=5, eval_every=0, dtype="float32", threads=1)
    batches = place_batches(len(ids), 16, 16, seed=4)
    return residual, train(residual, batches, config, loss_function=residual_loss(ids, log_probs), progress=False)


def test_it_begins_as_the_ngram_and_learns_what_that_cannot_see() -> None:
    """Head at zero: the first loss is the n-gram's, each place left out. Then the GPT finds the token five places back."""
    ids, new = text(6000, 11), text(1500, 12)
    counted = ngram(ids)
    left_out = LeaveOneOut(counted, ids)
    residual, history = trained(ids, counted, left_out.log_probs, 250)
    _, targets = next(place_batches(len(ids), 16, 16, seed=4))
    assert history[0]["loss"] == pytest.approx(-left_out.token_log_probs()[targets.numpy()].mean(), abs=1e-5)
    of_ngram = -token_log_probs(CountedLM(counted), new, EOT).mean()
    assert -token_log_probs(residual, new, EOT).mean() < of_ngram - 0.3


def test_an_ngram_that_knows_the_text_by_heart_teaches_the_wrong_thing() -> None:
    """Order 5 has seen almost every context of this text once, with the token that follows: leaving it out matters."""
    ids, new = text(1500, 13, back=2), text(1500, 14, back=2)
    counted = ngram(ids, order=5)

    def by_heart(places: np.ndarray) -> np.ndarray:
        return counted.log_probs(ids)[places - 1]

    nats = {}
    for name, log_probs in (("left out", LeaveOneOut(counted, ids).log_probs), ("by heart", by_heart)):
        residual, _ = trained(ids, counted, log_probs, 60)
        nats[name] = -token_log_probs(residual, new, EOT).mean()
    assert nats["left out"] < nats["by heart"] - 0.01


def test_vocabularies_must_agree() -> None:
    with pytest.raises(ValueError, match="one vocabulary"):
        Residual(GPT(GPTConfig(V + 1, CONTEXT, d_model=12, n_layers=1, n_heads=2)), CountedLM(ngram(text(60, 1))))

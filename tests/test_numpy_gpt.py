"""The GPT in numpy is the GPT in torch: same names, same logits, same gradients; and it learns."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from minilm.byhand.optim import AdamW, clip_grad_norm
from minilm.models.config import GPTConfig, gpt2_config, llama_config
from minilm.models.gpt import GPT, load_arrays
from minilm.models.numpy_gpt import NumpyGPT
from minilm.text.stories import stories
from minilm.training.loss import cross_entropy

CONTEXT, V = 24, 29
GPT2 = gpt2_config(vocab_size=V, context_length=CONTEXT, d_model=20, n_layers=3, n_heads=5, d_ff=28)
LLAMA = llama_config(
    vocab_size=V, context_length=CONTEXT, d_model=24, n_layers=2, n_heads=6, n_kv_heads=2, d_ff=28, rope_theta=500.0
)
# Both presets, and what lies between them: every field of the config that changes what is computed takes each value.
CONFIGS = {
    "gpt2": GPT2,
    "llama": LLAMA,
    "gpt2, grouped, untied": dataclasses.replace(GPT2, d_model=24, n_heads=4, n_kv_heads=2, tie_embeddings=False),
    "gpt2, exact gelu, no biases": dataclasses.replace(GPT2, mlp="gelu", bias=False, norm_eps=0.01),
    "gpt2, swiglu": dataclasses.replace(GPT2, mlp="swiglu", norm="rms"),
    "llama, one key head, tied, biases": dataclasses.replace(LLAMA, n_kv_heads=1, tie_embeddings=True, bias=True),
    "llama, mlp, layer norm": dataclasses.replace(LLAMA, mlp="gelu_tanh", norm="layer", n_layers=1, norm_eps=0.01),
}
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
presets = pytest.mark.parametrize("config", [GPT2, LLAMA], ids=["gpt2", "llama"])


def random_model(config: GPTConfig) -> GPT:
    """A float64 model with large random weights everywhere, norms and biases included."""
    model = GPT(config).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def random_batch(B: int, T: int) -> tuple[np.ndarray, np.ndarray]:
    """ids and targets (B, T) with tokens that occur more than once and labels that are not counted."""
    ids, targets = np.random.randint(0, V, (B, T)), np.random.randint(0, V, (B, T))
    targets[np.random.random((B, T)) < 0.3] = -100
    ids[0, 0] = ids[-1, -1]
    return ids, targets


def assert_same_gradients(ours: dict[str, np.ndarray], model: GPT) -> None:
    theirs = {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        assert np.abs(expected).max() > 1e-6 or name.endswith("attention.k.bias")
        assert ours[name].shape == expected.shape
        assert np.abs(ours[name] - expected).max() <= 1e-12 * max(1.0, np.abs(expected).max()), name


@every_config
@pytest.mark.parametrize(("B", "T"), [(3, 17), (2, CONTEXT), (4, 1)])
def test_logits_and_gradients_are_those_of_torch(config: GPTConfig, B: int, T: int) -> None:
    model, (ids, targets) = random_model(config), random_batch(B, T)
    targets[1, 0] = 5
    twin = NumpyGPT.from_arrays(config, model.arrays())
    logits = model(torch.from_numpy(ids))
    assert logits.std() > 0.1
    assert np.abs(twin.forward(ids) - logits.detach().numpy()).max() <= 1e-12
    expected = cross_entropy(logits, torch.from_numpy(targets))
    expected.backward()
    loss, gradients = twin.loss_and_gradients(ids, targets)
    assert abs(loss - expected.item()) <= 1e-12
    assert list(gradients) == list(twin.weights)
    if T > 1:
        assert_same_gradients(gradients, model)
    else:  # one token sees only itself: its scores move nothing
        assert not np.abs(gradients["blocks.0.attention.q.weight"]).max() > 1e-15


class Drawn(nn.Module):
    """Dropout whose masks come from a numpy generator."""

    def __init__(self, p: float, generator: np.random.Generator) -> None:
        super().__init__()
        self.p, self.generator = p, generator

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.from_numpy(self.generator.random(tuple(x.shape)) >= self.p) / (1 - self.p)


@presets
def test_dropout_drops_where_torch_does(config: GPTConfig) -> None:
    config = dataclasses.replace(config, dropout=0.3)
    model, (ids, targets) = random_model(config), random_batch(3, 11)
    twin = NumpyGPT.from_arrays(config, model.arrays())
    undropped = model(torch.from_numpy(ids)).detach().numpy()
    shared = Drawn(0.3, np.random.default_rng(8))
    model.dropout = shared
    for block in model.blocks:
        block.dropout = shared
    loss, gradients = twin.loss_and_gradients(ids, targets, np.random.default_rng(8))
    expected = cross_entropy(model(torch.from_numpy(ids)), torch.from_numpy(targets))
    expected.backward()
    assert abs(loss - expected.item()) <= 1e-12
    assert_same_gradients(gradients, model)
    assert np.abs(twin.forward(ids) - undropped).max() <= 1e-12  # without a generator nothing is dropped
    assert twin.loss_and_gradients(ids, targets)[0] != loss


@presets
def test_gradients_are_central_differences(config: GPTConfig) -> None:
    """Along a random direction in the space of all weights, and for three weights of every array."""
    model, (ids, targets) = random_model(config), random_batch(3, 9)
    twin, generator, h = NumpyGPT.from_arrays(config, model.arrays()), np.random.default_rng(4), 1e-5
    _, gradients = twin.loss_and_gradients(ids, targets)

    def slope(direction: dict[str, np.ndarray]) -> float:
        losses = []
        for step in (h, -h):
            moved = {name: w + step * direction[name] if name in direction else w for name, w in twin.weights.items()}
            losses.append(NumpyGPT.from_arrays(config, moved).loss_and_gradients(ids, targets)[0])
        return (losses[0] - losses[1]) / (2 * h)

    for _ in range(3):
        direction = {name: generator.standard_normal(w.shape) for name, w in twin.weights.items()}
        expected = sum(float((gradients[name] * direction[name]).sum()) for name in gradients)
        assert slope(direction) == pytest.approx(expected, rel=1e-7, abs=1e-7)
    for name, weight in twin.weights.items():
        for place in generator.integers(0, weight.size, 3):
            unit = np.zeros(weight.size)
            unit[place] = 1.0
            expected = gradients[name].ravel()[place]
            assert slope({name: unit.reshape(weight.shape)}) == pytest.approx(expected, rel=1e-7, abs=1e-9)


@every_config
def test_weights_pass_both_ways(config: GPTConfig) -> None:
    model = random_model(config)
    twin = NumpyGPT.from_arrays(config, model.arrays())
    assert list(twin.arrays()) == list(model.arrays())
    again = GPT(config).double()
    load_arrays(again, twin.arrays())
    ids, _ = random_batch(2, 7)
    assert torch.equal(again(torch.from_numpy(ids)), model(torch.from_numpy(ids)))
    own = twin.weights["norm.weight"].copy()
    with torch.no_grad():
        model.norm.weight.mul_(2)  # a copy was taken
    assert np.array_equal(twin.weights["norm.weight"], own)


@every_config
def test_weights_start_as_in_torch(config: GPTConfig) -> None:
    """Same names, order and shapes; the same spread of each array, as far as so few numbers show it."""
    large = dataclasses.replace(config, d_model=config.n_heads * 16, vocab_size=211, d_ff=150)
    model, twin = GPT(large), NumpyGPT(large, np.random.default_rng(3))
    expected = model.arrays()
    assert {name: w.shape for name, w in twin.weights.items()} == {name: tuple(w.shape) for name, w in expected.items()}
    assert list(twin.weights) == list(expected)
    for name, weight in twin.weights.items():
        theirs = expected[name].numpy()
        assert weight.dtype == np.float32
        if weight.ndim == 1:
            assert np.array_equal(weight, theirs)
        else:
            assert weight.std() == pytest.approx(theirs.std(), rel=0.08)
            assert abs(weight.mean()) < 0.1 * weight.std()
    same, other = (NumpyGPT(large, np.random.default_rng(seed)).weights["embedding.weight"] for seed in (3, 4))
    assert np.array_equal(same, twin.weights["embedding.weight"])
    assert not np.array_equal(other, same)


def test_what_does_not_fit_is_an_error() -> None:
    arrays = NumpyGPT(LLAMA, np.random.default_rng(0)).arrays()
    with pytest.raises(ValueError, match=r"missing or unknown blocks\.1\.mlp\.up\.weight"):
        NumpyGPT.from_arrays(LLAMA, {name: w for name, w in arrays.items() if name != "blocks.1.mlp.up.weight"})
    with pytest.raises(ValueError, match="missing or unknown spare"):
        NumpyGPT.from_arrays(LLAMA, arrays | {"spare": np.zeros(1)})
    with pytest.raises(ValueError, match=r"norm\.weight has shape \(1,\), the model needs \(24,\)"):
        NumpyGPT.from_arrays(LLAMA, arrays | {"norm.weight": np.zeros(1)})
    model = NumpyGPT.from_arrays(LLAMA, arrays)
    with pytest.raises(ValueError, match=f"{CONTEXT + 1} tokens do not fit into context_length {CONTEXT}"):
        model.forward(np.zeros((2, CONTEXT + 1), dtype=int))
    with pytest.raises(ValueError, match=f"ids go from 0 to {V}, but the table has the rows 0 to {V - 1}"):
        model.forward(np.array([[0, V]]))
    with pytest.raises(ValueError, match=f"target {V} is not a token"):
        model.loss_and_gradients(np.zeros((1, 1), dtype=int), np.array([[V]]))


@presets
def test_no_token_hears_of_the_future(config: GPTConfig) -> None:
    model, (ids, _) = NumpyGPT.from_arrays(config, random_model(config).arrays()), random_batch(2, 9)
    logits = model.forward(ids)
    for t in range(1, 9):
        other = ids.copy()
        other[:, t:] = (other[:, t:] + 1 + t) % V
        changed = np.abs(model.forward(other) - logits).max((0, 2)) > 1e-9
        assert changed.tolist() == [place >= t for place in range(9)]


@pytest.mark.parametrize("seed", range(3))
@presets
def test_it_memorises_a_batch(config: GPTConfig, seed: int) -> None:
    generator = np.random.default_rng(seed)
    small = dataclasses.replace(config, d_model=48, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=96)
    text = generator.integers(0, V, (3, CONTEXT + 1))
    text[:, 0] = [0, 1, 2]  # so that the first token says which text it is
    ids, targets = text[:, :-1], text[:, 1:]
    model = NumpyGPT(small, generator)
    optimizer = AdamW(model.weights, lr=3e-3, weight_decay=0.01)
    first, _ = model.loss_and_gradients(ids, targets)
    assert first == pytest.approx(np.log(V), abs=0.1)
    for _ in range(300):
        optimizer.step(model.loss_and_gradients(ids, targets)[1])
    assert model.loss_and_gradients(ids, targets)[0] <= 0.05
    written = ids[:, :1]
    for _ in range(CONTEXT):
        written = np.concatenate([written, model.forward(written)[:, -1:].argmax(-1)], axis=1)
    assert np.array_equal(written, text)


@presets
def test_it_learns_characters(config: GPTConfig) -> None:
    """On a text it has not seen, it soon beats what is to be had without looking at the context: single characters."""
    text = "".join(stories(300, seed=1))
    ids = np.unique(list(text), return_inverse=True)[1]
    train, held_out = ids[:-6000], ids[-6000:]
    V = int(ids.max()) + 1
    single = np.bincount(train, minlength=V) + 0.5
    bar = -np.log(single / single.sum())[held_out].mean()
    generator = np.random.default_rng(2)
    small = dataclasses.replace(config, vocab_size=V, d_model=32, n_layers=1, n_heads=4, n_kv_heads=2, d_ff=64)
    model = NumpyGPT(small, generator)
    optimizer = AdamW(model.weights, lr=1e-2, weight_decay=0.1)
    for _ in range(250):
        batch = generator.integers(0, len(train) - CONTEXT, 16)[:, None] + np.arange(CONTEXT + 1)
        gradients = model.loss_and_gradients(train[batch[:, :-1]], train[batch[:, 1:]])[1]
        clip_grad_norm(gradients.values(), 1.0)
        optimizer.step(gradients)
    rows = held_out[: 200 * CONTEXT].reshape(200, CONTEXT)
    assert model.loss_and_gradients(rows[:, :-1], rows[:, 1:])[0] < bar - 0.5


def test_it_needs_no_torch(subprocess_env: dict[str, str]) -> None:
    code = "import sys, minilm.models.numpy_gpt, minilm.byhand.agreement; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=subprocess_env, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"

"""The fused cross-entropy of a head against the plain one and torch's own: values, gradients, memory, and its manners."""

import inspect
import re
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from minilm.fast import cross_entropy as fast
from minilm.fast.cross_entropy import linear_cross_entropy
from minilm.models.config import GPTConfig, SpeedrunConfig
from minilm.models.gpt import GPT
from minilm.models.speedrun_gpt import SpeedrunGPT
from minilm.training import loss as plain
from minilm.training.config import TrainConfig
from minilm.training.loop import train
from minilm.training.loss import IGNORE, cross_entropy


def make_case(
    shape: tuple[int, ...], D: int, V: int, ignored: float, dtype: torch.dtype = torch.float64, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """hidden (..., D) and weight (V, D), which want gradients, and targets (...)."""
    generator = torch.Generator().manual_seed(seed)
    hidden, weight = (
        torch.randn(s, D, generator=generator, dtype=torch.float64) for s in (torch.Size(shape).numel(), V)
    )
    targets = torch.randint(V, shape, generator=generator)
    targets[torch.rand(shape, generator=generator) < ignored] = IGNORE
    return (2 * hidden).view(*shape, D).to(dtype).requires_grad_(), weight.to(dtype).requires_grad_(), targets


def gradients_of(loss: Tensor, *inputs: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(3.7 * loss, inputs))


class Memory(TorchDispatchMode):
    """Remembers of the tensors made inside it the most elements, and how many of that size lay in memory at one time."""

    def __init__(self) -> None:
        super().__init__()
        self.elements, self.number = 0, 0
        self.alive: list[weakref.ref[Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.alive += [weakref.ref(leaf) for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        tensors = [tensor for tensor in (there() for there in self.alive) if tensor is not None]
        largest = max(tensor.numel() for tensor in tensors)
        places = {tensor.untyped_storage().data_ptr() for tensor in tensors if tensor.numel() == largest}
        if largest > self.elements:
            self.elements, self.number = largest, 0
        if largest == self.elements:
            self.number = max(self.number, len(places))
        return out


class Products(TorchDispatchMode):
    """Remembers the dtype of each product of matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: list[torch.dtype] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm_):
            self.dtypes.append(args[-1].dtype)
        return func(*args, **(kwargs or {}))


# ---- the same number


@pytest.mark.parametrize("ignored", [0.0, 0.4])
@pytest.mark.parametrize("chunk", [1, 33, 34, 50, 10_000])
@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 4)])
def test_values_and_gradients_are_those_of_the_plain_loss_and_of_torch(
    shape: tuple[int, ...], chunk: int, ignored: float
) -> None:
    """Chunks of one token, of some that divide the number of tokens, of some that do not, and of all."""
    hidden, weight, targets = make_case(shape, 6, 11, ignored)
    logits = hidden @ weight.mT
    theirs = F.cross_entropy(logits.reshape(-1, 11), targets.reshape(-1), ignore_index=IGNORE)
    ours = linear_cross_entropy(hidden, weight, targets, chunk=chunk)
    gradients = gradients_of(ours, hidden, weight)
    for reference in (cross_entropy(logits, targets), theirs):
        torch.testing.assert_close(ours, reference, rtol=0, atol=1e-12)
        expected = torch.autograd.grad(3.7 * reference, (hidden, weight), retain_graph=True)
        for a, b in zip(gradients, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("shape", "ignored"), [((1,), 0.0), ((3, 2), 0.3)])
def test_a_large_vocabulary_and_few_tokens(shape: tuple[int, ...], ignored: float) -> None:
    V = 50_304
    hidden, weight, targets = make_case(shape, 5, V, ignored, seed=1)
    ours = linear_cross_entropy(hidden, weight, targets, chunk=2 * V)
    reference = cross_entropy(hidden @ weight.mT, targets)
    torch.testing.assert_close(ours, reference, rtol=0, atol=1e-12)
    for a, b in zip(gradients_of(ours, hidden, weight), gradients_of(reference, hidden, weight), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_gradients_are_central_differences() -> None:
    hidden, weight, targets = make_case((2, 3), 4, 5, 0.3)
    assert torch.autograd.gradcheck(lambda h, w: linear_cross_entropy(h, w, targets, chunk=10), (hidden, weight))


def test_float32() -> None:
    hidden, weight, targets = make_case((9, 31), 24, 97, 0.2, torch.float32)
    ours = linear_cross_entropy(hidden, weight, targets, chunk=1000)
    reference = cross_entropy(hidden.double() @ weight.double().mT, targets)
    assert ours.dtype is torch.float32
    torch.testing.assert_close(ours.double(), reference, rtol=1e-6, atol=0)
    for a, b in zip(gradients_of(ours, hidden, weight), gradients_of(reference, hidden, weight), strict=True):
        assert a.dtype is torch.float32
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_bfloat16_is_added_up_in_float32() -> None:
    """A thousand chunks of one token each: in bfloat16 the sums would stop growing."""
    hidden, weight, targets = make_case((1000,), 8, 13, 0.0, torch.bfloat16)
    with torch.no_grad():
        hidden.abs_()  # all contributions to one row of the weight's gradient have one sign
        targets.fill_(4)
    ours = linear_cross_entropy(hidden, weight, targets, chunk=13)
    same_products = cross_entropy((hidden @ weight.mT).double(), targets)
    assert ours.dtype is torch.float32
    torch.testing.assert_close(ours.double(), same_products, rtol=1e-6, atol=0)
    exact = cross_entropy(hidden.double() @ weight.double().mT, targets)
    for a, b in zip(gradients_of(ours, hidden, weight), gradients_of(exact, hidden, weight), strict=True):
        assert a.dtype is torch.bfloat16
        torch.testing.assert_close(a.double(), b.double(), rtol=0.03, atol=0.01 * float(b.abs().max()))


def test_under_autocast_the_products_are_in_bfloat16_and_the_gradients_in_float32() -> None:
    hidden, weight, targets = make_case((5, 17), 24, 97, 0.2, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        with Products() as products:
            ours = linear_cross_entropy(hidden, weight, targets, chunk=1000)
        reference = cross_entropy(hidden @ weight.mT, targets)
    torch.testing.assert_close(ours, reference, rtol=1e-6, atol=0)
    assert set(products.dtypes) == {torch.bfloat16}
    for a, b in zip(gradients_of(ours, hidden, weight), gradients_of(reference, hidden, weight), strict=True):
        assert a.dtype is torch.float32
        torch.testing.assert_close(a, b, rtol=0.03, atol=0.01 * float(b.abs().max()))


# ---- labels


def test_nothing_counted_is_zero_with_zero_gradients() -> None:
    hidden, weight, _ = make_case((2, 3), 4, 5, 0.0)
    loss = linear_cross_entropy(hidden, weight, torch.full((2, 3), IGNORE))
    assert loss.item() == 0.0
    for gradient, x in zip(gradients_of(loss, hidden, weight), (hidden, weight), strict=True):
        assert torch.equal(gradient, torch.zeros_like(x))


def test_another_ignore_index() -> None:
    hidden, weight, targets = make_case((3, 5), 4, 11, 0.0)
    targets[1, 2:] = 4
    reference = F.cross_entropy((hidden @ weight.mT).reshape(-1, 11), targets.reshape(-1), ignore_index=4)
    torch.testing.assert_close(linear_cross_entropy(hidden, weight, targets, 4), reference, rtol=0, atol=1e-12)
    assert inspect.signature(linear_cross_entropy).parameters["ignore_index"].default == IGNORE


@pytest.mark.parametrize("label", [-1, -99, -101, 7, 1000])
def test_a_bad_label_is_the_error_of_the_plain_loss(label: int) -> None:
    targets = torch.tensor([[0, 1, 2], [3, label, -100]])
    with pytest.raises(ValueError) as theirs:
        cross_entropy(torch.zeros(2, 3, 7), targets)
    with pytest.raises(ValueError, match=re.escape(str(theirs.value))):
        linear_cross_entropy(torch.zeros(2, 3, 4), torch.zeros(7, 4), targets)


@pytest.mark.parametrize(("hidden", "weight"), [((2, 4), (7, 4)), ((2, 3, 4), (7, 5)), ((3, 2, 4), (7, 4))])
def test_shapes_that_do_not_fit(hidden: tuple[int, ...], weight: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"have the shapes \(.*\): give \(\.\.\., D\), \(V, D\) and \(\.\.\.\)"):
        linear_cross_entropy(torch.zeros(hidden), torch.zeros(weight), torch.zeros(2, 3, dtype=torch.long))


def test_huge_logits_stay_finite_and_what_is_no_number_shows() -> None:
    hidden = torch.tensor([[1e4], [-1e4]], requires_grad=True)
    weight = torch.tensor([[1.0], [0.0], [-1.0]], requires_grad=True)
    loss = linear_cross_entropy(hidden, weight, torch.tensor([0, 1]))
    assert loss.item() == pytest.approx(5000.0)
    assert all(gradient.isfinite().all() for gradient in gradients_of(loss, hidden, weight))
    for bad in (float("nan"), float("inf")):
        assert linear_cross_entropy(torch.tensor([[bad], [0.0]]), weight, torch.tensor([0, 1])).isnan()


# ---- memory


@pytest.mark.parametrize("n_tokens", [24, 48, 96])
def test_no_tensor_is_larger_than_one_chunk_of_logits(n_tokens: int) -> None:
    V, D, rows = 503, 8, 12  # the chunk is larger than the weight, and than the hidden states
    hidden, weight, targets = make_case((n_tokens,), D, V, 0.2, torch.float32)
    with Memory() as fused:
        linear_cross_entropy(hidden, weight, targets, chunk=rows * V + V - 1).backward()
    assert (fused.elements, fused.number) == (rows * V, 1)
    with Memory() as whole:
        cross_entropy(hidden @ weight.mT, targets).backward()
    assert whole.elements == n_tokens * V
    assert whole.number > 2


def test_by_default_a_chunk_is_34_megabytes() -> None:
    V = 70_001
    hidden, weight, targets = make_case((130,), 2, V, 0.0, torch.float32)
    with Memory() as memory:
        linear_cross_entropy(hidden, weight, targets).backward()
    assert V * 118 < memory.elements <= 2**23


def test_a_chunk_smaller_than_the_vocabulary_is_one_token() -> None:
    hidden, weight, targets = make_case((6,), 1, 503, 0.0, torch.float32)
    for chunk in (1, 502, 503, 1005):
        with Memory() as memory:
            linear_cross_entropy(hidden, weight, targets, chunk=chunk).backward()
        assert memory.elements == 503


def test_for_the_way_back_only_the_two_gradients_are_kept() -> None:
    hidden, weight, targets = make_case((24,), 8, 503, 0.0, torch.float32)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        linear_cross_entropy(hidden, weight, targets, chunk=2000)
    assert sum(kept) <= hidden.numel() + weight.numel() + 2 * targets.numel()


def test_gradients_are_made_for_those_who_want_them_only() -> None:
    """Products of matrices: the logits alone where no gradient is asked for, one more for each input that wants one."""
    hidden, weight, targets = make_case((6,), 4, 11, 0.0)

    def products(hidden: Tensor, weight: Tensor) -> int:
        with Products() as mode:
            linear_cross_entropy(hidden, weight, targets)
        return len(mode.dtypes)

    assert products(hidden, weight) == 3
    assert products(hidden.detach(), weight) == products(hidden, weight.detach()) == 2
    assert products(hidden.detach(), weight.detach()) == 1
    with torch.no_grad():
        assert products(hidden, weight) == 1
    only = gradients_of(linear_cross_entropy(hidden, weight.detach(), targets), hidden)[0]
    both = gradients_of(linear_cross_entropy(hidden, weight, targets), hidden)[0]
    assert torch.equal(only, both)


# ---- in the graph


def test_two_ways_back_add_up_and_a_second_derivative_is_refused() -> None:
    hidden, weight, targets = make_case((6,), 4, 11, 0.3)
    loss = linear_cross_entropy(hidden, weight, targets)
    once = torch.autograd.grad(loss, weight, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(loss, weight, retain_graph=True)[0], once)
    with pytest.raises(RuntimeError, match="has no second derivative: use the plain one, of logits, for that"):
        torch.autograd.grad(loss, hidden, create_graph=True)


def same_models(tied: bool) -> tuple[GPT, GPT]:
    config = GPTConfig(vocab_size=29, context_length=9, d_model=8, n_layers=2, n_heads=2, tie_embeddings=tied)
    models = []
    for _ in range(2):
        torch.manual_seed(5)
        models.append(GPT(config).double())
    return models[0], models[1]


@pytest.mark.parametrize("tied", [True, False])
def test_a_models_loss_and_gradients_are_the_plain_ones(tied: bool) -> None:
    ours, theirs = same_models(tied)
    inputs, targets = torch.randint(29, (2, 3, 9))
    targets[0, :4] = IGNORE
    a, b = fast.next_token_loss(ours, inputs, targets), plain.next_token_loss(theirs, inputs, targets)
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    a.backward()
    b.backward()
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert p.grad is not None, name
        torch.testing.assert_close(p.grad, q.grad, rtol=0, atol=1e-12)


def test_the_head_of_the_speed_run() -> None:
    model = SpeedrunGPT(SpeedrunConfig(vocab_size=29, context_length=9, d_model=8, n_layers=1, n_heads=2)).double()
    nn.init.normal_(model.lm_head.weight)
    inputs, targets = torch.randint(29, (2, 3, 9))
    torch.testing.assert_close(
        fast.next_token_loss(model, inputs, targets), plain.next_token_loss(model, inputs, targets), rtol=0, atol=1e-12
    )


def test_a_compiled_model_is_refused() -> None:
    """Its `hidden` is the original's, which would run uncompiled."""
    compiled, _ = same_models(tied=True)
    compiled = torch.compile(compiled, backend="eager")
    with pytest.raises(ValueError, match="train a compiled model with the plain loss") as error:
        fast.next_token_loss(compiled, *torch.randint(29, (2, 3, 9)))
    assert "\n" not in str(error.value)


def test_training_with_it_is_training_without() -> None:
    ours, theirs = same_models(tied=True)
    config = TrainConfig(steps=6, accumulation=2, warmup=0, dtype="float32", learning_rate=0.01, eval_every=0)
    batches = [tuple(torch.randint(29, (2, 3, 9))) for _ in range(12)]
    for x, y in batches[::2]:
        y[x < 9] = IGNORE
    histories = [
        train(model, batches, config, loss_function=loss, progress=False)
        for model, loss in ((ours, fast.next_token_loss), (theirs, plain.next_token_loss))
    ]
    assert [a["loss"] for a in histories[0]] == pytest.approx([b["loss"] for b in histories[1]], abs=1e-10)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-10)

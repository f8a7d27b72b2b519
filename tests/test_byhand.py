"""The bricks of byhand/: what was derived by hand is what torch's autograd finds in layers/, and what central differences
measure; with huge inputs, in float32, and without touching what they are given."""

import doctest
import importlib
import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from minilm.byhand import agreement, attention, basic, blocks, lora, loss, mixture_of_experts, optim, positions
from minilm.byhand.bricks import SIZES, Brick, Size, bricks
from minilm.layers import attention as torch_attention
from minilm.layers import basic as torch_basic
from minilm.layers import blocks as torch_blocks
from minilm.layers import mixture_of_experts as torch_experts
from minilm.layers import positions as torch_positions
from minilm.training import loss as torch_loss
from minilm.training import optim as torch_optim

MODULES: list[ModuleType] = [basic, lora, loss, positions, attention, blocks, mixture_of_experts]
NAMES = list(bricks(SIZES[0], 0))
every_brick = pytest.mark.parametrize("name", NAMES)
every_size = pytest.mark.parametrize("number", range(len(SIZES)), ids=["B3", "B5", "B2"])


# ---- the corresponding layers


class Replayed(nn.Module):
    """Dropout with given masks, one a call."""

    def __init__(self, keeps: tuple[np.ndarray, ...], p: float) -> None:
        super().__init__()
        self.keeps, self.p = iter(keeps), p

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.tensor(next(self.keeps)) / (1 - self.p)


def rotation(angles: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda x: torch_positions.rotate_half_split(x, angles)


def torch_mha(size: Size, bias: bool) -> torch_attention.MultiHeadAttention:
    return torch_attention.MultiHeadAttention(size.D, size.H, size.G, bias)


def torch_mlp(size: Size) -> nn.Module:
    return torch_blocks.MLP(size.D, size.F, torch_basic.gelu_tanh)


def torch_block(size: Size, inputs: dict[str, Any], **options: Any) -> Tensor:
    """The block of GPT-2 if there are dropout masks, else that of Llama."""
    norm: Callable[[int], nn.Module] = torch_basic.LayerNorm if "keeps" in inputs else torch_basic.RMSNorm
    mlp = torch_mlp(size) if "keeps" in inputs else torch_blocks.SwiGLU(size.D, size.F)
    dropout = Replayed(inputs["keeps"], inputs["p"]) if "keeps" in inputs else torch_basic.Dropout(0.0)
    mixer = torch_mha(size, bias="keeps" in inputs)
    block = torch_blocks.TransformerBlock(mixer, mlp, norm(size.D), norm(size.D), dropout)
    causal = torch.ones(size.T, size.T, dtype=torch.bool).tril()
    return torch.func.functional_call(block, inputs["weights"], (inputs["x"], causal), options)


def torch_residual(size: Size, x: Tensor, weights: dict[str, Tensor], p: float, keep: Tensor, **_: Any) -> Tensor:
    normed = torch_basic.rms_norm(x, weights["mlp_norm.weight"])
    own = {name.removeprefix("mlp."): weight for name, weight in weights.items() if name.startswith("mlp.")}
    change = torch.func.functional_call(torch_blocks.SwiGLU(size.D, size.F), own, (normed,))
    return x + change * keep / (1 - p)


def torch_mixture(size: Size, x: Tensor, weights: dict[str, Tensor], k: int, **_: Any) -> Tensor:
    """What a layer of three experts, the second gated, says, and its balance loss."""
    experts = [torch_mlp(size), torch_blocks.SwiGLU(size.D, size.F), torch_mlp(size)]
    layer = torch_experts.MixtureOfExperts(experts, size.D, k)
    out = torch.func.functional_call(layer, weights, (x,))
    return torch.cat([out.flatten(), layer.take_balance().reshape(1)])


def reference(name: str, size: Size, inputs: dict[str, Any]) -> Tensor:
    """What the layer of this name gives for the same inputs, as tensors."""
    x = inputs.get("x")
    call = torch.func.functional_call
    functions: dict[str, Callable[[], Tensor]] = {
        "embedding": lambda: inputs["weight"][inputs["ids"]],
        "dropout": lambda: x * inputs["keep"] / (1 - inputs["p"]),
        "lora": lambda: inputs["scale"] * torch_basic.linear(torch_basic.linear(x, inputs["A"]), inputs["B"]),
        "relu_squared": lambda: torch_basic.relu(x) ** 2,
        "cross_entropy": lambda: torch_loss.cross_entropy(**inputs),
        "learned_positions": lambda: x + inputs["weight"][inputs["positions"]],
        "rotate_half_split": lambda: torch_positions.rotate_half_split(**inputs),
        "rotate_interleaved": lambda: torch_positions.rotate_interleaved(**inputs),
        "share_heads": lambda: torch_attention.share_heads(x, size.H),
        "split_heads": lambda: torch_attention.split_heads(x, size.H),
        "merge_heads": lambda: torch_attention.merge_heads(x),
        "scaled_dot_product_attention": lambda: torch_attention.scaled_dot_product_attention(**inputs),
        "multi_head_attention": lambda: call(
            torch_mha(size, bias="angles" not in inputs),
            inputs["weights"],
            (x, inputs["mask"], rotation(inputs["angles"]) if "angles" in inputs else None),
        ),
        "mlp": lambda: call(torch_mlp(size), inputs["weights"], (x,)),
        "swiglu": lambda: call(torch_blocks.SwiGLU(size.D, size.F), inputs["weights"], (x,)),
        "residual": lambda: torch_residual(size, **inputs),
        "route": lambda: torch_experts.route(**inputs)[0],
        "balance_loss": lambda: torch_experts.balance_loss(**inputs),
        "mixture_of_experts": lambda: torch_mixture(size, **inputs),
        "transformer_block": lambda: torch_block(size, inputs, **block_options(size, name)),
    }
    function = name.split(",")[0].split(" ")[0]
    return functions[function]() if function in functions else getattr(torch_basic, function)(**inputs)


def block_options(size: Size, name: str) -> dict[str, Any]:
    angles = torch_positions.rotary_angles(torch.arange(size.T), size.K, theta=50.0)
    return {"rotate": rotation(angles)} if "Llama" in name else {}


def tensors(value: Any) -> Any:
    """Arrays as tensors, floats with gradients; dicts too; the dropout masks of blocks and all else as they are."""
    if isinstance(value, np.ndarray):
        tensor = torch.tensor(value)
        return tensor.requires_grad_() if tensor.is_floating_point() else tensor
    return {name: tensors(part) for name, part in value.items()} if isinstance(value, dict) else value


def torch_gradients(name: str, size: Size, brick: Brick, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The layer's output, and its gradients by autograd under the same upstream gradient."""
    inputs = tensors(brick.inputs)
    out = reference(name, size, inputs)
    out.backward(torch.from_numpy(np.asarray(agreement.upstream(out.detach().numpy(), seed))))
    gradients = {}
    for path in agreement.differentiable(brick.inputs):
        first, *rest = path.split("/", 1)
        tensor = inputs[first][rest[0]] if rest else inputs[first]
        gradients[path] = (torch.zeros_like(tensor) if tensor.grad is None else tensor.grad).numpy()
    return out.detach().numpy(), gradients


def by_hand(brick: Brick, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    out, cache = brick.forward(**brick.inputs)
    return out, agreement.gradients_of(brick, agreement.upstream(out, seed), cache)


def frozen(brick: Brick) -> Brick:
    """The brick, with inputs that cannot be changed."""
    for array in agreement.differentiable(brick.inputs).values():
        array.flags.writeable = False
    return brick


def assert_close(ours: np.ndarray, expected: np.ndarray, tolerance: float = 1e-12) -> None:
    """Equal up to the tolerance, relative to the largest of the expected numbers, or to 1."""
    assert np.shape(ours) == np.shape(expected)
    assert np.isfinite(expected).all() and np.isfinite(ours).all()
    assert np.abs(ours - expected).max() <= tolerance * max(1.0, np.abs(expected).max())


@every_size
@every_brick
def test_by_hand_is_autograd(name: str, number: int) -> None:
    size, brick = SIZES[number], frozen(bricks(SIZES[number], number)[name])
    expected_out, expected = torch_gradients(name, size, brick, number)
    assert expected_out.size == 1 or expected_out.std() > 0.05, "an oracle of zeros proves nothing"
    out, gradients = by_hand(brick, number)
    assert_close(out, expected_out)
    assert gradients.keys() == expected.keys()
    for path, gradient in expected.items():
        assert path.endswith("k.bias") or gradient.std() > 1e-3  # a key's bias moves all scores of a query alike: 0
        assert_close(gradients[path], gradient)
    twice = by_hand(brick, number)
    assert np.array_equal(twice[0], out)
    assert all(np.array_equal(twice[1][path], gradients[path]) for path in gradients)


# ---- the table, and that it can fail


def test_by_hand_is_measured() -> None:
    table = agreement.agreement()
    assert len(table) >= 25
    assert set(table) == set(NAMES)
    assert {name: error for name, error in table.items() if not error <= 1e-7} == {}


def test_every_backward_pass_is_in_the_table() -> None:
    derived = {
        name.removesuffix("_backward") for module in MODULES for name in vars(module) if name.endswith("_backward")
    }
    assert derived <= {name.split(",")[0].split(" ")[0] for name in NAMES}
    assert len(derived) >= 20


@every_brick
def test_a_gradient_that_is_off_by_a_millionth_shows(name: str) -> None:
    forward, backward, inputs = bricks(SIZES[2], 2)[name]

    def off(dout: np.ndarray, cache: Any) -> Any:
        return backward(dout * (1 + 1e-6), cache)

    assert agreement.error_of(Brick(forward, off, inputs), 2) > 9e-7


def softmax_without_the_others(dout: np.ndarray, cache: Any) -> np.ndarray:
    p, _ = cache
    return dout * p * (1 - p)


def layer_norm_with_constant_statistics(dout: np.ndarray, cache: Any) -> Any:
    n, inverse, weight, _ = cache
    return dout * weight * inverse, (dout * n).sum((0, 1)), dout.sum((0, 1))


def embedding_that_overwrites(dout: np.ndarray, cache: Any) -> np.ndarray:
    ids, weight = cache
    dweight = np.zeros_like(weight)
    dweight[ids] = dout
    return dweight


def heads_shared_in_turn(dout: np.ndarray, n_kv_heads: int) -> np.ndarray:
    B, H, S, K = dout.shape
    return dout.reshape(B, H // n_kv_heads, n_kv_heads, S, K).sum(1)


def cross_entropy_over_all_targets(dout: np.ndarray, cache: Any) -> np.ndarray:
    counted = cache[2]
    return loss.cross_entropy_backward(dout, cache) * counted.sum() / counted.size


def gradients_with_nan(dout: np.ndarray, cache: Any) -> np.ndarray:
    return np.full_like(dout, np.nan)


@pytest.mark.parametrize(
    ("name", "mistake"),
    [
        ("softmax", softmax_without_the_others),
        ("softmax", gradients_with_nan),
        ("layer_norm", layer_norm_with_constant_statistics),
        ("embedding", embedding_that_overwrites),
        ("share_heads", heads_shared_in_turn),
        ("cross_entropy", cross_entropy_over_all_targets),
    ],
)
def test_the_usual_mistakes_show(name: str, mistake: Callable[..., Any]) -> None:
    brick = bricks(SIZES[0], 0)[name]
    assert agreement.error_of(brick._replace(backward=mistake), 0) > 1e-3


def test_a_missing_gradient_or_a_wrong_shape_is_an_error() -> None:
    brick = bricks(SIZES[0], 0)["linear"]
    dout = np.ones((3, 5, 11))
    with pytest.raises(ValueError, match="zip"):
        agreement.gradients_of(brick._replace(backward=lambda *_: (dout, dout)), dout, None)
    with pytest.raises(ValueError, match=r"another shape, for bias, weight, x"):
        agreement.gradients_of(brick._replace(backward=lambda *_: (dout, dout, dout)), dout, None)


def test_central_differences_of_a_polynomial() -> None:
    x = np.array([[2.0, -3.0]])
    assert_close(agreement.central_differences(lambda: float((x**3).sum()), x), np.array([[12.0, 27.0]]), 1e-9)
    assert x.tolist() == [[2.0, -3.0]]


# ---- huge inputs, float32


@every_brick
def test_huge_inputs_raise_no_floating_point_warning(name: str) -> None:
    """All inputs are 1e4 or -1e4: differences of scores overflow, underflow or tie; nothing is warned of, all is finite."""
    size, brick = SIZES[0], bricks(SIZES[0], 0)[name]
    for array in brick.inputs.values():
        if isinstance(array, np.ndarray) and array.dtype.kind == "f":
            array[...] = np.where(array > 0, 1e4, -1e4)
    with np.errstate(all="raise"):
        out, gradients = by_hand(brick, 0)
    expected_out, expected = torch_gradients(name, size, brick, 0)
    assert_close(out, expected_out, 1e-9)
    for path, gradient in expected.items():
        assert_close(gradients[path], gradient, 1e-9)


def converted(value: Any, dtype: type) -> Any:
    if isinstance(value, dict):
        return {name: converted(part, dtype) for name, part in value.items()}
    return value.astype(dtype) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value


@every_brick
def test_float32_stays_float32(name: str) -> None:
    brick = bricks(SIZES[0], 0)[name]
    angles = {key: value for key, value in brick.inputs.items() if key == "angles"}  # these are always float64
    out, cache = brick.forward(**converted(brick.inputs, np.float32) | angles)
    gradients = agreement.gradients_of(brick, agreement.upstream(out, 0).astype(np.float32), cache)
    expected_out, expected = by_hand(brick, 0)
    for ours, exact in [(out, expected_out), *((gradients[path], expected[path]) for path in expected)]:
        assert ours.dtype == np.float32
        assert_close(ours, exact, 5e-5)


# ---- values worked out on paper, and the edges


@pytest.mark.parametrize("name", ["basic", "lora", "loss", "attention", "mixture_of_experts", "autograd"])
def test_examples_in_docstrings(name: str) -> None:
    results = doctest.testmod(importlib.import_module(f"minilm.byhand.{name}"))
    assert results.attempted > 0
    assert results.failed == 0


def test_a_softmax_worked_out_on_paper() -> None:
    """p = (1/4, 3/4): dx_1 = 1/4 (4 - (4 · 1/4 + 8 · 3/4)) = -3/4, and dx_2 is the opposite."""
    p, cache = basic.softmax(np.array([0.0, math.log(3)]))
    assert_close(p, np.array([0.25, 0.75]))
    assert_close(basic.softmax_backward(np.array([4.0, 8.0]), cache), np.array([-0.75, 0.75]))
    assert_close(basic.softmax_backward(np.array([5.0, 5.0]), cache), np.zeros(2))


def test_probabilities_too_small_for_the_dtype_are_zero() -> None:
    assert basic.exp(np.array([0.0, -1.0, -353.0, -355.0, -math.inf])).tolist() == [
        1.0,
        math.exp(-1),
        math.exp(-353),
        0.0,
        0.0,
    ]
    assert basic.exp(np.array([-43.0, -44.0], dtype=np.float32)).tolist() == [pytest.approx(math.exp(-43)), 0.0]
    with np.errstate(all="raise"):
        rows, _ = basic.log_softmax(np.array([[1000.0, 0.0], [-1000.0, -1000.0]]))
    assert_close(rows, np.array([[0.0, -1000.0], [-math.log(2), -math.log(2)]]))


def test_a_query_that_sees_nothing_gives_and_gets_nothing() -> None:
    size, brick = SIZES[1], bricks(SIZES[1], 1)["scaled_dot_product_attention with a mask"]
    out, gradients = by_hand(brick, 1)
    assert (out[0, :, 1] == 0).all()
    assert (gradients["q"][0, :, 1] == 0).all()
    assert (np.abs(out).sum(-1) == 0).sum() == size.H * (~brick.inputs["mask"].any(-1)).sum()
    unseen = ~brick.inputs["mask"].any((1, 2))  # keys that no query may attend to
    brick.inputs["mask"][:, :, :, 3] = False
    unseen = by_hand(brick, 1)[1]
    assert (unseen["k"][:, :, 3] == 0).all() and (unseen["v"][:, :, 3] == 0).all()
    assert unseen["k"].any((0, 1, 3)).sum() == size.S - 1


def test_a_loss_without_counted_targets_is_zero() -> None:
    value, cache = loss.cross_entropy(np.random.randn(3, 5), np.full(3, -100))
    assert value == 0
    gradient = loss.cross_entropy_backward(1.0, cache)
    assert gradient.shape == (3, 5)
    assert not gradient.any()
    nothing, cache = loss.cross_entropy(np.zeros((0, 5)), np.zeros(0, dtype=int))
    assert nothing == 0
    assert loss.cross_entropy_backward(1.0, cache).shape == (0, 5)


def test_a_loss_worked_out_on_paper() -> None:
    """Two counted targets, p = (1/4, 3/4) each time: the mean of log 4 and log 4/3, gradients halved, times dout = 10."""
    logits = np.array([[0.0, math.log(3)], [0.0, 7.0], [0.0, math.log(3)]])
    value, cache = loss.cross_entropy(logits, np.array([0, -1, 1]), ignore_index=-1)
    assert value == pytest.approx((math.log(4) + math.log(4 / 3)) / 2, abs=1e-12)
    gradient = loss.cross_entropy_backward(10.0, cache)
    assert_close(gradient, 10 * np.array([[-0.375, 0.375], [0.0, 0.0], [0.125, -0.125]]))


@pytest.mark.parametrize("label", [-1, 5, 99])
def test_a_label_that_is_no_token_is_an_error(label: int) -> None:
    with pytest.raises(ValueError, match=f"target {label} is not a token: labels go from 0 to 4, or are -100"):
        loss.cross_entropy(np.zeros((2, 3, 5)), np.array([[0, -100, 4], [label, 1, 1]]))


@pytest.mark.parametrize("ids", [[0, 7], [-1, 2]])
def test_an_id_without_a_row_is_an_error(ids: list[int]) -> None:
    with pytest.raises(ValueError, match=rf"ids go from {min(ids)} to {max(ids)}, but the table has the rows 0 to 6"):
        basic.embedding(np.array(ids), np.zeros((7, 2)))
    assert basic.embedding(np.zeros((2, 0), dtype=int), np.zeros((7, 3)))[0].shape == (2, 0, 3)


def test_rotary_at_a_known_place() -> None:
    """One pair, turned by a quarter: (1, 0) -> (0, 1); and what comes back is turned by a quarter the other way."""
    quarter = np.array([[math.pi / 2]])
    for rotate, back in (
        (positions.rotate_half_split, positions.rotate_half_split_backward),
        (positions.rotate_interleaved, positions.rotate_interleaved_backward),
    ):
        out, cache = rotate(np.array([[1.0, 0.0]]), quarter)
        assert_close(out, np.array([[0.0, 1.0]]))
        assert_close(back(np.array([[1.0, 0.0]]), cache), np.array([[0.0, -1.0]]))
    places = np.array([5, 9, 2])
    expected = torch_positions.rotary_angles(torch.from_numpy(places), 6, 500.0).numpy()
    assert_close(positions.rotary_angles(places, 6, 500.0), expected)


def test_no_dropout_is_the_identity() -> None:
    x = np.random.randn(3, 4)
    out, cache = basic.dropout(x, 0.4, None)
    assert np.array_equal(out, x)
    assert np.array_equal(basic.dropout_backward(x, cache), x)


# ---- optim.py


def random_problem() -> tuple[dict[str, np.ndarray], list[dict[str, np.ndarray]]]:
    """A matrix, a vector and a table, and gradients for five steps of very different sizes; the vector rests for two."""
    generator = np.random.default_rng(5)
    weights = {"a.weight": generator.normal(size=(3, 4)), "a.bias": generator.normal(size=3)}
    weights["table"] = generator.normal(size=(7, 2))
    steps = [
        {name: generator.normal(size=w.shape) * 10.0 ** generator.uniform(-9, 2) for name, w in weights.items()}
        for _ in range(5)
    ]
    del steps[1]["a.bias"], steps[2]["a.bias"]
    return weights, steps


def test_adamw_is_torch_and_the_house() -> None:
    weights, steps = random_problem()
    references = []
    for make in (torch.optim.AdamW, torch_optim.AdamW):
        tensors_ = {name: nn.Parameter(torch.tensor(w)) for name, w in weights.items()}
        decayed = [p for p in tensors_.values() if p.ndim >= 2]
        groups = [
            {"params": decayed, "weight_decay": 0.3},
            {"params": [tensors_["a.bias"]], "weight_decay": 0.0},
        ]
        optimizer: Any = make(groups, lr=0.037, betas=(0.8, 0.95), eps=1e-7)  # type: ignore[operator]
        for t, gradients in enumerate(steps):
            for group in optimizer.param_groups if make is torch.optim.AdamW else optimizer.groups:
                group["lr"] = 0.037 / (1 + t)
            for name, p in tensors_.items():
                p.grad = torch.tensor(gradients[name]) if name in gradients else None
            optimizer.step()
        references.append({name: p.detach().numpy() for name, p in tensors_.items()})
    ours = {name: w.copy() for name, w in weights.items()}
    adamw = optim.AdamW(ours, lr=0.037, betas=(0.8, 0.95), eps=1e-7, weight_decay=0.3)
    for t, gradients in enumerate(steps):
        adamw.lr = 0.037 / (1 + t)
        adamw.step({name: gradient.copy() for name, gradient in gradients.items()})
    for expected in references:
        for name in weights:
            assert np.abs(ours[name] - weights[name]).min() > 1e-3
            assert_close(ours[name], expected[name])


def test_the_first_step_of_adamw_is_lr_whatever_the_size_of_the_gradient() -> None:
    weights = {"w": np.array([1.0, 1.0, 1.0])}
    optim.AdamW(weights, lr=0.25).step({"w": np.array([1e-3, -7.0, 1e3])})
    assert_close(weights["w"], np.array([0.75, 1.25, 0.75]), 1e-5)


def test_adamw_keeps_float32() -> None:
    weights = {"w": np.ones((2, 3), dtype=np.float32)}
    optimizer = optim.AdamW(weights, weight_decay=0.1)
    optimizer.step({"w": np.ones((2, 3), dtype=np.float32)})
    assert weights["w"].dtype == optimizer.means["w"].dtype == optimizer.squares["w"].dtype == np.float32


def test_clipping_is_torch_and_leaves_a_short_gradient_alone() -> None:
    gradients = random_problem()[1][0]
    expected = [nn.Parameter(torch.zeros(g.shape, dtype=torch.float64)) for g in gradients.values()]
    for p, g in zip(expected, gradients.values(), strict=True):
        p.grad = torch.tensor(g)
    norm = float(torch.nn.utils.clip_grad_norm_(expected, 1e9))
    kept = {name: g.copy() for name, g in gradients.items()}
    assert optim.clip_grad_norm(gradients.values(), norm * 1.01) == pytest.approx(norm, rel=1e-12)
    assert all(np.array_equal(gradients[name], kept[name]) for name in kept)
    optim.clip_grad_norm(gradients.values(), norm / 7)
    for name in kept:
        assert_close(gradients[name], kept[name] / 7)
    assert math.sqrt(sum((g**2).sum() for g in gradients.values())) == pytest.approx(norm / 7, rel=1e-12)

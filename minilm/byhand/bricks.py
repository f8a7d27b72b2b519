"""All bricks of byhand/ in one list, each with random inputs: what `agreement` judges.

The inputs are ugly on purpose. No two axes have the same length, ids occur twice, some labels are ignored, some rows of a mask
are empty, scales are not 1, shifts not 0: a mistake has nowhere to hide.
"""

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

import minilm.byhand.attention as attention
import minilm.byhand.basic as basic
import minilm.byhand.blocks as blocks
import minilm.byhand.lora as lora
import minilm.byhand.loss as loss
import minilm.byhand.mixture_of_experts as experts_module
import minilm.byhand.positions as positions
from minilm.byhand.parts import Part, outside, part_of


class Size(NamedTuple):
    """Lengths of axes, in the legend of the house; C is the size of a value's head, D = H · K."""

    B: int
    T: int
    S: int
    H: int
    G: int
    K: int
    C: int
    F: int
    V: int

    @property
    def D(self) -> int:
        return self.H * self.K


SIZES = (Size(3, 5, 8, 4, 2, 6, 7, 11, 13), Size(5, 7, 10, 6, 3, 2, 4, 13, 9), Size(2, 3, 6, 5, 1, 4, 7, 9, 11))


class Brick(NamedTuple):
    """A function to be judged: forward(**inputs) -> out, cache; backward(dout, cache) -> gradients.

    Inputs of floats, arrays and dicts of arrays, have gradients, in the order of the inputs (all but "angles").
    """

    forward: Callable[..., tuple[np.ndarray, Any]]
    backward: Callable[[np.ndarray, Any], Any]
    inputs: dict[str, Any]


def bricks(size: Size, seed: int) -> dict[str, Brick]:
    """Every brick with random inputs of a size, by a name to print."""
    generator = np.random.default_rng(seed)
    groups = (basic_bricks, activation_bricks, head_bricks, attention_bricks, block_bricks, expert_bricks)
    return {name: brick for group in groups for name, brick in group(size, generator).items()}


def brick(module: ModuleType, name: str, /, **inputs: Any) -> Brick:
    """The function `name` of a module, with its backward pass, which has the same name and "_backward" behind it."""
    return Brick(getattr(module, name), getattr(module, f"{name}_backward"), inputs)


def basic_bricks(size: Size, generator: np.random.Generator) -> dict[str, Brick]:
    """Linear layer and its change of low rank, embedding, dropout, softmax, norms, loss."""
    normal, shape = generator.standard_normal, (size.B, size.T, size.S)
    x = 2.0 * normal(shape) + 0.5
    weight, bias, scale, shift = normal((size.F, size.S)), normal(size.F), normal(size.S), normal(size.S)
    ids = generator.integers(0, size.V, (size.B, size.T))
    ids[0, 0] = ids[-1, -1]  # a token that occurs twice
    targets = np.where(generator.random(ids.shape) < 0.4, loss.IGNORE, ids)
    logits = 3.0 * normal((size.B, size.T, size.V))
    return {
        "linear": brick(basic, "linear", x=x, weight=weight, bias=bias),
        "linear without bias": brick(basic, "linear", x=x, weight=weight),
        "lora": brick(lora, "lora", x=x, A=normal((size.K, size.S)), B=normal((size.F, size.K)), scale=0.7),
        "embedding": brick(basic, "embedding", ids=ids, weight=normal((size.V, size.K))),
        "dropout": brick(basic, "dropout", x=x, p=0.37, keep=generator.random(shape) >= 0.37),
        "softmax": brick(basic, "softmax", x=x),
        "softmax over dim 1": brick(basic, "softmax", x=x, dim=1),
        "log_softmax": brick(basic, "log_softmax", x=x),
        "log_softmax over dim 0": brick(basic, "log_softmax", x=x, dim=0),
        "layer_norm": brick(basic, "layer_norm", x=x, weight=scale, bias=shift),
        "layer_norm without bias": brick(basic, "layer_norm", x=x, weight=scale, eps=0.03),
        "rms_norm": brick(basic, "rms_norm", x=x, weight=scale, eps=0.03),
        "rms_norm without weight": brick(basic, "rms_norm", x=x),
        "cross_entropy": brick(loss, "cross_entropy", logits=logits, targets=targets),
        "cross_entropy, another ignored label": brick(
            loss, "cross_entropy", logits=logits, targets=ids, ignore_index=int(ids[0, 0])
        ),
    }


def activation_bricks(size: Size, generator: np.random.Generator) -> dict[str, Brick]:
    """What bends each number on its own."""
    x = 2.0 * generator.standard_normal((size.B, size.T, size.F))
    names = ("sigmoid", "silu", "gelu", "gelu_tanh", "relu_squared")
    return {name: brick(basic, name, x=x) for name in names}


def head_bricks(size: Size, generator: np.random.Generator) -> dict[str, Brick]:
    """Positions, and the cutting and sharing of heads."""
    B, T, S, H, G, K, _, F, _ = size
    normal = generator.standard_normal
    q, k, x = normal((B, H, T, K)), normal((B, G, S, K)), normal((B, T, H * K))
    places = np.arange(T)[::-1] * 2 + 1  # neither from 0 nor in order
    angles = positions.rotary_angles(places, K, theta=50.0)
    table = normal((2 * T + F, H * K))
    return {
        "learned_positions": brick(positions, "learned_positions", x=x, positions=places, weight=table),
        "rotate_half_split": brick(positions, "rotate_half_split", x=q, angles=angles),
        "rotate_interleaved": brick(positions, "rotate_interleaved", x=q, angles=angles),
        "share_heads": Brick(lambda x: (attention.share_heads(x, H), G), attention.share_heads_backward, {"x": k}),
        "split_heads": Brick(
            lambda x: (attention.split_heads(x, H), None), lambda dout, _: attention.merge_heads(dout), {"x": x}
        ),
        "merge_heads": Brick(
            lambda x: (attention.merge_heads(x), None), lambda dout, _: attention.split_heads(dout, H), {"x": q}
        ),
    }


def attention_bricks(size: Size, generator: np.random.Generator) -> dict[str, Brick]:
    """Attention without its projections, and with them."""
    B, T, S, H, G, K, C, _, _ = size
    normal, name = generator.standard_normal, "scaled_dot_product_attention"
    heads = {"q": 2.0 * normal((B, H, T, K)), "k": normal((B, G, S, K)), "v": normal((B, G, S, C))}
    mask = generator.random((B, 1, T, S)) < 0.6
    mask[0, 0, 1] = False  # a query that may attend to nothing
    x, causal = normal((B, T, size.D)), np.tri(T, dtype=bool)
    own = {"x": x, "n_heads": H, "n_kv_heads": G, "mask": causal}
    biased, bare = (attention_weights(size, generator, bias=bias) for bias in (True, False))
    angles = positions.rotary_angles(np.arange(T) + 3, K, theta=50.0)
    return {
        name: brick(attention, name, **heads),
        f"{name} with a mask": brick(attention, name, **heads, mask=mask),
        "multi_head_attention": brick(attention, "multi_head_attention", **own, weights=biased),
        "multi_head_attention, rotary": brick(attention, "multi_head_attention", **own, weights=bare, angles=angles),
    }


def block_bricks(size: Size, generator: np.random.Generator) -> dict[str, Brick]:
    """The MLPs, half a block, and a whole block as in GPT-2 (with dropout) and as in Llama."""
    x = generator.standard_normal((size.B, size.T, size.D))
    keeps = tuple(generator.random((2, *x.shape)) >= 0.21)
    bent = (basic.gelu_tanh, basic.gelu_tanh_backward)
    plain, gated = mlp_weights(size, generator, gated=False), mlp_weights(size, generator, gated=True)
    gpt2 = block_weights(size, generator, plain, bias=True)
    llama = block_weights(size, generator, gated, bias=False)
    layer_norm = part_of(basic.layer_norm, basic.layer_norm_backward, eps=1e-5)
    rms_norm = part_of(basic.rms_norm, basic.rms_norm_backward, eps=1e-5)
    mlp = Part(functools.partial(blocks.mlp, activation=bent), blocks.mlp_backward)
    swiglu = Part(blocks.swiglu, blocks.swiglu_backward)
    half_weights = {name: weight for name, weight in llama.items() if name.startswith("mlp")}
    half = {"weights": half_weights, "name": "mlp", "part": swiglu, "norm": rms_norm, "p": 0.21, "keep": keeps[0]}
    gpt2_parts = {"attention": attention_part(size), "mlp": mlp, "norm": layer_norm}
    angles = positions.rotary_angles(np.arange(size.T), size.K, theta=50.0)
    llama_parts = {"attention": attention_part(size, angles), "mlp": swiglu, "norm": rms_norm}
    return {
        "mlp": brick(blocks, "mlp", x=x, weights=plain, activation=bent),
        "swiglu": brick(blocks, "swiglu", x=x, weights=gated),
        "residual": brick(blocks, "residual", x=x, **half),
        "transformer_block, GPT-2": brick(
            blocks, "transformer_block", x=x, weights=gpt2, **gpt2_parts, p=0.21, keeps=keeps
        ),
        "transformer_block, Llama": brick(blocks, "transformer_block", x=x, weights=llama, **llama_parts),
    }


def expert_bricks(size: Size, generator: np.random.Generator) -> dict[str, Brick]:
    """The route, the balance loss, and a mixture of three experts, of which one is gated and each token uses two."""
    normal = generator.standard_normal
    logits, chosen = 3.0 * normal((size.T, size.V)), generator.integers(0, size.V, (size.T, 2))
    bent = (basic.gelu_tanh, basic.gelu_tanh_backward)
    plain = Part(functools.partial(blocks.mlp, activation=bent), blocks.mlp_backward)
    experts = (plain, Part(blocks.swiglu, blocks.swiglu_backward), plain)
    weights = {"router.weight": normal((len(experts), size.D))}
    for number in range(len(experts)):
        weights |= outside(f"experts.{number}", mlp_weights(size, generator, gated=number == 1))
    x = normal((size.B, size.T, size.D))
    mixture = {"x": x, "weights": weights, "experts": experts, "k": 2}
    return {
        "route": brick(experts_module, "route", logits=logits, k=3),
        "balance_loss": brick(experts_module, "balance_loss", probabilities=basic.softmax(logits)[0], chosen=chosen),
        "mixture_of_experts": Brick(mixture_and_balance, mixture_and_balance_backward, mixture),
    }


def mixture_and_balance(x: np.ndarray, **others: Any) -> tuple[np.ndarray, Any]:
    """Both results of a mixture of experts as one array, the balance loss last: a brick has one result."""
    (out, balance), cache = experts_module.mixture_of_experts(x, **others)
    return np.append(out.ravel(), balance), cache


def mixture_and_balance_backward(dout: np.ndarray, cache: Any) -> Any:
    """dout is cut in two again."""
    return experts_module.mixture_of_experts_backward(dout[:-1].reshape(cache[0]), dout[-1], cache)


def attention_part(size: Size, angles: np.ndarray | None = None) -> Part:
    """Causal attention with the heads of `size`."""
    forward = functools.partial(
        attention.multi_head_attention,
        n_heads=size.H,
        n_kv_heads=size.G,
        mask=np.tri(size.T, dtype=bool),
        angles=angles,
    )
    return Part(forward, attention.multi_head_attention_backward)


def attention_weights(size: Size, generator: np.random.Generator, bias: bool) -> dict[str, np.ndarray]:
    """The four projections of attention, in the order of the module."""
    D, d_kv = size.D, size.G * size.K
    return random_weights(generator, {"q": (D, D), "k": (d_kv, D), "v": (d_kv, D), "out": (D, D)}, bias)


def mlp_weights(size: Size, generator: np.random.Generator, gated: bool) -> dict[str, np.ndarray]:
    """An MLP with biases, or a gated one without."""
    up = ("gate", "up") if gated else ("up",)
    return random_weights(generator, {**dict.fromkeys(up, (size.F, size.D)), "down": (size.D, size.F)}, bias=not gated)


def block_weights(
    size: Size, generator: np.random.Generator, mlp: dict[str, np.ndarray], bias: bool
) -> dict[str, np.ndarray]:
    """A block around an MLP."""
    norms = random_weights(generator, {"attention_norm": (size.D,), "mlp_norm": (size.D,)}, bias)
    return norms | outside("attention", attention_weights(size, generator, bias)) | outside("mlp", mlp)


def random_weights(
    generator: np.random.Generator, shapes: dict[str, tuple[int, ...]], bias: bool
) -> dict[str, np.ndarray]:
    """Normal weights of these shapes by name, each with its bias if there are any."""
    weights = {}
    for name, shape in shapes.items():
        weights[f"{name}.weight"] = 0.5 * generator.standard_normal(shape)
        if bias:
            weights[f"{name}.bias"] = 0.5 * generator.standard_normal(shape[0])
    return weights

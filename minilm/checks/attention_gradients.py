"""The exercises of lesson 14 on attention: the oracle takes slopes by a tiny imaginary step, so it knows no formula for them."""

import itertools
import math
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

Three = tuple[np.ndarray, np.ndarray, np.ndarray]

# share_heads_backward(dout, n_kv_heads) -> (B, G, S, K)


def loop_share(dout: np.ndarray, n_kv_heads: int, served: str = "neighbours", join: str = "add") -> np.ndarray:
    """Each query head hands its gradient to the key head that served it; the switches make the mistakes."""
    B, H, S, K = dout.shape
    out = np.zeros((B, n_kv_heads, S, K), dtype=dout.dtype)
    count = H // n_kv_heads
    for h in range(H):
        g = h // count if served == "neighbours" else h % n_kv_heads
        if join == "add":
            out[:, g] += dout[:, h]
        elif join == "mean":
            out[:, g] += dout[:, h] / count
        elif join == "last" or (join == "first" and h % count == 0):
            out[:, g] = dout[:, h]
    return out


def share_inputs(seed: int) -> list[tuple[Any, ...]]:
    """Two with the numbers 1, 2, 3, ..., then H / G of 3, 2, 1 and H; no two axes alike."""
    generator = np.random.default_rng(seed)
    counted = [(np.arange(1.0, 1 + n).reshape(1, n, 1, 1), 2) for n in (4, 6)]
    sizes = (((2, 6, 5, 3), 2), ((3, 8, 2, 5), 4), ((2, 3, 4, 5), 3), ((3, 4, 2, 7), 1))
    return [*counted, *((generator.standard_normal(shape), G) for shape, G in sizes)]


SHARE = Exercise(
    "share_heads_backward",
    "give the heads two axes in place of one: which key head, and which of its copies. Then one of the two has to go",
    share_inputs,
    loop_share,
    (
        Mistake(
            "dealt like cards",
            lambda d, G: loop_share(d, G, served="dealt"),
            "key head 0 served the first H / G query heads, neighbours",
        ),
        Mistake(
            "mean",
            lambda d, G: loop_share(d, G, join="mean"),
            "a value that was used twice gets both gradients: added, not averaged",
        ),
        Mistake(
            "last copy",
            lambda d, G: loop_share(d, G, join="last"),
            "each copy has something to say: += where you write =",
        ),
        Mistake(
            "first copy",
            lambda d, G: loop_share(d, G, join="first"),
            "one copy is not all of them: what did the others get?",
        ),
        Mistake(
            "not joined", lambda d, G: d.copy(), "the answer has a head for each key head, not for each query head"
        ),
        Mistake(
            "joined key heads",
            lambda d, G: d.reshape(d.shape[0], G, -1, *d.shape[2:]).sum(1),
            "the copies of one key head are added up, not the key heads with each other",
        ),
        Mistake(
            "everyone gets all",
            lambda d, G: np.repeat(d.sum(1, keepdims=True), G, axis=1),
            "a key head gets only what came from its own copies",
        ),
    ),
    (
        lambda d, G: np.stack([part.sum(1) for part in np.split(d, G, axis=1)], axis=1),
        lambda d, G: np.add.reduceat(d, np.arange(0, d.shape[1], d.shape[1] // G), axis=1),
        lambda d, G: np.einsum("gh,bhsk->bgsk", np.repeat(np.eye(G), d.shape[1] // G, axis=1), d),
    ),
)


# scaled_dot_product_attention_backward(dout, cache) -> dq (B, H, T, K), dk (B, G, S, K), dv (B, G, S, K')


def mixed(q: np.ndarray, k: np.ndarray, v: np.ndarray, seen: np.ndarray, scale: float) -> np.ndarray:
    """The forward pass, for complex numbers too: seen (B, H, T, S), and a query that sees nothing gets zeros."""
    copies = q.shape[1] // k.shape[1]
    keys, values = np.repeat(k, copies, axis=1), np.repeat(v, copies, axis=1)
    scores = np.einsum("bhtk,bhsk->bhts", q, keys) * scale
    weights = np.where(seen, np.exp(scores - scores.real.max(-1, keepdims=True)), 0.0)
    total = weights.sum(-1, keepdims=True)
    return np.einsum("bhts,bhsw->bhtw", weights / np.where(total == 0, 1.0, total), values)


def by_imaginary_step(dout: np.ndarray, cache: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
    """f(x + ih) = f(x) + ih f'(x): one number of q, k and v at a time, the imaginary part of the loss over h, unrounded."""
    q, k, v, G, scale, _, p, _ = cache
    copies, h = q.shape[1] // G, 1e-100
    inputs = [q.astype(complex), k[:, ::copies].astype(complex), v[:, ::copies].astype(complex)]
    gradients = []
    for x in inputs:
        slope = np.zeros(x.shape, dtype=dout.dtype)
        for place in np.ndindex(x.shape):
            x[place] += 1j * h
            slope[place] = (dout * mixed(inputs[0], inputs[1], inputs[2], p > 0, scale)).sum().imag / h
            x[place] = x[place].real
        gradients.append(slope)
    return tuple(gradients)


def small_whole_numbers(axes: tuple[int, ...]) -> np.ndarray:
    return (np.arange(2.0, 2 + np.prod(axes)) * 2 % 3 - 1).reshape(axes)


def attention_inputs(seed: int) -> list[tuple[Any, ...]]:
    """(dout, cache), the first three small and whole: K' != K; T != S and T == S; no mask, a random one, one that hides everything
    from a query."""
    generator = np.random.default_rng([seed, 2])
    found = []
    for B, H, G, T, S, K, width, masked in (
        (1, 1, 1, 2, 2, 2, 2, False),
        (1, 4, 2, 1, 3, 1, 1, False),
        (1, 1, 1, 2, 3, 1, 2, True),
        (2, 4, 2, 3, 4, 2, 3, True),
        (1, 6, 2, 3, 3, 2, 3, False),
        (2, 2, 1, 4, 4, 3, 2, True),
    ):
        draw = small_whole_numbers if H * T * S * K <= 12 else lambda axes: 2.0 * generator.standard_normal(axes)
        q = draw((B, H, T, K))
        k, v = (np.repeat(draw((B, G, S, size)), H // G, axis=1) for size in (K, width))
        mask = generator.random((B, 1, T, S)) < (0.6 if masked else 2.0)
        mask[:, :, :, 0] = True
        mask[0, 0, T // 2] &= not masked
        visible, scale = mask.any(-1, keepdims=True), 1.0 / math.sqrt(K)
        weights = np.exp(np.einsum("bhtk,bhsk->bhts", q, k) * scale) * (mask | ~visible)
        shares = weights / weights.sum(-1, keepdims=True)
        dout = draw((B, H, T, width))
        found.append((dout, (q, k, v, G, scale, visible, shares * visible, (shares, -1))))
    return found


def through_softmax(dp: np.ndarray, p: np.ndarray, way: str) -> np.ndarray:
    """The gradient of the scores: right, or as it is often written."""
    if way == "diagonal":
        return p * (1.0 - p) * dp
    if way == "none":
        return dp * (p > 0)
    if way == "p only":
        return p * dp
    if way == "mean":
        return p * (dp - dp.mean(-1, keepdims=True))
    return p * (dp - (p * dp).sum(-2 if way == "queries" else -1, keepdims=True))


def turned(a: np.ndarray) -> np.ndarray:
    return a.swapaxes(-1, -2)


def in_steps(
    softmax: str = "right",
    scales: tuple[bool, bool] = (True, True),
    of: str = "keys",
    empty: str = "zeros",
    turn: tuple[bool, bool] = (True, True),
    share: str = "add",
) -> Any:
    """The four steps back with switches thrown: which of dk and dv is `turned`, and which of dq and dk is scaled."""

    def backward(dout: np.ndarray, cache: tuple[Any, ...]) -> Three:
        q, k, v, G, scale, _, p, (raw, _) = cache
        scale = 1.0 / math.sqrt(v.shape[-1]) if of == "values" else scale**2 if of == "K" else scale
        dp = dout @ turned(v)
        ds = through_softmax(dp, raw if empty == "flows" else p, softmax)
        dq = ds @ k * (scale if scales[0] else 1.0)
        dk = (turned(ds) if turn[0] else ds) @ q * (scale if scales[1] else 1.0)
        dv = (turned(p) if turn[1] else p) @ dout
        if share == "none":
            return dq, dk, dv
        if share == "dealt":
            return dq, loop_share(dk, G, served="dealt"), loop_share(dv, G, served="dealt")
        return dq, loop_share(dk, G, join=share), loop_share(dv, G, join=share)

    return backward


def by_einsum(dout: np.ndarray, cache: tuple[Any, ...]) -> Three:
    q, k, v, G, scale, _, p, _ = cache
    dp = np.einsum("bhtw,bhsw->bhts", dout, v)
    ds = scale * (p * dp - p * np.einsum("bhts,bhts->bht", p, dp)[..., None])
    B, H, S, K = k.shape
    dk, dv = np.einsum("bhts,bhtk->bhsk", ds, q), np.einsum("bhts,bhtw->bhsw", p, dout)
    return (
        np.einsum("bhts,bhsk->bhtk", ds, k),
        dk.reshape(B, G, -1, S, K).sum(2),
        dv.reshape(B, G, H // G, S, -1).sum(2),
    )


def from_the_output(dout: np.ndarray, cache: tuple[Any, ...]) -> Three:
    """sum_s p_s dp_s = dout · out, as FlashAttention has it."""
    q, k, v, G, scale, visible, p, (raw, _) = cache
    delta = (dout * (p @ v)).sum(-1, keepdims=True)
    ds = raw * visible * (dout @ turned(v) - delta)
    dq, dk, dv = ds @ (k * scale), turned(ds) @ (q * scale), turned(p) @ dout
    return dq, loop_share(dk, G), loop_share(dv, G)


def by_pairs(dout: np.ndarray, cache: tuple[Any, ...]) -> Three:
    """One query after the other, with the whole Jacobian of its softmax."""
    q, k, v, G, scale, _, p, _ = cache
    dq, dk, dv = np.zeros_like(q), np.zeros_like(k[:, :G]), np.zeros_like(v[:, :G])
    B, H, T, _ = q.shape
    for b, h, t in itertools.product(range(B), range(H), range(T)):
        row, g = p[b, h, t], h // (H // G)
        ds = (np.diag(row) - np.outer(row, row)) @ (v[b, h] @ dout[b, h, t]) * scale
        dq[b, h, t] = ds @ k[b, h]
        dk[b, g] += np.outer(ds, q[b, h, t])
        dv[b, g] += np.outer(row, dout[b, h, t])
    return dq, dk, dv


ATTENTION = Exercise(
    "scaled_dot_product_attention_backward",
    "unpack the cache; then the steps in reverse: from dout to dv and dp, to ds, to dq and dk. The heads come last",
    attention_inputs,
    by_imaginary_step,
    (
        Mistake(
            "softmax on the diagonal",
            in_steps(softmax="diagonal"),
            "every score moves every weight of its row, not only its own",
        ),
        Mistake("no softmax", in_steps(softmax="none"), "a step is missing between the weights and the scores"),
        Mistake(
            "p dp only", in_steps(softmax="p only"), "the weights of a row sum to 1: where one grows, the others shrink"
        ),
        Mistake(
            "plain mean", in_steps(softmax="mean"), "what is subtracted in a row is an average of dp with the weights p"
        ),
        Mistake(
            "softmax over queries",
            in_steps(softmax="queries"),
            "each query shared out its attention among the keys: the last axis",
        ),
        Mistake("no scale", in_steps(scales=(False, False)), "the scores were scaled: so are their gradients"),
        Mistake(
            "dk not scaled",
            in_steps(scales=(True, False)),
            "q and k stand in the same product: the scale belongs to both",
        ),
        Mistake(
            "dq not scaled", in_steps(scales=(False, True)), "k and q stand in the same product: both get the scale"
        ),
        Mistake("scale of the values", in_steps(of="values"), "the scale is in the cache, and it is that of the keys"),
        Mistake(
            "scale by K",
            in_steps(of="K"),
            "the scale that the forward pass used, and once: with its root, and not in ds and again in dq and dk",
        ),
        Mistake(
            "an empty query flows",
            in_steps(empty="flows"),
            "a query that sees nothing gave zeros, whatever q and k are",
        ),
        Mistake(
            "dk not turned",
            in_steps(turn=(False, True)),
            "a row of dk belongs to a key: which axis of ds is summed away?",
        ),
        Mistake(
            "dv not turned",
            in_steps(turn=(True, False)),
            "a row of dv belongs to a key: which axis of p is summed away?",
        ),
        Mistake("heads not joined", in_steps(share="none"), "dk and dv have G heads: hand back what the copies got"),
        Mistake("heads dealt", in_steps(share="dealt"), "neighbouring query heads share a key head"),
        Mistake("heads averaged", in_steps(share="mean"), "the gradients of copies add up"),
    ),
    (by_einsum, from_the_output, by_pairs),
)

EXERCISES = (SHARE, ATTENTION)

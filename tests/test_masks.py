"""Masks against their definitions in loops, alone and joined by `&`; and what they must not do to attention.

The numbers of rows in names and docstrings are those of the catalogue of real bugs that the project keeps.
"""

import itertools
from collections.abc import Callable

import pytest
import torch
from test_attention_whole import tiles_of
from test_layers import assert_close
from torch import Tensor
from torch.nn import functional as F

from minilm.fast.attention import scaled_dot_product_attention as fused
from minilm.layers.attention import AttentionFunction, scaled_dot_product_attention
from minilm.layers.masks import (
    causal_mask,
    document_mask,
    last_visible,
    padding_mask,
    position_mask,
    positions_and_mask,
    prefix_mask,
    window_mask,
)

ATTENTIONS = {"readable": scaled_dot_product_attention, "fused": fused, "tiles of 2": tiles_of(2)}

# ---- each mask with the sentence that defines it: may query t of row b see key s, when the queries are the last of n keys?

N = 7
LENGTHS, PREFIX = [7, 3, 0], [0, 2, 9]
DOCUMENTS = [[0, 0, 1, 1, 1, 2, 2], [5, 5, 5, 5, 5, 5, 5], [3, 1, 1, 1, 4, 4, 0]]
Rule = Callable[[int, int, int], bool]
DEFINED: dict[str, tuple[Tensor, Rule]] = {
    "causal": (causal_mask(N), lambda b, t, s: s <= t),
    "padding": (padding_mask(torch.tensor(LENGTHS), N), lambda b, t, s: s < LENGTHS[b]),
    "window": (window_mask(N, N, 3), lambda b, t, s: t - s < 3),
    "document": (document_mask(torch.tensor(DOCUMENTS)), lambda b, t, s: DOCUMENTS[b][t] == DOCUMENTS[b][s]),
    "prefix": (prefix_mask(torch.tensor(PREFIX), N), lambda b, t, s: s < PREFIX[b] or s <= t),
}


def by_rules(rules: list[Rule]) -> list[list[list[bool]]]:
    return [[[all(rule(b, t, s) for rule in rules) for s in range(N)] for t in range(N)] for b in range(3)]


@pytest.mark.parametrize("names", [pair for n in (1, 2, 3) for pair in itertools.combinations(DEFINED, n)])
def test_masks_are_their_definitions_and_join_by_and(names: tuple[str, ...]) -> None:
    mask = torch.ones(3, 1, N, N) > 0
    for name in names:
        mask = mask & DEFINED[name][0]
    assert mask.dtype == torch.bool and mask.shape == (3, 1, N, N)
    assert mask[:, 0].tolist() == by_rules([DEFINED[name][1] for name in names])


@pytest.mark.parametrize("name", list(ATTENTIONS))
@pytest.mark.parametrize("names", [("causal", "document"), ("prefix", "padding"), ("window", "document", "padding")])
def test_packed_documents_and_prefixes_are_read_as_if_alone(name: str, names: tuple[str, ...]) -> None:
    """Attention under joined masks is, for each query, attention over its own keys, cut out by hand."""
    attend: AttentionFunction = ATTENTIONS[name]
    rules = [DEFINED[part][1] for part in names]
    mask = torch.ones(3, 1, N, N) > 0
    for part in names:
        mask = mask & DEFINED[part][0]
    q, k, v = torch.randn(3, 2, N, 4).double(), torch.randn(3, 2, N, 4).double(), torch.randn(3, 2, N, 3).double()
    y = attend(q, k, v, mask)
    for b, t in itertools.product(range(3), range(N)):
        keys = [s for s in range(N) if all(rule(b, t, s) for rule in rules)]
        alone = F.softmax(k[b][:, keys] @ q[b, :, t, :, None] / 2, 1) * v[b][:, keys]
        assert_close(y[b, :, t], alone.sum(1))


@pytest.mark.parametrize("name", list(ATTENTIONS))
def test_row_26_queries_are_the_last_keys(name: str) -> None:
    """Row 26: for all T <= S <= 12, the causal mask is aligned at the lower right; torch's `is_causal` is only if T = S."""
    for n_keys in range(1, 13):
        for n_queries in range(1, n_keys + 1):
            lower_right = [[s <= t + n_keys - n_queries for s in range(n_keys)] for t in range(n_queries)]
            assert causal_mask(n_queries, n_keys).tolist() == lower_right
            q, k, v = (torch.randn(2, 3, n, 4).double() for n in (n_queries, n_keys, n_keys))
            expected = F.scaled_dot_product_attention(q, k, v, attn_mask=torch.tensor(lower_right))
            assert_close(ATTENTIONS[name](q, k, v, causal_mask(n_queries, n_keys)), expected)
            upper_left = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            assert torch.allclose(upper_left, expected, atol=1e-12) == (n_queries == n_keys)


def test_prefix_behind_a_cache() -> None:
    """Two queries behind three keys; the prefix ends before them, among them, or behind all."""
    mask = prefix_mask(torch.tensor([1, 4, 5]), 2, 5)
    assert mask.shape == (3, 1, 2, 5)
    assert mask[:, 0, 0].int().tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    assert mask[:, 0, 1].all()
    with pytest.raises(ValueError, match="5 queries need at least as many keys, got 2"):
        prefix_mask(torch.tensor([1]), 5, 2)


@pytest.mark.parametrize("window", [1, 2, 5, 12])
def test_last_visible_counts_what_is_seen(window: int) -> None:
    mask = torch.rand(3, 2, 5, 9, generator=torch.Generator().manual_seed(1)) < 0.5
    mask[0, 0, 2] = False
    kept = last_visible(mask, window)
    for row, seen in zip(kept.reshape(-1, 9).tolist(), mask.reshape(-1, 9).tolist(), strict=True):
        keys = [s for s in range(9) if seen[s]][-window:]
        assert row == [s in keys for s in range(9)]


def test_row_30_a_window_holds_for_one_query_too() -> None:
    """Row 30: the single query of a decoding step sees the window and not the whole cache."""
    for n_keys, window in itertools.product(range(1, 10), range(1, 10)):
        whole = causal_mask(n_keys) & window_mask(n_keys, n_keys, window)
        assert last_visible(causal_mask(n_keys), window).tolist() == whole.tolist()
        for mask in (window_mask(1, n_keys, window), last_visible(causal_mask(1, n_keys), window)):
            assert mask.tolist() == whole[-1:].tolist() and mask.sum() == min(window, n_keys)
    with pytest.raises(ValueError, match="at least 1 key, got 0"):
        last_visible(causal_mask(3), 0)


def test_row_30_a_window_over_rows_of_different_lengths() -> None:
    """Row 30: the window follows each row's own positions, which `window_mask` cannot know."""
    mask = last_visible(position_mask(torch.tensor([[3, 4], [0, 1]]), 5), 2)
    assert mask[:, 0].int().tolist() == [[[0, 0, 1, 1, 0], [0, 0, 0, 1, 1]], [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0]]]


@pytest.mark.parametrize("past", [[0], [3], [4, 4], [0, 5], [2, 6, 1]])
@pytest.mark.parametrize("n_new", [1, 3])
def test_row_31_positions_and_mask_follow_the_cache(past: list[int], n_new: int) -> None:
    """Row 31: new token i of row b has position past[b] + i and sees exactly the slots up to there, its own included."""
    positions, mask = positions_and_mask(torch.tensor(past), n_new, context_length=9)
    n_keys = max(past) + n_new
    assert positions.tolist() == [[n + i for i in range(n_new)] for n in past]
    seen = mask.expand(len(past), 1, n_new, n_keys)[:, 0]
    assert seen.tolist() == [[[s <= n + i for s in range(n_keys)] for i in range(n_new)] for n in past]
    with pytest.raises(ValueError, match=f"{max(past) + 10 - max(past)} tokens do not fit into context_length 9"):
        positions_and_mask(torch.tensor(past), 10 - max(past), context_length=9)


def test_row_28_masks_are_boolean_and_join_without_arithmetic() -> None:
    """Row 28: nothing is added to a score, so no two masks can overflow: every mask is boolean, and & keeps it so."""
    masks = [mask for mask, _ in DEFINED.values()]
    masks += [position_mask(torch.tensor([[1, 2]]), 4), last_visible(causal_mask(4), 2)]
    assert all(mask.dtype == torch.bool for mask in masks)
    for dtype in (torch.float16, torch.bfloat16):
        mask = causal_mask(N) & padding_mask(torch.tensor(LENGTHS), N)
        for attend in ATTENTIONS.values():
            q, k, v = (torch.randn(3, 2, N, 4).to(dtype).requires_grad_() for _ in range(3))
            y = attend(q, k, v, mask)
            y.float().square().sum().backward()
            assert y.isfinite().all() and not y[2].any() and y[:2].abs().sum() > 0
            assert all(x.grad is not None and x.grad.isfinite().all() for x in (q, k, v))

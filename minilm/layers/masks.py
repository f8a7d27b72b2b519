"""Who may look at whom: boolean masks, True = may attend. Masks combine with `&`."""

import torch
from torch import Tensor


def causal_mask(n_queries: int, n_keys: int | None = None, device: torch.device | str | None = None) -> Tensor:
    """The lower triangle (T, S): query t sees key s when s <= t + S - T.

    The last query is always the last key (aligned at the lower right), so the mask also fits a cache: two new queries
    behind three cached keys give

    >>> causal_mask(2, 5).int()
    tensor([[1, 1, 1, 1, 0],
            [1, 1, 1, 1, 1]], dtype=torch.int32)
    """
    n_keys = n_queries if n_keys is None else n_keys
    if n_keys < n_queries:
        raise ValueError(f"causal_mask: {n_queries} queries need at least as many keys, got {n_keys}")
    query = torch.arange(n_keys - n_queries, n_keys, device=device)[:, None]
    return torch.arange(n_keys, device=device)[None, :] <= query


def position_mask(positions: Tensor, n_keys: int) -> Tensor:
    """Causality from positions: positions (B, T) -> (B, 1, T, S), True where key slot s <= the query's position.

    Key slot s of a cache holds the token at position s, so rows of different lengths need no padding mask.
    """
    keys = torch.arange(n_keys, device=positions.device)
    return keys <= positions[:, None, :, None]


def positions_and_mask(
    past: Tensor, n_new: int, context_length: int, device: torch.device | str | None = None
) -> tuple[Tensor, Tensor]:
    """The positions (B, T) of n_new tokens behind `past` (B,) cached ones, and the causal mask over cache and new tokens."""
    longest = int(past.max())
    if longest + n_new > context_length:
        raise ValueError(f"{longest + n_new} tokens do not fit into context_length {context_length}")
    positions = (past[:, None] + torch.arange(n_new)).to(device)
    if bool((past == longest).all()):
        return positions, causal_mask(n_new, longest + n_new, device)
    return positions, position_mask(positions, longest + n_new)


def padding_mask(lengths: Tensor, n_keys: int) -> Tensor:
    """Hide the padding behind each row's end: lengths (B,) -> (B, 1, 1, S), True for real tokens. It hides keys, not queries."""
    return (torch.arange(n_keys, device=lengths.device) < lengths[:, None])[:, None, None, :]


def window_mask(n_queries: int, n_keys: int, window: int, device: torch.device | str | None = None) -> Tensor:
    """Only the last `window` keys, the query's own included: (T, S). Combine it with `causal_mask` by `&`."""
    query = torch.arange(n_keys - n_queries, n_keys, device=device)[:, None]
    return torch.arange(n_keys, device=device)[None, :] > query - window


def document_mask(documents: Tensor) -> Tensor:
    """Packed documents do not see each other: document numbers (B, T) -> (B, 1, T, T), True within one document."""
    return (documents[:, :, None] == documents[:, None, :])[:, None]


def prefix_mask(
    prefix: Tensor, n_queries: int, n_keys: int | None = None, device: torch.device | str | None = None
) -> Tensor:
    """Causal, but all see the whole prefix: prefix lengths (B,) -> (B, 1, T, S), True where s < prefix or s <= t + S - T.

    A question may be read in both directions, its answer only forwards (Raffel et al. 2019, "prefix LM"). It takes the
    place of `causal_mask`; the others still combine with it by `&`.
    """
    causal = causal_mask(n_queries, n_keys, device)
    return padding_mask(prefix.to(causal.device), causal.shape[-1]) | causal


def last_visible(mask: Tensor, window: int) -> Tensor:
    """Of the keys that each query may see, only the last `window`: (..., T, S) -> (..., T, S).

    On a causal mask it is `window_mask`; it also holds where the rows of a cache have different lengths.

    >>> last_visible(torch.tensor([[1, 1, 1, 0], [0, 1, 0, 1]]).bool(), 2).int()
    tensor([[0, 1, 1, 0],
            [0, 1, 0, 1]], dtype=torch.int32)
    """
    if window < 1:
        raise ValueError(f"last_visible: a window has at least 1 key, got {window}")
    from_here_on = mask.flip(-1).cumsum(-1).flip(-1)  # how many visible keys there are from key s to the end
    return mask & (from_here_on <= window)

"""Sliding-window attention: each token sees itself and the window - 1 tokens before it (Beltagy et al. 2020, "Longformer").

What lies further back still arrives, layer by layer: L layers reach L (window - 1) tokens back. It costs T * window, not T².
(Here the scores are computed and hidden; `tiled_attention` spares the tiles of which nothing is seen.)
"""

from torch import Tensor

from minilm.layers.attention import AttentionFunction
from minilm.layers.masks import causal_mask, last_visible


def with_window(attention: AttentionFunction, window: int) -> AttentionFunction:
    """The same attention, in which a query sees only the last `window` of the keys that the mask lets it see.

    Without a mask it is causal. With a cache it is right as well, for one new token and for rows of different lengths.
    """
    if window < 1:
        raise ValueError(f"with_window: a window has at least 1 token, the query's own, got {window}")

    def windowed(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        mask = causal_mask(q.shape[2], k.shape[2], q.device) if mask is None else mask
        return attention(q, k, v, last_visible(mask, window))

    return windowed

"""LoRA by hand: the change of low rank beside a frozen matrix, and the gradients of its two narrow factors (Hu et al. 2021).

Only the change stands here. Its output is added to that of the frozen layer, so both have the same dout, and the dx of the
whole is that of the layer (`linear_backward` in basic.py) plus that of the change. The frozen weight itself needs no gradient.
"""

import numpy as np

from minilm.byhand.basic import Cache, linear, linear_backward


def lora(x: np.ndarray, A: np.ndarray, B: np.ndarray, scale: float) -> tuple[np.ndarray, Cache]:
    """scale · B A x for each token of x (..., I), A (R, I), B (O, R): (..., O). First h = A x, which has R numbers only."""
    h, _ = linear(x, A)  # (..., R)
    wide, _ = linear(h, B)
    return scale * wide, (x, A, B, scale, h)


def lora_backward(dout: np.ndarray, cache: Cache) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dout (..., O) -> dx (..., I), dA (R, I), dB (O, R).

    Two linear layers in a row, h = A x and out = s B h. So dB_or = s · sum over tokens of dout_o h_r, then dh_r = s · sum_o
    dout_o B_or, and with it dA_ri = sum over tokens of dh_r x_i, and dx_i = sum_r dh_r A_ri. Where B is 0, dh and dA are 0: in
    the first step only B moves. Where A and B are both 0, nothing ever does.

    >>> out, cache = lora(np.array([1.0, 2.0]), A=np.array([[3.0, 4.0]]), B=np.zeros((2, 1)), scale=0.5)
    >>> dx, dA, dB = lora_backward(np.array([1.0, 10.0]), cache)
    >>> dA, dB.T  # h = 11
    (array([[0., 0.]]), array([[ 5.5, 55. ]]))
    """
    x, A, B, scale, h = cache
    dh, dB, _ = linear_backward(scale * dout, (h, B, False))
    dx, dA, _ = linear_backward(dh, (x, A, False))
    return dx, dA, dB

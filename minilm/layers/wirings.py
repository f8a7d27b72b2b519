"""Other ways to join the parts of a block, each in the place of `pre_norm`: build_block(..., wiring=post_norm).

All four parts are used once in each, so the parameters and the FLOPs are those of pre-norm. What differs is which sum the
norms stand on, and hence how the gradient comes down to the first layers.
"""

from torch import Tensor

from minilm.layers.blocks import Change


def post_norm(x: Tensor, attention: Change, mlp: Change, attention_norm: Change, mlp_norm: Change) -> Tensor:
    """x (B, T, D) -> (B, T, D): each half adds to what it read, and the sum is normalised (Vaswani et al. 2017).

    The stream never grows, so a late block says as much as an early one. But there is no straight way through: a norm
    stands in it 2 L times. At the start the gradients of the last layers are large, whatever the depth, so that full
    steps diverge and the learning rate must be warmed up; pre-norm can do without (Xiong et al. 2020).

    The last block has already normalised what GPT's own last norm reads. A second norm takes nothing away: it passes on
    what has mean 0 and variance 1, and its scale and shift merge with those of the block.
    """
    x = attention_norm(x + attention(x))
    return mlp_norm(x + mlp(x))


def parallel(x: Tensor, attention: Change, mlp: Change, attention_norm: Change, mlp_norm: Change) -> Tensor:
    """x (B, T, D) -> (B, T, D): both halves read the same x, and x gets both changes (GPT-J, Wang and Komatsuzaki 2021).

    Neither waits for the other, and their first matrices can be multiplied as one: 15 % faster in PaLM (Chowdhery et al.
    2022). The price: the MLP learns what attention found only one block later, which small models feel. GPT-J and PaLM
    share one norm: give the same one twice.
    """
    return x + attention(attention_norm(x)) + mlp(mlp_norm(x))

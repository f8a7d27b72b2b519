"""Other ways to join a block's parts than `pre_norm`: GPT(config, block=functools.partial(build_block, wiring=post_norm)).

All four parts are used once in each, so the parameters and the FLOPs are those of pre-norm. What differs is which sum the
norms stand on, and hence how the gradient comes down to the first layers. The wiring is no part of the config, nor of the
weights: load_checkpoint(directory, block=...) must be given it again, or the model runs as pre-norm and nothing complains.
"""

from torch import Tensor

from minilm.layers.blocks import Change


def post_norm(x: Tensor, attention: Change, mlp: Change, attention_norm: Change, mlp_norm: Change) -> Tensor:
    """x (B, T, D) -> (B, T, D): each half adds to what it read, and the sum is normalised (Vaswani et al. 2017).

    The stream never grows, so a late block says as much as an early one. But there is no straight way through: a norm
    stands in it 2 L times. At the start the gradients of the last layers are large, whatever the depth, so that full
    steps diverge and the learning rate must be warmed up; pre-norm can do without (Xiong et al. 2020).

    The last block has already normalised what GPT's own last norm reads. At the start GPT's norm changes nothing then: it
    passes on what has mean 0 and variance 1. Later it normalises anew what the scale and shift of the last block have made
    of that.
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

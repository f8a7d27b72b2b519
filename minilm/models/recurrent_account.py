"""What a recurrent language model costs, from its config alone, as `accounting.py` says it of transformers.

Each token meets each matrix once, whatever stands before it: 2 FLOPs a weight, and no term grows with the length of the text. What
decoding keeps is the state, of one size for any text (and one more for each token that may be taken back).
"""

from dataclasses import dataclass

from minilm.models.accounting import BYTES
from minilm.models.rnn_config import RNNConfig

GATES = {"rnn": 1, "gru": 3, "lstm": 4}  # rows of a layer's matrices, in units of D
STATES = {"rnn": 1, "gru": 1, "lstm": 2}  # an LSTM keeps h and c


@dataclass(frozen=True)
class RecurrentAccount:
    """The sums of a model in one number type; `weights`, `gradients`, `optimizer` (AdamW) and `state` (of one row) are bytes."""

    kind: str
    cell: str
    dtype: str
    parameters: int
    flops_forward: int  # for one token
    flops_forward_backward: int
    weights: int
    gradients: int
    optimizer: int
    state: int


def account_recurrent(config: RNNConfig, dtype: str = "float32") -> RecurrentAccount:
    """What a model of this config costs.

    >>> account_recurrent(RNNConfig(vocab_size=1000, d_model=100, n_layers=2)).parameters  # 1000 · 100 + 2 · 400 · (200 + 2)
    261600

    ValueError for an unknown number type.
    """
    if dtype not in BYTES:
        raise ValueError(f"dtype is {dtype!r}: choose one of {', '.join(BYTES)}")
    D, width = config.d_model, BYTES[dtype]
    table, rows = config.vocab_size * D, GATES[config.cell] * D
    matrices = config.n_layers * rows * 2 * D  # of what is read and of the state
    parameters = matrices + config.n_layers * rows * 2 + table * (1 if config.tie_embeddings else 2)
    forward = 2 * (matrices + table)  # the head multiplies, the embedding only looks up
    return RecurrentAccount(
        kind="rnn",
        cell=config.cell,
        dtype=dtype,
        parameters=parameters,
        flops_forward=forward,
        flops_forward_backward=3 * forward,
        weights=parameters * width,
        gradients=parameters * width,
        optimizer=parameters * BYTES["float32"] * (2 if dtype == "float32" else 3),
        state=config.n_layers * STATES[config.cell] * D * width,
    )

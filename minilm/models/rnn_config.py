"""What recurrent models look like, as data: frozen dataclasses as in `models/config.py`. No torch."""

from dataclasses import dataclass

from minilm.runtime import check_options, option

CELLS = ("rnn", "gru", "lstm")


@dataclass(frozen=True)
class RNNConfig:
    """The shape of a recurrent language model. ValueError for a value out of its range.

    >>> RNNConfig(cell="LSTM")
    Traceback (most recent call last):
    ValueError: cell is 'LSTM': choose one of rnn, gru, lstm
    """

    vocab_size: int = option(1024, "number of different tokens V", low=1)
    cell: str = option("lstm", "what a layer computes from token to token: rnn, gru or lstm", choices=CELLS)
    d_model: int = option(256, "numbers in an embedding and in each layer's state D", low=1)
    n_layers: int = option(1, "number of layers; a second one learns more slowly at first", low=1)
    dropout: float = option(0.0, "probability of dropping an activation in training", low=0, high=0.95)
    tie_embeddings: bool = option(True, "the output head is the embedding table")
    forget_bias: float | None = option(1.0, "where the bias of an LSTM's forget gate starts; none = random", -20, 20)
    window: int = option(32, "tokens after which training cuts the gradient; the state is carried on", low=1)
    context_length: int = option(4096, "longest text to hand to the model, in tokens; it could read on", low=1)

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True)
class Seq2SeqConfig:
    """The shape of a recurrent encoder and decoder. Ids count from 0; PAD, which fills up short rows, is one of them."""

    source_size: int = option(30, "number of different source tokens, padding included", low=2)
    target_size: int = option(13, "number of different target tokens, padding and ends included", low=2)
    d_model: int = option(64, "numbers in an embedding and in each state D", low=1)
    cell: str = option("gru", "what encoder and decoder compute from token to token: rnn, gru or lstm", choices=CELLS)
    pad: int = option(0, "the id that fills up short rows, on both sides", low=0)

    def __post_init__(self) -> None:
        check_options(self)
        if self.pad >= min(self.source_size, self.target_size):
            raise ValueError(
                f"pad is {self.pad}: it must be an id of both sides, below {self.source_size} and {self.target_size}"
            )

"""The copy task: read some symbols, wait, then say them again (Hochreiter and Schmidhuber 1997; Arjovsky et al. 2016).

    inputs     3 1 4 1  0 0 0 ... 0  9 0 0 0        0 is a blank, the last symbol (here 9) asks for the answer
    targets    . . . .  . . . ... .  3 1 4 1        . is not counted

Nothing but memory helps: between a symbol and its answer lie n_symbols + delay steps without any hint of it. To guess costs log A
nats a symbol, A being the size of the alphabet.
"""

from typing import Any, Self

import torch
from torch import Tensor

from minilm.training.loss import IGNORE


class CopyBatches:
    """An endless iterator of (inputs, targets), each (B, 2 n_symbols + delay), drawn by the seed.

    Symbols are 1 to `alphabet`; a model needs a vocabulary of alphabet + 2 tokens.
    """

    def __init__(self, batch_size: int, n_symbols: int, delay: int, alphabet: int = 8, seed: int = 0) -> None:
        if min(batch_size, n_symbols, alphabet) < 1 or delay < 0:
            raise ValueError(
                f"batch_size {batch_size}, n_symbols {n_symbols}, delay {delay}, alphabet {alphabet}: "
                "give at least 1, and for delay 0"
            )
        self.batch_size, self.n_symbols, self.delay, self.alphabet = batch_size, n_symbols, delay, alphabet
        self.generator = torch.Generator().manual_seed(seed)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        shape, length = (self.batch_size, self.n_symbols), 2 * self.n_symbols + self.delay
        symbols = torch.randint(1, self.alphabet + 1, shape, generator=self.generator)
        inputs = torch.zeros(self.batch_size, length, dtype=torch.long)
        targets = torch.full_like(inputs, IGNORE)
        inputs[:, : self.n_symbols] = symbols
        inputs[:, self.n_symbols + self.delay] = self.alphabet + 1
        targets[:, self.n_symbols + self.delay :] = symbols
        return inputs, targets


@torch.inference_mode()
def copied(model: Any, batches: CopyBatches) -> float:
    """The share of symbols that the model's likeliest answers get right in the next batch."""
    inputs, targets = next(batches)
    counted = targets != IGNORE
    return (model(inputs).argmax(-1) == targets)[counted].double().mean().item()

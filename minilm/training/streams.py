"""Batches for models with a state: B streams through the text, each read window by window, and the state carried along.

Back-propagation through a whole text would have to keep every step of it. So it is cut: after each window of T tokens an update
is made, the state goes on as a number, and no gradient flows back beyond the window (truncated back-propagation through time,
Williams and Peng 1990). The model still profits from all that its state remembers; it only does not learn from further back.

    streams = Streams(ids, batch_size, window, seed)
    train(model, streams, config, loss_function=streams.carrying(next_token_loss))

`train` knows nothing of states: the loss holds the state between two calls. `state()` holds it too, so that a resumed run goes
on bit for bit.

A model that has only read on is lost where a text begins: it has seen an empty state once in an epoch. So `batches_for` lets each
row forget all of it before one window in twenty.
"""

import base64
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from minilm.layers.recurrent_cache import LastState
from minilm.training.batches import Batches, check_state
from minilm.training.config import TrainConfig
from minilm.training.loss import LossFunction

FORGET = 0.05  # the share of windows that a row begins with an empty state
TYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}  # of a carried state


class Streams:
    """An endless iterator of (x, y), each (B, T): row b goes on where row b of the batch before ended.

    The text is cut into B parts of equal length, one for each row. At the end of its part a row begins a new epoch: the parts
    start at an offset that is drawn from seed and epoch, so that the borders move. What is left over is less than B T + T tokens.

    >>> streams = Streams(np.arange(100), batch_size=2, window=4)
    >>> first, second = next(streams)[0], next(streams)[0]
    >>> bool((second == first + 4).all())
    True
    """

    def __init__(self, ids: np.ndarray, batch_size: int, window: int, seed: int = 0, forget: float = 0.0) -> None:
        if batch_size < 1 or window < 1:
            raise ValueError(f"batch_size {batch_size}, window {window}: give at least 1 of each")
        if len(ids) < batch_size * window + 1:
            raise ValueError(
                f"the text has {len(ids)} tokens, {batch_size} streams with a window of {window} need "
                f"{batch_size * window + 1}: give more text, or a smaller batch_size or window"
            )
        self.ids, self.batch_size, self.context_length, self.seed = ids, batch_size, window, seed
        self.forget = forget
        self.n_windows = max(1, (len(ids) - window) // (batch_size * window))  # of a row, in an epoch
        self.position = 0  # windows handed out since the run began
        self.learned = 0  # windows whose loss was taken; a step takes all that it was handed
        self.carried: LastState | None = None  # the state behind the last of these

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        epoch, number = divmod(self.position, self.n_windows)
        self.position += 1
        T, parts = self.context_length, np.arange(self.batch_size) * self.n_windows
        starts = self.offset(epoch) + (parts + number) * T
        rows = np.stack([self.ids[start : start + T + 1] for start in starts.tolist()])  # (B, T + 1)
        tokens = torch.from_numpy(rows.astype(np.int64))
        return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    def offset(self, epoch: int) -> int:
        """Where the first row begins: anywhere, as long as the last one still has all of its windows."""
        used = self.batch_size * self.n_windows * self.context_length
        return int(np.random.default_rng((self.seed, epoch)).integers(len(self.ids) - used))

    def remembering(self) -> Tensor:
        """Which rows (B, 1, 1) keep their state before the next loss: all but a share `forget`, drawn from seed and window."""
        numbers = np.random.default_rng((self.seed, self.learned, 1)).random(self.batch_size)
        return torch.from_numpy(numbers >= self.forget)[:, None, None]

    def carrying(self, loss_function: LossFunction) -> "CarryingLoss":
        """The loss function for `train`, which lets the model go on from the state behind the window before."""
        return CarryingLoss(self, loss_function)

    def state(self) -> dict[str, Any]:
        """Where we are, for JSON, with the carried state: what `restore` needs, and what it checks."""
        return {
            "n_ids": len(self.ids),
            "context_length": self.context_length,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "position": self.position,
            "learned": self.learned,
            "carried": None if self.carried is None else [pack(state) for state in self.carried.states],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken. Text, window and number of streams must be the same."""
        check_state(state, self.state(), ("n_ids", "context_length", "batch_size", "seed"), "text")
        position, learned, carried = (state.get(name) for name in ("position", "learned", "carried"))
        if not all(type(count) is int and count >= 0 for count in (position, learned)):
            raise ValueError(f"the saved streams have position {position!r}, learned {learned!r}: no counts of windows")
        states = None if carried is None else unpack_all(carried)
        if states is not None and not all(one.dim() == 3 and len(one) == self.batch_size for one in states):
            raise ValueError(f"the saved streams carry no state of {self.batch_size} rows: the checkpoint is damaged")
        self.position, self.learned = int(position), int(learned)  # type: ignore[arg-type]
        self.carried = None if states is None else LastState(states)


class CarryingLoss:
    """(model, inputs (B, T), targets (B, T)) -> loss, for batches that come from the streams, in their order.

    An epoch begins with an empty state. After each window the state is kept and detached from the window's gradients.
    """

    def __init__(self, streams: Streams, loss_function: LossFunction) -> None:
        self.streams, self.loss_function = streams, loss_function

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        streams, anew = self.streams, self.streams.learned % self.streams.n_windows == 0
        if anew or streams.carried is None:
            streams.carried = model.new_state(len(inputs))  # type: ignore[operator]
        carried = streams.carried.to(inputs.device)
        if streams.forget:
            kept = streams.remembering().to(inputs.device)
            carried.states = [state.where(kept, 0.0) for state in carried.states]
        loss = self.loss_function(GoingOn(model, carried), inputs, targets)  # type: ignore[arg-type]
        carried.detach()
        streams.learned += 1
        return loss


class GoingOn:
    """A model that goes on from a state, with the looks of one that does not: what a loss function asks for."""

    def __init__(self, model: Any, state: LastState) -> None:
        self.model, self.state = model, state

    def __call__(self, ids: Tensor) -> Tensor:
        return self.model(ids, cache=self.state)

    def hidden(self, ids: Tensor) -> Tensor:
        """ids (B, T) -> (B, T, D): all but the head."""
        return self.model.hidden(ids, self.state)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)


def batches_for(
    model: Any, ids: np.ndarray, config: TrainConfig, loss_function: LossFunction
) -> tuple[Batches | Streams, LossFunction]:
    """What to train this model on: streams and a loss that carries its state, if it has one, else windows in random order."""
    if not hasattr(model, "new_state"):
        return Batches(ids, config.batch_size, model.config.context_length, config.seed), loss_function
    streams = Streams(ids, config.batch_size, model.config.window, config.seed, FORGET)
    return streams, streams.carrying(loss_function)


def pack(tensor: Tensor) -> dict[str, Any]:
    """A tensor for JSON, bit for bit."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    data = base64.b64encode(flat.view(torch.uint8).numpy().tobytes()).decode("ascii")
    return {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape), "data": data}


def unpack_all(packed: list[dict[str, Any]]) -> list[Tensor]:
    """The way back of `pack` for at least one tensor, to the CPU. ValueError for what `pack` has not made."""
    try:
        first, *others = [
            torch.frombuffer(
                bytearray(base64.b64decode(one["data"], validate=True)), dtype=TYPES[one["dtype"]]
            ).reshape(one["shape"])
            for one in packed
        ]
    except (KeyError, TypeError, ValueError, RuntimeError):
        raise ValueError("the saved streams carry no readable state: the checkpoint is damaged") from None
    return [first, *others]

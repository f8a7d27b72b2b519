"""A recurrent language model (Mikolov et al. 2010): it reads a text of any length with a memory of fixed size.

ids (B, T) -> embedding (B, T, D) -> n_layers recurrent layers -> head -> logits (B, T, V); logits[:, t] predict ids[:, t + 1].
The protocol is that of `gpt.py`. A GPT looks back at every token of its context and at nothing before; this model looks back at
one state, into which the whole past had to go. Each token costs the same, however long the text is.

It is trained in windows between which the state is carried on: `training/streams.py`.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from minilm.layers.basic import Dropout, Embedding, Linear
from minilm.layers.recurrent import LAYERS, LSTMLayer, RecurrentLayer, RecurrentStack
from minilm.layers.recurrent_cache import LastState, StateCache
from minilm.models.gpt import load_arrays
from minilm.models.rnn_config import RNNConfig
from minilm.runtime import evaluation_mode

SIDE_BY_SIDE = 32  # documents that are scored at the same time
MOST_LOGITS = 2**22  # held at a time while scoring: 17 MB in float32


def build_layer(config: RNNConfig) -> RecurrentLayer:
    """One layer D -> D of the kind that the config names."""
    if config.cell == "lstm":
        return LSTMLayer(config.d_model, config.d_model, forget_bias=config.forget_bias)
    return LAYERS[config.cell](config.d_model, config.d_model)


class RecurrentLM(nn.Module):
    """ids (B, T) -> logits (B, T, V), same protocol as GPT, with a state for a cache."""

    kind = "rnn"

    def __init__(self, config: RNNConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = Embedding(config.vocab_size, config.d_model, std=0.1)  # no norm makes it larger later
        self.dropout = Dropout(config.dropout)
        self.stack = RecurrentStack([build_layer(config) for _ in range(config.n_layers)], config.dropout)
        self.lm_head = Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.lm_head.weight = self.embedding.weight  # one tensor with two uses, not a copy

    def forward(self, ids: Tensor, cache: LastState | StateCache | None = None) -> Tensor:
        return self.head(self.hidden(ids, cache))

    def hidden(self, ids: Tensor, cache: LastState | StateCache | None = None) -> Tensor:
        """ids (B, T) -> (B, T, D): all but the head. With a cache, ids are the tokens that follow those it has read."""
        x = self.stack(self.dropout(self.embedding(ids)), cache)
        if cache is not None:
            cache.advance(ids.shape[1])
        return self.dropout(x)

    def head(self, hidden: Tensor) -> Tensor:
        """(B, T, D) -> logits (B, T, V)."""
        return self.lm_head(hidden)

    def new_cache(self, batch: int, max_length: int | None = None) -> StateCache:
        """An empty cache for `batch` rows of at most max_length tokens (default: any number), which can forget tokens."""
        layers = self.layers
        shape = (batch, max_length, layers[0].n_states, self.config.d_model)
        return StateCache(len(layers), shape, self.number_type)

    def new_state(self, batch: int) -> LastState:
        """The state before the first token, for `batch` rows: a cache of fixed size, which cannot forget tokens."""
        shape = (batch, self.layers[0].n_states, self.config.d_model)
        return LastState([self.number_type.new_zeros(shape) for _ in self.layers])

    @property
    def layers(self) -> list[RecurrentLayer]:
        """The recurrent layers, the one that reads the embeddings first."""
        return list(self.stack.blocks)  # type: ignore[arg-type]

    @property
    def number_type(self) -> Tensor:
        """A tensor of the type and on the device of what is computed; the embedding and the matrices may be stored rounded."""
        return next(self.stack.parameters()).detach()

    def token_log_probs(self, ids: np.ndarray) -> np.ndarray:
        """log p(ids[t] | all tokens before it in its document), in nats: (N,) -> (N,) float64, and 0 where one begins.

        A document begins at the first id, and wherever this id comes again (<|endoftext|>). Long documents are read a
        piece at a time with their state carried on, several documents side by side: there are never (N, V) logits.
        """
        begins = np.flatnonzero(ids == ids[0]).tolist()
        documents = sorted(zip(begins, [*begins[1:], len(ids)], strict=True), key=lambda pair: pair[0] - pair[1])
        log_probs = np.zeros(len(ids))
        with evaluation_mode(self), torch.inference_mode():
            for first in range(0, len(documents), SIDE_BY_SIDE):
                self._score(ids, documents[first : first + SIDE_BY_SIDE], log_probs)
        return log_probs

    def _score(self, ids: np.ndarray, documents: list[tuple[int, int]], log_probs: np.ndarray) -> None:
        """Write the log-probabilities of documents (begin, end), the longest first, into log_probs (N,)."""
        state, place, device = self.new_state(len(documents)), 0, self.number_type.device
        while documents := [(begin, end) for begin, end in documents if end - begin > place + 1]:
            state.select(torch.arange(len(documents)))  # the others have been read to their end
            piece = max(1, MOST_LOGITS // (len(documents) * self.config.vocab_size))
            width = min(piece, documents[0][1] - documents[0][0] - place - 1)
            rows = np.full((len(documents), width + 1), ids[0], dtype=np.int64)
            for row, (begin, end) in zip(rows, documents, strict=True):
                some = ids[begin + place : min(begin + place + width + 1, end)]
                row[: len(some)] = some
            tokens = torch.from_numpy(rows).to(device)
            logits = self(tokens[:, :-1], state)  # (B, T, V)
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            chosen = logits.gather(-1, tokens[:, 1:, None])[..., 0]
            scores = (chosen - logits.logsumexp(-1)).cpu().double().numpy()
            for row, (begin, end) in zip(scores, documents, strict=True):
                stop = min(begin + place + width + 1, end)
                log_probs[begin + place + 1 : stop] = row[: stop - begin - place - 1]
            place += width

    def arrays(self) -> dict[str, Tensor]:
        """The weights by name, for a checkpoint. A tied head is stored once, as the embedding."""
        weights = dict(self.state_dict())
        if self.config.tie_embeddings:
            del weights["lm_head.weight"]
        return weights

    @classmethod
    def from_arrays(cls, config: RNNConfig, arrays: Mapping[str, Tensor | np.ndarray]) -> "RecurrentLM":
        """A model with the given weights; ValueError if a name or a shape does not fit."""
        model = cls(config)
        load_arrays(model, arrays)
        return model

"""A recurrent encoder and decoder with attention: a sequence in, another one out (Sutskever et al. 2014; Bahdanau et al. 2014).

The encoder reads the source token by token; all of its states are the memory. The decoder is a language model of the target
which before each token looks at the memory: `look` is a part, additive attention or, to compare, the last place alone.

source (B, S), inputs (B, T) -> logits (B, T, V): inputs begin with END and are the target moved by one place; logits[:, t]
predict the target's token t. Short rows are filled up at their end with PAD, which nobody looks at.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from minilm.layers.additive_attention import AdditiveAttention
from minilm.layers.basic import Embedding, Linear
from minilm.layers.recurrent import LAYERS, State
from minilm.models.rnn_config import Seq2SeqConfig


class RecurrentSeq2Seq(nn.Module):
    """source (B, S) and inputs (B, T) -> logits (B, T, V)."""

    def __init__(self, config: Seq2SeqConfig, look: Callable[[int], nn.Module] = AdditiveAttention) -> None:
        super().__init__()
        self.config, D = config, config.d_model
        self.source_embedding = Embedding(config.source_size, D, std=1.0)
        self.target_embedding = Embedding(config.target_size, D, std=1.0)
        self.encoder = LAYERS[config.cell](D, D)
        self.bridge = Linear(D, D, std=D**-0.5)
        self.look = look(D)
        self.decoder = LAYERS[config.cell](2 * D, D)
        self.out = Linear(2 * D, config.target_size, std=D**-0.5)

    def forward(self, source: Tensor, inputs: Tensor) -> Tensor:
        memory, mask, state = self.encode(source)
        logits = []
        for token in inputs.unbind(1):
            scores, _, state = self.step(token, memory, mask, state)
            logits.append(scores)
        return torch.stack(logits, dim=1)

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor, State]:
        """source (B, S) -> the memory (B, S, D), its mask (B, S), and the state with which the decoder begins.

        The decoder begins with what the encoder said behind the last token of each row. ValueError for an empty row.
        """
        mask = source != self.config.pad
        if bool((mask[:, 1:] & ~mask[:, :-1]).any()) or not bool(mask[:, 0].all()):
            raise ValueError("a source is empty, or a token stands behind padding: pad rows of tokens on the right")
        memory, _ = self.encoder(self.source_embedding(source))
        last = memory[torch.arange(len(memory), device=memory.device), mask.sum(1) - 1]
        _, *others = self.decoder.start(last)
        return memory, mask, (torch.tanh(self.bridge(last)), *others)

    def step(self, token: Tensor, memory: Tensor, mask: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """The token before (B,) and the state before -> logits (B, V), where was looked (B, S), the next state."""
        context, weights = self.look(state[0], memory, mask)
        read = torch.cat([self.target_embedding(token), context], dim=-1)
        state = next(self.decoder.steps(read[:, None], state))
        return self.out(torch.cat([state[0], context], dim=-1)), weights, state

    @torch.inference_mode()
    def translate(self, source: Tensor, end: int, max_length: int) -> tuple[list[list[int]], Tensor]:
        """The likeliest token at each step, up to END: ids of each row, and where was looked (B, T, S).

        Of each row the first len(ids) + 1 steps count, its END included; what the others say is left out.
        """
        memory, mask, state = self.encode(source)
        token = torch.full((len(source),), end, device=source.device)
        tokens, looks = [], []
        for _ in range(max_length):
            logits, weights, state = self.step(token, memory, mask, state)
            token = logits.argmax(-1)
            tokens.append(token)
            looks.append(weights)
            if all(end in row for row in torch.stack(tokens, dim=1).tolist()):
                break
        rows = torch.stack(tokens, dim=1).tolist()
        return [row[: row.index(end)] if end in row else row for row in rows], torch.stack(looks, dim=1)

"""Heads: a language model knows much about a text, and one more matrix makes a classifier, a tagger or a reader of it.

The backbone is any model of the house with `hidden`: ids (B, T) -> (B, T, D). Its own head, which scores the next token,
is not kept. In its place stands `score`, a linear layer from D to a few numbers: of each text, or of each token.

ids are padded on the right with PAD, and nothing else says where a text ends. A causal backbone never looks to the right, so
no hidden state of a text depends on the padding behind it (Radford et al. 2018 fine-tuned the first GPT this way).
"""

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from minilm.finetuning.batches import PAD
from minilm.finetuning.config import HeadConfig
from minilm.layers.basic import Linear
from minilm.models.gpt import load_arrays
from minilm.models.registry import build_model


def real_tokens(ids: Tensor) -> Tensor:
    """ids (B, T) -> (B, T), False at the padding; ValueError if a token stands behind padding, or an id is neither."""
    mask = ids != PAD
    if (mask[:, 1:] & ~mask[:, :-1]).any():
        raise ValueError(f"a token stands behind padding: pad rows on the right, with the id {PAD}")
    if (ids < PAD).any():
        raise ValueError(f"id {ids.min().item()} is no token: ids count from 0, and padding has the id {PAD}")
    return mask


def pool(hidden: Tensor, mask: Tensor, how: str = "last") -> Tensor:
    """One vector for each text: hidden (B, T, D), mask (B, T), True at its tokens, which stand first -> (B, D).

    "last" takes the last token, the only one in a causal model that has read the whole text. "mean" averages the tokens.
    "first" is what BERT does; in a causal model the first token has read nothing but itself.

    >>> hidden = torch.tensor([[[1.0], [2.0], [9.0]]])
    >>> [pool(hidden, torch.tensor([[True, True, False]]), how).item() for how in ("last", "mean", "first")]
    [2.0, 1.5, 1.0]
    """
    lengths = mask.sum(1)  # (B,)
    if (lengths == 0).any():
        raise ValueError("a row is all padding: encode an empty text as the tokenizer's end_of_text")
    if how == "last":
        return hidden[torch.arange(len(hidden), device=hidden.device), lengths - 1]
    if how == "mean":
        return hidden.where(mask[..., None], 0.0).sum(1) / lengths[:, None]
    if how == "first":
        return hidden[:, 0]
    raise ValueError(f"pooling is {how!r}: choose one of last, mean, first")


def _check_backbone(backbone: Any) -> None:
    if not hasattr(backbone, "hidden"):
        raise ValueError(f"a model of kind {backbone.kind} has no hidden states: a head needs one like gpt or speedrun")


class Head(nn.Module):
    """What the three heads share: a backbone, `score`, and how they are made and saved. `forward` is theirs.

    Without a backbone a fresh one is built, with `parts` as in `build_model`. A given one is taken over, not copied, and
    loses its lm_head; `from_backbone` leaves the model that it gets as it was.
    """

    kind: ClassVar[str]

    def __init__(self, config: HeadConfig, backbone: Any = None, **parts: Any) -> None:
        super().__init__()
        self.config = config
        self.backbone = build_model(config.backbone_kind, config.backbone, **parts) if backbone is None else backbone
        _check_backbone(self.backbone)
        if hasattr(self.backbone, "lm_head"):
            del self.backbone.lm_head
        self.score = Linear(config.backbone["d_model"], len(config.labels))

    def hidden(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids (B, T) with padding, mask (B, T) -> (B, T, D). The backbone reads padding as token 0; nobody reads the result."""
        return self.backbone.hidden(ids.where(mask, 0))

    def arrays(self) -> dict[str, Tensor]:
        """The weights by name, for a checkpoint."""
        return dict(self.state_dict())

    @classmethod
    def from_arrays(cls, config: HeadConfig, arrays: Mapping[str, Tensor | np.ndarray], **parts: Any) -> Self:
        """A model with the given weights; ValueError if a name or a shape does not fit."""
        model = cls(config, **parts)
        load_arrays(model, arrays)
        return model

    @classmethod
    def from_backbone(
        cls, backbone: Any, labels: Sequence[str], pooling: str = "last", generator: torch.Generator | None = None
    ) -> Self:
        """A new head, drawn from the generator, on a copy of a trained model, in the number type and place of its weights."""
        _check_backbone(backbone)
        config = HeadConfig(backbone.kind, dataclasses.asdict(backbone.config), tuple(labels), pooling)
        model = cls(config, copy.deepcopy(backbone))
        weight = model.score.weight
        with torch.no_grad():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.02)
        reference = next(backbone.parameters())
        model.score.to(reference.device, reference.dtype)
        return model.train(backbone.training)


class SequenceClassifier(Head):
    """Which label has a text: ids (B, T) -> logits (B, C)."""

    kind = "sequence-classifier"

    def forward(self, ids: Tensor) -> Tensor:
        mask = real_tokens(ids)
        return self.score(pool(self.hidden(ids, mask), mask, self.config.pooling))


class TokenClassifier(Head):
    """Which label has each token: ids (B, T) -> logits (B, T, C), those at padding without meaning. It pools nothing.

    A causal backbone has read a token and what stands before it. So the label of a word is best asked at its last token.
    """

    kind = "token-classifier"

    def forward(self, ids: Tensor) -> Tensor:
        return self.score(self.hidden(ids, real_tokens(ids)))


class SpanExtractor(Head):
    """Where an answer starts and where it ends: ids (B, T) -> scores (B, T, 2), of start and end (the last token included).

    At padding they are -inf, so that a softmax over T is a distribution over the text's own tokens (as in Devlin et al.
    2018). A causal backbone must have read the question: put it before the context.
    """

    kind = "span-extractor"

    def __init__(self, config: HeadConfig, backbone: Any = None, **parts: Any) -> None:
        if len(config.labels) != 2:
            raise ValueError(f"a span has the two labels start and end, not {', '.join(config.labels)}")
        super().__init__(config, backbone, **parts)

    def forward(self, ids: Tensor) -> Tensor:
        mask = real_tokens(ids)
        return self.score(self.hidden(ids, mask)).masked_fill(~mask[..., None], float("-inf"))

    @classmethod
    def from_backbone(
        cls,
        backbone: Any,
        labels: Sequence[str] = ("start", "end"),
        pooling: str = "last",
        generator: torch.Generator | None = None,
    ) -> Self:
        return super().from_backbone(backbone, labels, pooling, generator)

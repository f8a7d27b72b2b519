"""More tokens for a model that has been trained: the tokenizer gets names, the model gets rows, and what was learned stays.

A model that has only read texts knows no <|user|>. Its tables have a row for each token, so a new token is a new row, and the
question is what stands in it. Zeros or small random numbers in the head would be a mistake: after training most logits are well
below 0, so a logit of about 0 makes the unknown token the likeliest of all. The mean of the old rows gives the mean of the old
logits, and the new tokens take next to nothing from the old ones (Hewitt 2021, "Initializing new word embeddings for pretrained
language models").
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from minilm.layers.basic import Embedding, Linear
from minilm.models.gpt import GPT
from minilm.models.speedrun_gpt import SpeedrunGPT
from minilm.text.chat import CHAT_TOKENS
from minilm.text.tokenizer import Tokenizer

NOISE = 0.01  # of a new row, in standard deviations of the old ones: enough that no two new tokens are the same


def with_chat_tokens(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer with CHAT_TOKENS behind its last id, or itself if it has them. No text gets other ids than before.

    The description, and with it the fingerprint, is another one: save the tokenizer with the grown model.
    """
    return tokenizer.with_specials(CHAT_TOKENS)


def tables_of(model: Any) -> list[Any]:
    """The layers that have a row for each token: embeddings and head. ValueError where they are not known or not plain."""
    tables: list[Any] = []
    if isinstance(model, SpeedrunGPT):
        tables = [*model.embeddings, model.lm_head]
    elif isinstance(model, GPT):
        tables = [model.embedding, model.lm_head]
    if not tables:
        kind = getattr(model, "kind", type(model).__name__)
        raise ValueError(f"the vocabulary of a model of kind {kind} cannot grow: that of a gpt or speedrun model can")
    for table in tables:
        if type(table) not in (Embedding, Linear):
            raise ValueError(
                f"a {type(table).__name__} cannot grow: let the vocabulary grow before layers are replaced"
            )
    return tables


def grow_vocabulary(model: Any, vocab_size: int, generator: torch.Generator) -> None:
    """Give a GPT or SpeedrunGPT rows for ids up to vocab_size - 1, in place: embeddings, head and config.

    The old rows keep their bits and a tied head stays tied. The parameters are new objects: build the optimizer afterwards.
    With its present size nothing happens; ValueError for a smaller one.

    Old tokens get the hidden states of before, bit for bit. The n-grams of a SpeedrunGPT read the id vocab_size where a text has
    no token yet: this stays the old size (no_token), so that they find the rows that they have learnt. The first new token
    reads the same rows, as any two n-grams may.

    >>> grow_vocabulary(model, with_chat_tokens(tokenizer).vocab_size, torch.Generator().manual_seed(0))
    """
    tables = tables_of(model)
    old_size = model.config.vocab_size
    if vocab_size < old_size:
        raise ValueError(f"vocab_size is {vocab_size}, the model has {old_size} tokens: a vocabulary can only grow")
    if vocab_size == old_size:
        return
    grown: dict[int, nn.Parameter] = {}  # by the identity of the old one, for a tied head is the embedding
    for table in tables:
        old = table.weight
        if id(old) not in grown:
            rows = torch.cat([old.detach(), new_rows(old.detach(), vocab_size - old_size, generator)])
            grown[id(old)] = nn.Parameter(rows, requires_grad=old.requires_grad)
        table.weight = grown[id(old)]
    sizes = {"vocab_size": vocab_size}
    if isinstance(model, SpeedrunGPT):
        sizes["no_token"] = model.no_token
    model.config = dataclasses.replace(model.config, **sizes)


def new_rows(table: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """n rows (n, D) for a table (V, D): the mean row, plus NOISE standard deviations of each column."""
    exact = table.cpu().to(torch.promote_types(table.dtype, torch.float32))
    noise = torch.randn(n, table.shape[1], generator=generator, dtype=exact.dtype)
    return (exact.mean(0) + NOISE * exact.std(0, correction=0) * noise).to(table)

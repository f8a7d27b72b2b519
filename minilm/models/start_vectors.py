"""Word vectors as the first embeddings of a network: it starts with an idea of which tokens are alike.

A row of the embedding table gets the vector of the word that its token stands for. What the vectors were made for has
another scale than a fresh table (GPT-2's has a standard deviation of 0.02), so they are fitted to it:

* The mean of the vectors that are used is taken off. It says nothing about a word, and with a tied head it would only add
  the same to every score.
* They are multiplied by one number, so that they have the standard deviation of the rows that were drawn.

Tokens without a vector keep the row that they were drawn with: it has that scale already. In a model with a tied head the
vectors are also its first head, so words that are alike are also expected alike.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from minilm.classical.arpa import to_word
from minilm.classical.bag_of_ngrams import words
from minilm.classical.vectors import WordVectors


def names_as_words(token_bytes: Sequence[bytes]) -> list[str | None]:
    """The word that each token stands for, in lower case as `words` cuts it; None for all that is no whole word.

    A whole word has the blank before it that running text has there. Without one a token mostly goes on with a word: the
    "he" of "heather" is not he.

    >>> names_as_words([b" The", b"he", b" ", b" a-b", b" \\xc3", b" don't"])
    ['the', None, None, None, None, "don't"]
    """
    names: list[str | None] = []
    for token in token_bytes:
        text = token.decode("utf-8", errors="replace")
        found = words(text)
        whole = text[:1] == " " and len(found) == 1 and len(found[0]) == len(text) - 1
        names.append(found[0] if whole else None)
    return names


def names_as_tokens(token_bytes: Sequence[bytes]) -> list[str]:
    """The name of each token in vectors that were trained on tokens: its bytes as a word without blanks.

    >>> names_as_tokens([b" a", b"b"])
    ['%20a', 'b']
    """
    return [to_word(token) for token in token_bytes]


def embedding_table(model: Any) -> nn.Parameter:
    """The parameter (V, D) from which a network reads its tokens' vectors, also below a head; ValueError if it has none."""
    inner = getattr(model, "backbone", model)
    first = getattr(inner, "embedding", None)
    if first is None and len(getattr(inner, "embeddings", ())):
        first = inner.embeddings[0]
    if not isinstance(weight := getattr(first, "weight", None), nn.Parameter):
        raise ValueError(f"a model of kind {getattr(model, 'kind', '?')} has no table of embeddings: take a network")
    return weight


def fitted(vectors: Tensor, std: float) -> Tensor:
    """Vectors (N, D) less their mean, with this standard deviation about it; ValueError if they are all the same.

    >>> fitted(torch.tensor([[1.0, 7.0], [5.0, 3.0]]), std=6.0)
    tensor([[-6.,  6.],
            [ 6., -6.]])
    """
    centred = vectors - vectors.mean(dim=0)
    size = centred.square().mean().sqrt()
    if not size > 0:
        raise ValueError(f"{len(vectors)} vectors that are all the same say nothing: match at least two words")
    return centred * (std / size)


def start_with_vectors(model: Any, names: Sequence[str | None], vectors: WordVectors) -> int:
    """Put the vector of names[i] into row i of the model's embeddings, where there is one, in place; returns how many.

    `names` holds one name for each of the model's V rows (`names_as_words`, `names_as_tokens`). The module's docstring
    says how the vectors are scaled. ValueError for vectors of another width than the model's, and where fewer than two
    names have one: then these are other words, or another spelling.
    """
    weight = embedding_table(model)
    V, D = weight.shape
    if len(names) != V:
        raise ValueError(f"{len(names)} names for {V} rows of embeddings: give one for each token, or None")
    if vectors.matrix.shape[1] != D:
        raise ValueError(
            f"the vectors have {vectors.matrix.shape[1]} numbers, the model's embeddings {D}: train the vectors with "
            f"--dimensions {D}, or choose another d_model"
        )
    rows = [i for i, name in enumerate(names) if name is not None and name in vectors.index]
    if len(rows) < 2:
        raise ValueError(f"{len(rows)} of {V} tokens have a vector: were both made of the same texts, by the same cut?")
    chosen = torch.from_numpy(vectors.matrix[[vectors.index[str(names[i])] for i in rows]])
    with torch.no_grad():
        std = float(weight.double().square().mean().sqrt())
        weight[rows] = fitted(chosen, std).to(weight)
    return len(rows)

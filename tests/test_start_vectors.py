"""Word vectors as first embeddings: which rows they become, at which scale, in which models, and what is refused."""

import dataclasses
import doctest

import numpy as np
import pytest
import torch

from minilm.classical.vectors import WordVectors
from minilm.finetuning.heads import SequenceClassifier
from minilm.models import start_vectors
from minilm.models.config import SpeedrunConfig, gpt2_config, llama_config
from minilm.models.gpt import GPT
from minilm.models.speedrun_gpt import SpeedrunGPT
from minilm.models.start_vectors import names_as_tokens, names_as_words, start_with_vectors

NAMES = ["zebra", "sea", None, "moon", "fox", "sea"]  # of six tokens; two stand for the same word
VECTORS = WordVectors(("fox", "sea", "moon", "other"), np.random.default_rng(0).normal(3.0, 7.0, size=(4, 8)))
SHAPE = {"vocab_size": 6, "context_length": 5, "d_model": 8, "n_layers": 1, "n_heads": 2}


def table_of(model: torch.nn.Module) -> torch.Tensor:
    """The first matrix (6, 8) among the parameters."""
    return next(p for p in model.parameters() if p.shape == (6, 8))


def models() -> dict[str, torch.nn.Module]:
    gpt = GPT(gpt2_config(**SHAPE))
    return {
        "tied": gpt,
        "untied": GPT(llama_config(**SHAPE)),
        "speedrun": SpeedrunGPT(SpeedrunConfig(**SHAPE)),
        "classifier": SequenceClassifier.from_backbone(gpt, ["good", "bad", "so so"]),
    }


@pytest.mark.parametrize("kind", ["tied", "untied", "speedrun", "classifier"])
def test_rows_of_known_words_are_their_vectors(kind: str) -> None:
    model = models()[kind]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    table = table_of(model)
    old = table.detach().clone()
    assert start_with_vectors(model, NAMES, VECTORS) == 4
    new = table.detach().double()
    assert torch.equal(table[[0, 2]], old[[0, 2]])  # fresh, as they were drawn
    used = torch.from_numpy(VECTORS.matrix[[1, 2, 0, 1]])
    centred = used - used.mean(0)
    ratio = new[[1, 3, 4, 5]] / centred
    torch.testing.assert_close(ratio, ratio[0, 0].expand(4, 8), rtol=1e-5, atol=0)  # one number for all
    assert ratio[0, 0] > 0
    assert torch.equal(table[1], table[5])
    # the scale of the table that was drawn
    assert new[[1, 3, 4, 5]].square().mean().sqrt() == pytest.approx(old.square().mean().sqrt().item(), rel=1e-5)
    changed = [name for name, p in model.named_parameters() if not torch.equal(p, before[name])]
    assert len(changed) == 1  # a tied head is the same parameter


def test_a_tied_head_is_the_same_table_still() -> None:
    model = GPT(gpt2_config(**SHAPE))
    start_with_vectors(model, NAMES, VECTORS)
    assert model.lm_head.weight is model.embedding.weight and model.embedding.weight.requires_grad


def test_scale_and_mean_of_the_vectors_do_not_matter() -> None:
    one, other = (GPT(gpt2_config(**SHAPE)).double() for _ in range(2))
    other.load_state_dict(one.state_dict())
    start_with_vectors(one, NAMES, VECTORS)
    start_with_vectors(other, NAMES, WordVectors(VECTORS.words, 1000 * VECTORS.matrix - 77))
    torch.testing.assert_close(one.embedding.weight, other.embedding.weight, rtol=1e-9, atol=1e-12)


def test_names_of_tokens() -> None:
    tokens = [
        b" The",
        b" the",
        b"the",
        b"the ",
        b" ",
        b" 's",
        b" it's",
        b" a b",
        b"  a",
        b"\n",
        b" \xc3",
        " été".encode(),
    ]
    expected = ["the", "the", None, None, None, None, "it's", None, None, None, None, "été"]
    assert names_as_words(tokens) == expected
    assert names_as_tokens([b" the", b"\n", b"%"]) == ["%20the", "%0A", "%25"]
    assert doctest.testmod(start_vectors).failed == 0


@pytest.mark.parametrize(
    ("names", "vectors", "message"),
    [
        (NAMES[:5], VECTORS, "5 names for 6 rows of embeddings"),
        (
            NAMES,
            WordVectors(VECTORS.words, VECTORS.matrix[:, :7]),
            "the vectors have 7 numbers, .* 8: .*--dimensions 8",
        ),
        ([None] * 6, VECTORS, "0 of 6 tokens have a vector"),
        ([None] * 5 + ["fox"], VECTORS, "1 of 6 tokens have a vector"),
        (NAMES, WordVectors(("sea", "fox"), np.ones((2, 8))), "3 vectors that are all the same"),
    ],
)
def test_what_does_not_fit(names: list[str | None], vectors: WordVectors, message: str) -> None:
    model = GPT(gpt2_config(**SHAPE))
    before = model.embedding.weight.detach().clone()
    with pytest.raises(ValueError, match=message):
        start_with_vectors(model, names, vectors)
    assert torch.equal(model.embedding.weight, before)


def test_a_model_without_embeddings() -> None:
    @dataclasses.dataclass
    class Counted:
        kind: str = "ngram"

    with pytest.raises(ValueError, match="a model of kind ngram has no table of embeddings"):
        start_with_vectors(Counted(), NAMES, VECTORS)


def test_it_trains_on_from_there() -> None:
    model = GPT(gpt2_config(**SHAPE))
    start_with_vectors(model, NAMES, VECTORS)
    model(torch.tensor([[1, 3, 4]])).square().sum().backward()
    assert model.embedding.weight.grad is not None and model.embedding.weight.grad.abs().sum() > 0

"""A vocabulary that grows: the old ids, the old rows and the old logits stay, the new rows are the mean of the old ones."""

import dataclasses
import itertools
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from minilm.finetuning.vocabulary import NOISE, grow_vocabulary, with_chat_tokens
from minilm.layers.attention import scaled_dot_product_attention
from minilm.layers.basic import log_softmax
from minilm.models.config import GPTConfig, SpeedrunConfig
from minilm.models.counted import CountedLM
from minilm.models.gpt import GPT
from minilm.models.speedrun_gpt import SpeedrunGPT
from minilm.text.bpe import BPETokenizer
from minilm.text.bpe_renumbered import RenumberedBPE
from minilm.text.chat import CHAT_TOKENS, encode_chat
from minilm.text.stories import stories
from minilm.text.tokenizer import END_OF_TEXT, ByteTokenizer, CharTokenizer, Tokenizer, load_tokenizer
from minilm.training.checkpoint import load_checkpoint, save_checkpoint
from minilm.training.loss import next_token_loss
from minilm.training.optim import AdamW, decay_groups

# The context is as long as the vocabulary, so that a table of positions cannot be told from one of tokens by its shape.
V, GROWN, T, D = 23, 29, 23, 24
SHAPE: dict[str, Any] = {"vocab_size": V, "context_length": T, "d_model": D, "n_layers": 2, "n_heads": 3}
MODELS = ["tied", "untied", "speedrun", "n-grams"]


def randomised(model: Any) -> Any:
    """In float64, with weights that are all different from 0 and not centred, as after training."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.double().parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.double) * 0.4 + 0.1)
    return model.eval()


def build(name: str) -> Any:
    if name in ("tied", "untied"):
        return randomised(GPT(GPTConfig(**SHAPE, d_ff=17, tie_embeddings=name == "tied")))
    return randomised(SpeedrunGPT(SpeedrunConfig(**SHAPE, max_ngram=3 if name == "n-grams" else 1, ngram_rows=31)))


def grow(model: Any, vocab_size: int = GROWN, seed: int = 5) -> Any:
    grow_vocabulary(model, vocab_size, torch.Generator().manual_seed(seed))
    return model


def texts() -> Tensor:
    return torch.randint(V, (5, 13), generator=torch.Generator().manual_seed(2))


# ---- the model


@pytest.mark.parametrize("name", MODELS)
def test_old_rows_keep_their_bits_and_nothing_else_changes(name: str) -> None:
    model = build(name)
    before = {key: array.clone() for key, array in model.arrays().items()}
    after = grow(model).arrays()
    assert after.keys() == before.keys() and model.config.vocab_size == GROWN
    tables = {
        "tied": {"embedding.weight"},
        "untied": {"embedding.weight", "lm_head.weight"},
        "speedrun": {"embeddings.0.weight", "embeddings.1.weight", "embeddings.2.weight", "lm_head.weight"},
    }[name.replace("n-grams", "speedrun")]
    for key, old in before.items():
        assert torch.equal(after[key][: len(old)], old)
        assert after[key].dtype == old.dtype
        assert len(after[key]) == (GROWN if key in tables else len(old))


@pytest.mark.parametrize("name", MODELS)
def test_old_logits_stay(name: str) -> None:
    """The hidden states are the very same numbers; logits of old tokens are equal up to the order of summation."""
    model, ids = build(name), texts()
    hidden, logits = model.hidden(ids), model(ids)
    grow(model)
    assert torch.equal(model.hidden(ids), hidden)
    assert model(ids).shape == (5, 13, GROWN)
    assert torch.allclose(model(ids)[..., :V], logits, rtol=0, atol=1e-12)


def test_the_first_n_grams_of_a_window_are_found_again() -> None:
    """Grown twice, and once more after a checkpoint would have been read: what stands before a text keeps its rows."""
    model, ids = build("n-grams"), texts()
    hidden = model.hidden(ids)
    for size in (GROWN, GROWN + 3):
        assert torch.equal(grow(model, size).hidden(ids), hidden)
        assert model.config.no_token == V
    again, moved = (
        SpeedrunGPT(dataclasses.replace(model.config, no_token=before)).double().eval() for before in (V, None)
    )
    for other in (again, moved):
        other.load_state_dict(model.state_dict())
    assert torch.equal(grow(again, GROWN + 5).hidden(ids), hidden)
    changed = (moved.hidden(ids) != hidden).any(-1)
    assert changed[:, :2].all()  # with another id the first n-grams read other rows: the claim is no empty one


@pytest.mark.parametrize("name", MODELS)
def test_new_rows_are_the_mean_of_the_old_ones_and_all_different(name: str) -> None:
    model = build(name)
    before = {key: array.clone() for key, array in model.arrays().items()}
    grow(model, V + 4000)
    for key, array in model.arrays().items():
        new = array[V:]
        if len(array) != V + 4000:
            continue
        mean, std = before[key].mean(0), ((before[key] - before[key].mean(0)) ** 2).mean(0).sqrt()
        assert torch.allclose(new.mean(0), mean, rtol=0, atol=5 * NOISE * float(std.max()) / 4000**0.5)
        assert torch.allclose(((new - mean) ** 2).mean(0).sqrt() / std, torch.tensor(NOISE).double(), rtol=0.1)
        assert len(new.unique(dim=0)) == len(new)


@torch.no_grad()
def test_new_tokens_take_little_from_the_old_ones() -> None:
    """Hewitt 2021: with the mean row an old log-probability loses at most log((V + V') / V), here plus a little noise; with
    rows of zeros, where all logits are far below 0, nearly all probability is lost."""
    model = build("untied")
    model.norm.weight.zero_()
    model.norm.bias.fill_(1.0)  # every hidden state is (1, ..., 1), so a logit is the sum of a row
    model.lm_head.weight.sub_(1.0)
    ids = texts()
    before = log_softmax(model(ids))
    grow(model)
    lost = before - log_softmax(model(ids))[..., :V]
    assert float(lost.min()) > 0 and float(lost.max()) < math.log(GROWN / V) + 0.05
    model.lm_head.weight[V:] = 0
    assert float((before - log_softmax(model(ids))[..., :V]).min()) > 5


@pytest.mark.parametrize("name", MODELS)
def test_tied_stays_tied(name: str) -> None:
    model = grow(build(name))
    if name in ("tied", "untied"):
        assert (model.lm_head.weight is model.embedding.weight) == (name == "tied")
    else:
        assert len({id(table.weight) for table in [*model.embeddings, model.lm_head]}) == 4


@pytest.mark.parametrize("name", MODELS)
def test_the_optimizer_moves_the_new_rows(name: str) -> None:
    model = grow(build(name))
    before = {key: array.clone() for key, array in model.arrays().items()}
    optimizer = AdamW(decay_groups(model, lr=0.01))
    ids = torch.arange(V, GROWN).repeat(2)[None]
    next_token_loss(model, ids[:, :-1], ids[:, 1:]).backward()
    optimizer.step()
    moved = {key for key, array in model.arrays().items() if (array[V:] != before[key][V:]).any(-1).all()}
    assert {key for key in before if len(before[key]) == GROWN} <= moved


@pytest.mark.parametrize("name", MODELS)
def test_saved_and_loaded(name: str, tmp_path: Path) -> None:
    tokenizer = with_chat_tokens(CharTokenizer("".join(chr(97 + i) for i in range(V - 1))))
    model = grow(build(name), tokenizer.vocab_size)
    ids = torch.cat([texts(), torch.tensor([[V, V + 1, V + 2, V + 3, 0] * 2 + [1, 2, 3]])])
    save_checkpoint(tmp_path, model, tokenizer)
    again = load_checkpoint(tmp_path)
    model.float()
    assert again.tokenizer == tokenizer and again.model.config == model.config
    assert torch.equal(again.model.eval()(ids), model(ids))


def test_same_generator_same_rows() -> None:
    first, second, other = (grow(build("untied"), seed=seed) for seed in (5, 5, 6))
    assert torch.equal(first.embedding.weight, second.embedding.weight)
    assert not torch.equal(first.embedding.weight, other.embedding.weight)
    assert not torch.equal(first.embedding.weight[V:], first.lm_head.weight[V:])


def test_parts_modes_and_types_stay() -> None:
    """In place: the model keeps its attention function, its mode, what is frozen, and the precision of its weights."""

    def attention(*arguments: Any) -> Tensor:
        return scaled_dot_product_attention(*arguments)

    model = GPT(GPTConfig(**SHAPE, tie_embeddings=False), attention=attention).bfloat16().eval()
    model.embedding.weight.requires_grad_(False)
    grow(model)
    assert model.blocks[0].attention.attention is attention and not model.training
    assert model.embedding.weight.dtype == torch.bfloat16 and model.lm_head.weight.shape == (GROWN, D)
    assert not model.embedding.weight.requires_grad and model.lm_head.weight.requires_grad


def test_what_cannot_grow() -> None:
    model = build("tied")
    weight = model.embedding.weight
    grow(model, V)
    assert model.embedding.weight is weight and model.config.vocab_size == V
    with pytest.raises(ValueError, match=f"vocab_size is {V - 1}, the model has {V} tokens"):
        grow(model, V - 1)
    with pytest.raises(ValueError, match="kind CountedLM cannot grow"):
        grow(CountedLM.__new__(CountedLM))

    class Replaced(torch.nn.Module):
        pass

    model.lm_head = Replaced()
    with pytest.raises(ValueError, match="a Replaced cannot grow"):
        grow(model)
    assert model.embedding.weight is weight and model.config.vocab_size == V  # nothing was half done


# ---- the tokenizer


def renumbered() -> RenumberedBPE:
    """Special tokens first, and the bytes turned round."""
    inner = BPETokenizer([(97, 98)], ("<|user|>", END_OF_TEXT))
    n = inner.vocab_size
    return RenumberedBPE(inner, [*range(n - 1, 1, -1), 0, 1])


TOKENIZERS: list[Tokenizer] = [
    ByteTokenizer(),
    CharTokenizer.train(stories(30, seed=2)),
    BPETokenizer.train(list(stories(30, seed=2)), 300),
    BPETokenizer([(97, 98)], ("<|end|>", END_OF_TEXT, "<|more|>")),
    renumbered(),
]


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=lambda tokenizer: tokenizer.kind)
def test_no_old_id_changes(tokenizer: Tokenizer, tmp_path: Path) -> None:
    chat = with_chat_tokens(tokenizer)
    new = [name for name in CHAT_TOKENS if name not in tokenizer.special_tokens]
    assert chat.vocab_size == tokenizer.vocab_size + len(new)
    assert chat.token_bytes == [*tokenizer.token_bytes, *(name.encode() for name in new)]
    expected = tokenizer.special_tokens | {name: tokenizer.vocab_size + i for i, name in enumerate(new)}
    assert chat.special_tokens == expected and chat.end_of_text == tokenizer.end_of_text
    for text in stories(10, seed=2):
        assert chat.encode(text) == tokenizer.encode(text)
        assert chat.decode(chat.encode(text)) == text
    assert with_chat_tokens(chat) is chat
    chat.save(tmp_path / "chat.json")
    again = load_tokenizer(tmp_path / "chat.json")
    assert again == chat and again.special_tokens == expected and again.fingerprint == chat.fingerprint
    assert again != tokenizer and again.fingerprint != tokenizer.fingerprint


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=lambda tokenizer: tokenizer.kind)
def test_row_66_nobody_writes_a_new_special_token(tokenizer: Tokenizer) -> None:
    chat = with_chat_tokens(tokenizer)
    draw = random.Random(3)
    pieces = [*CHAT_TOKENS, "<", "|", "end", "user", ">"]
    signals = set(chat.special_tokens.values())
    for _ in range(1000):
        text = "".join(draw.choices(pieces, k=draw.randint(1, 5)))
        try:
            assert not signals & set(chat.encode(text))
        except ValueError:
            assert chat.kind == "char"  # which knows no "|"


def test_a_description_from_before_is_still_true() -> None:
    """Token files and checkpoints name the fingerprints of tokenizers that were written before there were more specials."""
    assert ByteTokenizer().to_dict() == {"kind": "byte"}
    assert CharTokenizer("ab").to_dict() == {"kind": "char", "characters": "ab"}


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=lambda tokenizer: tokenizer.kind)
def test_special_tokens_that_cannot_be_added(tokenizer: Tokenizer) -> None:
    for names in (["<|x|>", "<|x|>"], [""]):
        with pytest.raises(ValueError, match="special tokens"):
            tokenizer.with_specials(names)
    assert tokenizer.with_specials([]) is tokenizer


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=lambda tokenizer: tokenizer.kind)
def test_the_grown_tokenizer_holds_chats(tokenizer: Tokenizer) -> None:
    chat = with_chat_tokens(tokenizer)
    roles = [*itertools.islice(itertools.cycle(["user", "assistant"]), 4)]
    ids = encode_chat([{"role": role, "content": "a boat"} for role in roles], chat, reply=True)
    special = chat.special_tokens
    turns = ([special[f"<|{role}|>"], *tokenizer.encode("a boat"), special["<|end|>"]] for role in roles)
    assert ids == [chat.end_of_text, *itertools.chain.from_iterable(turns), special["<|assistant|>"]]

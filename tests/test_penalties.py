"""Penalties and processors: by hand on small cases, against plain loops and transformers on random ones."""

import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import NoBadWordsLogitsProcessor, RepetitionPenaltyLogitsProcessor, SequenceBiasLogitsProcessor

from minilm.decoding.config import SampleConfig
from minilm.decoding.penalties import (
    count_tokens,
    penalise,
    penalise_frequency,
    penalise_presence,
    penalise_repetition,
)
from minilm.decoding.processors import BadWords, LogitBias, Vocabulary
from minilm.decoding.sampling import Sampler, distribution

NAMES = ("repetition_penalty", "presence_penalty", "frequency_penalty")
TEXTS = [[2, 0, 2, 2], [], [1]]


def example() -> Tensor:
    return torch.tensor([[1.0, 2.0, 4.0, -1.0], [1.0, 2.0, 4.0, -1.0], [0.5, -2.0, 0.0, 3.0]]).double()


def random_case(rows: int, V: int, seed: int, length: int = 9) -> tuple[Tensor, list[list[int]]]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(rows, V, generator=generator, dtype=torch.double)
    return logits, torch.randint(0, V, (rows, length), generator=generator).tolist()


def test_counts() -> None:
    """Texts of different lengths, one of them empty."""
    assert count_tokens(TEXTS, 4).tolist() == [[1, 0, 3, 0], [0, 0, 0, 0], [0, 1, 0, 0]]


def test_each_penalty_by_hand() -> None:
    logits, counts = example(), count_tokens(TEXTS, 4)
    rest = logits[1].tolist()
    assert penalise_repetition(logits, counts, 2.0).tolist() == [[0.5, 2, 2, -1], rest, [0.5, -4, 0, 3]]
    assert penalise_presence(logits, counts, 0.5).tolist() == [[0.5, 2, 3.5, -1], rest, [0.5, -2.5, 0, 3]]
    assert penalise_frequency(logits, counts, 0.5).tolist() == [[0.5, 2, 2.5, -1], rest, [0.5, -2.5, 0, 3]]
    assert penalise_frequency(logits, counts, -1.0).tolist() == [[2, 2, 7, -1], rest, [0.5, -1, 0, 3]]
    assert torch.equal(logits, example())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_penalties_compute_in_the_type_of_the_logits(dtype: torch.dtype) -> None:
    """0.1 rounded to float32 on the way would be off by 1e-9."""
    logits, counts = torch.zeros(1, 2, dtype=dtype), torch.tensor([[3, 0]])
    for function, times in ((penalise_presence, 1), (penalise_frequency, 3)):
        result = function(logits, counts, 0.1)
        assert result.dtype == dtype
        assert abs(float(result[0, 0]) + times * 0.1) <= 2 * torch.finfo(dtype).eps
    assert penalise_repetition(logits, counts, 1.3).dtype == dtype


def test_penalties_against_a_plain_loop() -> None:
    """All three at once: the order is repetition, presence, frequency, and a token not in the text stays as it was."""
    logits, texts = random_case(200, 13, seed=1)
    config = SampleConfig(repetition_penalty=1.7, presence_penalty=0.4, frequency_penalty=-0.3)
    expected = logits.tolist()
    for row, text in zip(expected, texts, strict=True):
        for token in set(text):
            row[token] *= 1 / 1.7 if row[token] > 0 else 1.7
            row[token] -= 0.4 - 0.3 * text.count(token)
    assert (penalise(logits, texts, config) - torch.tensor(expected, dtype=torch.double)).abs().max() < 1e-12


@pytest.mark.parametrize("penalty", [0.6, 1.0, 1.3, 8.0])
def test_repetition_is_that_of_transformers(penalty: float) -> None:
    logits, texts = random_case(200, 17, seed=2)
    ids, counts = torch.tensor(texts), count_tokens(texts, 17)
    found = penalise_repetition(logits, counts, penalty)
    assert (found - RepetitionPenaltyLogitsProcessor(penalty)(ids, logits)).abs().max() < 1e-12


def test_presence_changes_the_odds_by_a_known_factor() -> None:
    """exp(-penalty), wherever the logits have their zero; repetition has no such law, as its docstring says."""
    logits, texts = random_case(50, 9, seed=3, length=3)
    before = distribution(logits, SampleConfig(1.0))
    after = distribution(logits - 5.0, SampleConfig(1.0, presence_penalty=0.7), texts)
    for row, text in enumerate(texts):
        other = next(token for token in range(9) if token not in text)
        change = after[row] / after[row, other] / (before[row] / before[row, other])
        expected = [math.exp(-0.7) if token in text else 1.0 for token in range(9)]
        assert (change - torch.tensor(expected, dtype=torch.double)).abs().max() < 1e-12
    moved = distribution(logits - 5.0, SampleConfig(1.0, repetition_penalty=1.5), texts)
    assert (moved - distribution(logits, SampleConfig(1.0, repetition_penalty=1.5), texts)).abs().max() > 0.01


def test_penalties_keep_what_is_forbidden_forbidden() -> None:
    logits = torch.tensor([[0.0, -math.inf]])
    config = SampleConfig(repetition_penalty=0.5, presence_penalty=-9.0, frequency_penalty=-9.0)
    assert penalise(logits, [[1, 1]], config)[0, 1] == -math.inf


@pytest.mark.parametrize("name", NAMES)
def test_penalties_need_a_text_for_each_row(name: str) -> None:
    config = SampleConfig(**{name: 1.5})
    for texts in ((), [[1]], [[1], [2], [3]]):
        with pytest.raises(ValueError, match=f"{len(texts)} texts for 2 rows"):
            distribution(torch.zeros(2, 4), config, texts)
    assert distribution(torch.zeros(2, 4), SampleConfig()).shape == (2, 4)  # nothing reads them


def test_logit_bias() -> None:
    logits = example()
    found = LogitBias({1: 0.1, 3: -math.inf, 2: -5.0})(logits, TEXTS)
    expected = logits + torch.tensor([0.0, 0.1, -5.0, -math.inf], dtype=torch.double)
    assert torch.equal(found, expected) and torch.equal(logits, example())
    doubled = distribution(logits, SampleConfig(1.0), processors=[LogitBias({0: math.log(2)})])
    plain = distribution(logits, SampleConfig(1.0))
    assert torch.allclose(doubled[:, 0] / doubled[:, 1], 2 * plain[:, 0] / plain[:, 1], rtol=1e-12)
    assert torch.equal(LogitBias({})(logits, TEXTS), logits)


def test_bad_words_by_hand() -> None:
    words = BadWords([[3], [0, 1], [2, 2, 1], [2, 2, 0], [1, 2, 2, 2]])
    texts = [[], [0], [2, 2], [2], [1, 2, 2], [0, 3], [0, 0]]
    banned = [[3], [1, 3], [0, 1, 3], [3], [0, 1, 2, 3], [3], [1, 3]]
    logits = torch.zeros(len(texts), 5)
    found = words(logits, texts)
    assert [(row == -math.inf).nonzero()[:, 0].tolist() for row in found] == banned
    assert not logits.any()


def test_bad_words_are_those_of_transformers() -> None:
    """4 tokens, so that beginnings of two and three ids are met often. Texts of 1 to 8 ids."""
    words = [[3], [0, 1], [2, 0], [1, 1, 2], [2, 2, 0, 1], [0, 0, 0, 0]]
    theirs, hits = NoBadWordsLogitsProcessor(words, eos_token_id=None), 0
    for length in range(1, 9):
        logits, texts = random_case(150, 4, seed=length, length=length)
        found = BadWords(words)(logits, texts)
        assert torch.equal(found, theirs(torch.tensor(texts), logits))
        hits += int((found[:, :3] == -math.inf).sum())
    assert hits > 300


def test_bias_is_that_of_transformers() -> None:
    logits, texts = random_case(40, 6, seed=4)
    theirs = SequenceBiasLogitsProcessor([[[2], 1.5], [[5], -0.25]])  # sums of powers of two: exact in float32
    assert torch.equal(LogitBias({2: 1.5, 5: -0.25})(logits, texts), theirs(torch.tensor(texts), logits))


def test_bad_words_never_appear_in_a_long_text() -> None:
    words = [[0, 1], [1, 1, 2], [2, 0, 2, 0], [3]]
    sampler = Sampler(SampleConfig(1.0), torch.Generator().manual_seed(6), [BadWords(words)])
    texts: list[list[int]] = [[1, 1], [2, 0, 2]]
    for _ in range(200):
        for text, token in zip(texts, sampler(torch.zeros(2, 4), texts).tolist(), strict=True):
            text.append(token)
    for text in texts:
        for word in words:
            assert all(text[i : i + len(word)] != word for i in range(len(text)))
        assert {0, 1, 2} == set(text)


def test_row_60_a_padded_id_is_never_drawn() -> None:
    """10^6 draws from random models with 13 tokens and 3 padded ids, which without the processor are drawn."""
    generator = torch.Generator().manual_seed(7)
    plain = Sampler(SampleConfig(1.5), generator)
    known = Sampler(SampleConfig(1.5), generator, [Vocabulary(13)])
    for _ in range(20):
        logits = torch.randn(1, 16, generator=generator).expand(50_000, 16)
        ids = known(logits)
        assert int(ids.max()) == 12
        assert int(plain(logits[:1000]).max()) > 12
    favourite = torch.nn.functional.one_hot(torch.tensor([15, 3]), 16) * 50.0
    for processors, expected in (([], [15, 3]), ([Vocabulary(13)], [0, 3])):
        assert Sampler(SampleConfig(0), processors=processors)(favourite).tolist() == expected


def test_vocabulary() -> None:
    logits = example()
    assert (Vocabulary(3)(logits, ()) == -math.inf).nonzero()[:, 1].tolist() == [3, 3, 3]
    assert torch.equal(Vocabulary(4)(logits, ()), logits) and torch.equal(logits, example())


def test_processors_come_after_penalties_and_in_their_order() -> None:
    """Token 0: 4 / 2 + 1 = 3, and in the other order (4 + 1) / 2. The second processor sees what the first has done."""
    seen: list[Any] = []

    def spy(logits: Tensor, texts: Any) -> Tensor:
        seen.append((logits.tolist(), texts))
        return logits

    logits, texts = torch.tensor([[4.0, 1.0]]), [[0, 0]]
    distribution(logits, SampleConfig(0.5, repetition_penalty=2.0), texts, [spy, LogitBias({0: 1.0}), spy])
    assert seen == [([[2.0, 1.0]], texts), ([[3.0, 1.0]], texts)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LogitBias({3: math.nan}), "the bias of token 3 is nan"),
        (lambda: LogitBias({3: math.inf}), "the bias of token 3 is inf"),
        (lambda: LogitBias({4: 1.0})(example(), TEXTS), "logit bias: token 4, the model knows 0..3"),
        (lambda: LogitBias({-1: 1.0})(example(), TEXTS), "logit bias: token -1, the model knows 0..3"),
        (lambda: BadWords([[1], []]), "bad words: one of them is empty"),
        (lambda: BadWords([[1], [7, 2]])(example(), TEXTS), "bad words: token 7, the model knows 0..3"),
        (lambda: BadWords([[1], [2, -2]])(example(), TEXTS), "bad words: token -2"),
        (lambda: BadWords([[1]])(example(), ()), "0 texts for 3 rows of logits"),
        (lambda: Vocabulary(0), "a vocabulary of 0 tokens"),
        (lambda: distribution(example(), SampleConfig(), TEXTS, [BadWords([[i] for i in range(4)])]), "no token can"),
        (
            lambda: distribution(example(), SampleConfig(0), TEXTS, [LogitBias(dict.fromkeys(range(4), -math.inf))]),
            "no",
        ),
        (lambda: distribution(example(), SampleConfig(repetition_penalty=1e-308), TEXTS), "no token can be chosen"),
    ],
)
def test_bad_input_is_one_line(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        make()
    assert "\n" not in str(error.value)

"""Leave-one-out against the long way: count the text again without the events of one place, for every place."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from minilm.classical.config import SMOOTHINGS, NgramConfig
from minilm.classical.leave_one_out import LeaveOneOut
from minilm.classical.ngram import NgramLM

K = 0.3


def histories(ids: list[int], end_of_text: int) -> list[list[int]]:
    """What stands before each place in its document."""
    found, history = [], []
    for token in ids:
        found.append(history)
        history = [token] if token == end_of_text else [*history, token]
    return found


def counted_without(place: int, ids: list[int], config: NgramConfig, end_of_text: int) -> Counter[tuple[int, ...]]:
    """The counts of all n-grams that the model works with, had those that end at `place` not been there."""
    raw: Counter[tuple[int, ...]] = Counter()
    for t, (token, history) in enumerate(zip(ids, histories(ids, end_of_text), strict=True)):
        if t == place or (t == 0 and token == end_of_text):
            continue
        for m in range(min(config.order - 1, len(history)) + 1):
            raw[(*history[len(history) - m :], token)] += 1
    if not config.is_kneser_ney:
        return raw
    before = defaultdict(set)
    for gram in raw:
        before[gram[1:]].add(gram[0])
    real = {g for g in raw if len(g) == config.order or (len(g) > 1 and g[0] == end_of_text)}
    return Counter({gram: raw[gram] if gram in real else len(before[gram]) for gram in raw})


def slow_probabilities(place: int, ids: list[int], model: NgramLM, end_of_text: int) -> np.ndarray:
    """(V,): the recursion over lengths, from those counts and the discounts of the whole text."""
    config, V = model.config, model.config.vocab_size
    counts = counted_without(place, ids, config, end_of_text)
    history = histories(ids, end_of_text)[place]
    p = np.full(V, 1 / V)
    for m in range(min(config.order - 1, len(history)) + 1):
        context = tuple(history[len(history) - m :])
        after = np.array([counts[(*context, token)] for token in range(V)])
        if config.smoothing == "add-k":
            p = (after + K) / (after.sum() + K * V)
        elif after.sum():
            taken = model.discounts[m][np.minimum(after, 3)]
            p = (after - taken + taken.sum() * p) / after.sum()
    return p


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_equals_counting_again_at_every_place(smoothing: str, order: int) -> None:
    """Texts of 1 to 40 tokens over 2 to 6 ids; every third begins without <|endoftext|>, and documents may be empty."""
    for seed in range(15):
        rng = np.random.default_rng((seed, order))
        V, n = int(rng.integers(2, 7)), int(rng.integers(1, 41))
        end_of_text, ids = int(rng.integers(V)), rng.integers(0, V, n)
        if seed % 3:
            ids[0] = end_of_text
        model = NgramLM(NgramConfig(V, order, smoothing, k=K)).fit(ids, end_of_text)
        left_out = LeaveOneOut(model, ids)
        expected = np.stack([slow_probabilities(t, ids.tolist(), model, end_of_text) for t in range(n)])
        places = rng.permutation(n)
        np.testing.assert_allclose(np.exp(left_out.log_probs(places)), expected[places], rtol=0, atol=1e-12)
        of_tokens = np.exp(left_out.token_log_probs())
        np.testing.assert_allclose(of_tokens, expected[np.arange(n), ids], rtol=0, atol=1e-12)


def test_a_context_that_came_once_says_nothing() -> None:
    """4 came once: without that time nothing is known after it, and the token is as likely as after no context at all."""
    ids = np.array([0, 1, 2, 1, 2, 3, 4, 3, 1, 2, 1])
    model = NgramLM(NgramConfig(5, 2, "interpolated-kneser-ney")).fit(ids, 0)
    assert model.discounts[0, 1] == 0.5
    after_4 = LeaveOneOut(model, ids).log_probs(np.array([7]))[0]
    # Different tokens before 1, 2, 3 and 4: 0, 2 and 3; 1; 2 and 4, of which 4 is left out; 3. Five in all.
    kept = np.array([0, 3, 1, 1, 1]) - 0.5 * np.array([0, 1, 1, 1, 1])
    np.testing.assert_allclose(np.exp(after_4), (kept + 4 * 0.5 / 5) / 6, atol=1e-12)


def test_it_is_less_sure_than_the_model_and_other_contexts_stay() -> None:
    """On text that it has counted, the model flatters itself; on a place whose n-gram came often, hardly."""
    rng = np.random.default_rng(3)
    ids = np.append(9, np.cumsum(rng.choice([1, 1, 1, 4, 6], 3000)) % 9)
    model = NgramLM(NgramConfig(10, 4)).fit(ids, 9)
    honest, flattered = LeaveOneOut(model, ids).token_log_probs(), model.token_log_probs(ids)
    new = np.append(9, np.cumsum(rng.choice([1, 1, 1, 4, 6], 3000)) % 9)
    assert flattered[1:].mean() > honest[1:].mean() + 0.02
    assert abs(honest[1:].mean() - model.token_log_probs(new)[1:].mean()) < 0.02
    rows = LeaveOneOut(model, ids).log_probs(np.arange(7, 71))
    np.testing.assert_allclose(np.exp(rows).sum(1), 1, rtol=0, atol=1e-12)


def test_other_ids_than_those_of_the_fit() -> None:
    ids = np.array([3, 0, 1, 2, 0, 1, 3, 1, 0])
    model = NgramLM(NgramConfig(4, 3)).fit(ids, 3)
    for other in (ids[:-1], np.append(ids, 1), np.where(ids == 2, 0, ids)):
        with pytest.raises(ValueError, match="has not counted these"):
            LeaveOneOut(model, other)
    for places in ([4, 9], [-1]):
        with pytest.raises(ValueError, match="places go from 0 to 8"):
            LeaveOneOut(model, ids).log_probs(np.array(places))
    with pytest.raises(ValueError, match="has no counts"):
        LeaveOneOut(NgramLM(NgramConfig(4, 3)), ids)
    with pytest.raises(ValueError, match="tokenizer"):
        LeaveOneOut(model, ids + 1)

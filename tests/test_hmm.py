"""The hidden Markov model of a stream of documents: scores, states, samples, and its way into a checkpoint."""

import numpy as np
import pytest
from hmm_by_enumeration import enumerate_paths, random_rows

from minilm.classical.config import HMMConfig, HMMTraining
from minilm.classical.hmm import FILL, HMM, document_batches

K, V, EOT = 3, 5, 3


def model(seed: int = 0, zeros: float = 0.0) -> HMM:
    rng = np.random.default_rng(seed)
    start, transition = random_rows(rng, (K,), zeros), random_rows(rng, (K, K), zeros)
    return HMM(HMMConfig(V, K), start, transition, random_rows(rng, (K, V), 0.0), EOT)


STREAM = np.array(
    [EOT, 0, 1, 4, 4, EOT, EOT, 2, 0, 0, EOT, 1, 1]
)  # documents of 4, 0, 3 and 2 tokens, the last one cut


def documents_of(stream):
    """(first place, ids with their <|endoftext|>) of each document, by walking along."""
    found, begin = [], 0
    for place, token in enumerate(stream):
        if token == EOT:
            found.append((begin, stream[begin : place + 1]))
            begin = place + 1
    return [*found, (begin, stream[begin:])] if begin < len(stream) else found


def test_each_document_begins_anew():
    hmm = model(1)
    log_probs, states, posteriors = hmm.token_log_probs(STREAM), hmm.states(STREAM), hmm.posteriors(STREAM)
    assert log_probs.shape == states.shape == STREAM.shape and posteriors.shape == (len(STREAM), K)
    for begin, ids in documents_of(STREAM):
        truth = enumerate_paths(hmm.start, hmm.transition, hmm.emission.T[ids])
        place = slice(begin, begin + len(ids))
        np.testing.assert_allclose(log_probs[place], truth.log_probs, rtol=0, atol=1e-12)
        np.testing.assert_allclose(posteriors[place], truth.states, rtol=0, atol=1e-12)
        assert tuple(states[place]) == truth.best


def test_score_of_a_document():
    hmm, ids = model(2), np.array([0, 4, 1])
    whole = enumerate_paths(hmm.start, hmm.transition, hmm.emission.T[[*ids, EOT]])
    cut = enumerate_paths(hmm.start, hmm.transition, hmm.emission.T[ids])
    assert hmm.score(ids) == pytest.approx(np.log(whole.probability), abs=1e-12)
    assert hmm.score(ids, with_end=False) == pytest.approx(np.log(cut.probability), abs=1e-12)
    assert hmm.score([], with_end=False) == 0
    assert hmm.score([]) == pytest.approx(np.log(hmm.start @ hmm.emission[:, EOT]))


def test_documents_add_up_to_one():
    """All documents of up to 3 tokens and all beginnings of 3 share the whole of the probability."""
    hmm, total = model(3), 0.0
    tokens = [token for token in range(V) if token != EOT]
    documents = [()]
    for length in range(4):
        total += sum(np.exp(hmm.score(list(document), with_end=length < 3)) for document in documents)
        documents = [(*document, token) for document in documents for token in tokens]
    assert total == pytest.approx(1, abs=1e-12)


def test_log_probs_are_those_of_the_tokens():
    hmm = model(4)
    rows = hmm.log_probs(STREAM)
    assert rows.shape == (len(STREAM), V)
    np.testing.assert_allclose(np.exp(rows).sum(-1), 1, rtol=0, atol=1e-12)
    chosen = rows[np.arange(len(STREAM) - 1), STREAM[1:]]
    np.testing.assert_allclose(chosen, hmm.token_log_probs(STREAM)[1:], rtol=0, atol=1e-12)
    for n in range(len(STREAM) + 1):
        np.testing.assert_allclose(hmm.log_probs(STREAM, last=n), rows[len(STREAM) - n :], rtol=0, atol=1e-13)
    empty = np.log(hmm.start @ hmm.emission)
    np.testing.assert_allclose(hmm.next_log_probs([]), empty, rtol=0, atol=1e-13)
    np.testing.assert_allclose(hmm.next_log_probs([0, 1, EOT]), empty, rtol=0, atol=1e-13)
    np.testing.assert_allclose(hmm.log_probs(STREAM, last=len(STREAM) + 1)[0], empty, rtol=0, atol=1e-13)


@pytest.mark.parametrize("most", [1, 3, 5, 8, 100])
def test_batches_hold_each_place_once(most):
    rng = np.random.default_rng(most)
    stream = rng.integers(0, V, 60)
    batches = list(document_batches(stream, EOT, most))
    places = np.concatenate([batch[batch != FILL] for batch in batches])
    assert sorted(places.tolist()) == list(range(60))
    for batch in batches:
        assert batch.shape[1] == 1 or batch.size <= most
        for column in batch.T:
            own = column[column != FILL]
            assert (np.diff(own) == 1).all() and (column[len(own) :] == FILL).all()
            assert own[0] == 0 or stream[own[0] - 1] == EOT
            assert (stream[own[:-1]] != EOT).all()


def test_small_batches_give_the_same(monkeypatch):
    hmm, whole = model(5), model(5).token_log_probs(STREAM)
    monkeypatch.setattr("minilm.classical.hmm.MOST_NUMBERS", 1)
    assert len(list(hmm.batches(STREAM))) == len(documents_of(STREAM))
    np.testing.assert_allclose(hmm.token_log_probs(STREAM), whole, rtol=0, atol=1e-13)
    monkeypatch.undo()
    assert len(list(hmm.batches(STREAM))) == 1


def test_following_in_pieces_is_reading_the_whole():
    hmm = model(6, zeros=0.3)
    ids = np.stack([STREAM[:-1], np.roll(STREAM[1:], 4)])
    whole = hmm.follow(ids, hmm.beginning(2))
    first = hmm.follow(ids[:, :5], hmm.beginning(2))
    np.testing.assert_array_equal(np.concatenate([first, hmm.follow(ids[:, 5:], first[:, -1])], axis=1), whole)
    np.testing.assert_allclose(np.exp(whole).sum(-1), 1, rtol=0, atol=1e-12)


def test_following_keeps_a_state_that_was_hopeless():
    """A belief of 1e-500 is a belief: it is kept as a logarithm, and comes back when everything else fails."""
    hmm = HMM(
        HMMConfig(3, 2), [0.5, 0.5], np.eye(2), [[0.8, 0.2 - 1e-10, 1e-10], [1e-10, 0.9, 0.1 - 1e-10]], end_of_text=2
    )
    ids = np.array([[0] * 50 + [1]])
    belief = hmm.follow(ids, hmm.beginning(1))[0]
    assert belief[49, 1] < -1000 and np.isfinite(belief).all()
    stream = np.append(ids, [1] * 900)
    assert hmm.follow(stream[None], hmm.beginning(1))[0, -1, 1] == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(
        hmm.token_log_probs(stream)[1:], hmm.log_probs(stream)[np.arange(950), stream[1:]], rtol=0, atol=1e-9
    )


def test_samples_are_as_often_as_their_probability():
    """Chi-square of 20,000 documents over the short ones, and the states behind their first tokens."""
    hmm, rng, n = model(7), np.random.default_rng(0), 20_000
    seen: dict[tuple[int, ...], int] = {}
    firsts = np.zeros(K)
    for _ in range(n):
        pairs = list(hmm.sample(rng.random((200, 2))))
        tokens = tuple(token for _, token in pairs)
        seen[tokens] = seen.get(tokens, 0) + 1
        if pairs:
            firsts[pairs[0][0]] += 1
    short = [
        (),
        *((a,) for a in range(V) if a != EOT),
        *((a, b) for a in range(V) for b in range(V) if EOT not in (a, b)),
    ]
    expected = np.array([np.exp(hmm.score(list(document))) for document in short]) * n
    found = np.array([seen.get(document, 0) for document in short])
    likely = expected > 20
    assert likely.sum() >= 6
    chi = ((found - expected)[likely] ** 2 / expected[likely]).sum()
    assert chi < likely.sum() + 5 * np.sqrt(2 * likely.sum())
    first = hmm.start * (1 - hmm.emission[:, EOT])
    np.testing.assert_allclose(firsts / n, first, atol=5 * np.sqrt(0.25 / n))
    assert not any(EOT in document for document in seen)


def test_a_sample_is_the_inverse_transform():
    hmm = HMM(
        HMMConfig(3, 2), [0.25, 0.75], [[0.0, 1.0], [1.0, 0.0]], [[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]], end_of_text=2
    )
    assert list(hmm.sample([(0.24, 0.49), (0.9, 0.2), (0.1, 0.5), (0.0, 0.7)])) == [(0, 0), (1, 1), (0, 1)]
    assert list(hmm.sample([(0.25, 0.5)])) == [] and list(hmm.sample([])) == []


def test_arrays_there_and_back():
    hmm = model(8)
    twin = HMM.from_arrays(hmm.config, hmm.arrays())
    for name, array in hmm.arrays().items():
        np.testing.assert_array_equal(twin.arrays()[name], array)
    assert twin.end_of_text == EOT and hmm.n_parameters == K + K * K + K * V
    with pytest.raises(ValueError, match="start"):
        HMM.from_arrays(hmm.config, {name: array for name, array in hmm.arrays().items() if name != "start"})
    with pytest.raises(ValueError, match="shape"):
        HMM.from_arrays(HMMConfig(V + 1, K), hmm.arrays())
    with pytest.raises(ValueError, match="end_of_text"):
        HMM.from_arrays(hmm.config, hmm.arrays() | {"end_of_text": np.zeros(2)})


def test_bad_input_is_one_clear_line():
    config, even = HMMConfig(2, 2), np.full((2, 2), 0.5)
    for start, transition, emission, says in (
        ([0.5, 0.6], even, even, "start: each row"),
        ([1.5, -0.5], even, even, "start: each row"),
        ([0.5, 0.5], even * np.nan, even, "transition: each row"),
        ([0.5, 0.5], even, np.full((2, 3), 1 / 3), r"emission has shape \(2, 3\)"),
    ):
        with pytest.raises(ValueError, match=says):
            HMM(config, start, transition, emission)
    with pytest.raises(ValueError, match="beyond"):
        HMM(config, [0.5, 0.5], even, even, end_of_text=2)
    hmm = model(9)
    for call in (hmm.token_log_probs, hmm.posteriors, hmm.states, hmm.log_probs):
        with pytest.raises(ValueError, match="beyond"):
            call(np.array([0, V]))
    sure = HMM(config, [1.0, 0.0], np.eye(2), np.eye(2), end_of_text=1)
    assert np.isneginf(sure.token_log_probs(np.array([0, 1]))[1])
    with pytest.raises(ValueError, match="from token 2 on is impossible"):
        HMM(HMMConfig(3, 1), [1.0], [[1.0]], [[0.5, 0.5, 0.0]], end_of_text=1).states(np.array([0, 1, 2]))
    for bad in ({"n_states": 0}, {"vocab_size": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            HMMConfig(**bad)
    for bad in ({"iterations": -1}, {"tolerance": -1.0}, {"tolerance": float("nan")}, {"pseudo_count": -0.1}):
        with pytest.raises(ValueError, match="must be"):
            HMMTraining(**bad)

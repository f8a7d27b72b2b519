"""Forward, backward and Viterbi against the sum over all paths, and where numbers become small."""

import numpy as np
import pytest
from hmm_by_enumeration import enumerate_paths, random_rows

from minilm.classical.hmm_chain import backward, forward_beliefs, is_exact, smooth, token_log_probs, viterbi
from minilm.classical.hmm_log import log_forward, log_smooth, log_sum


def random_model(rng, K: int, V: int, zeros: float):
    return random_rows(rng, (K,), zeros), random_rows(rng, (K, K), zeros), random_rows(rng, (K, V), zeros)


def cases(n: int, seed: int):
    """Small models, half of them with zeros, and tokens that they may find impossible."""
    rng = np.random.default_rng(seed)
    for i in range(n):
        K, T, V = rng.integers(1, 5), rng.integers(1, 8), rng.integers(1, 6)
        start, transition, emission = random_model(rng, K, V, zeros=0.3 * (i % 2))
        yield start, transition, emission.T[rng.integers(0, V, T)]


def test_2000_models_equal_the_sum_over_all_paths():
    """Row 99, and mistakes 83 and 84: likelihood, beliefs, posteriors, moves, best path; in both arithmetics."""
    impossible = ties = 0
    for start, transition, likelihoods in cases(2000, seed=1):
        truth = enumerate_paths(start, transition, likelihoods)
        path, nats = viterbi(start, transition, likelihoods)
        if truth.probability == 0:
            impossible += 1
            assert np.isneginf(forward_beliefs(start, transition, likelihoods)[1].sum())
            assert np.isneginf(token_log_probs(start, transition, likelihoods).sum()) and np.isneginf(nats)
            with pytest.raises(ValueError, match="impossible"):
                smooth(start, transition, likelihoods)
            continue
        for beliefs, log_probs in (
            forward_beliefs(start, transition, likelihoods),
            (np.exp(log_forward(start, transition, likelihoods)[0]), log_forward(start, transition, likelihoods)[1]),
        ):
            np.testing.assert_allclose(log_probs, truth.log_probs, rtol=0, atol=1e-12)
            np.testing.assert_allclose(beliefs, truth.beliefs, rtol=0, atol=1e-12)
        for found in (smooth(start, transition, likelihoods), log_smooth(start, transition, likelihoods)):
            states, moves, log_probs = found
            np.testing.assert_allclose(states, truth.states, rtol=0, atol=1e-12)
            np.testing.assert_allclose(moves, truth.moves.sum(0), rtol=0, atol=1e-12)
            assert log_probs.sum() == pytest.approx(np.log(truth.probability), abs=1e-12)
        assert nats == pytest.approx(np.log(truth.best_probability), abs=1e-12)
        if truth.margin > 1 + 1e-9:
            assert tuple(path) == truth.best
        else:
            ties += 1
    assert 50 < impossible < 800 and ties < 200


def test_moves_at_each_place():
    """`known` chooses the places whose moves count: with one place, they are the posteriors of that move."""
    for start, transition, likelihoods in cases(200, seed=2):
        truth = enumerate_paths(start, transition, likelihoods)
        if truth.probability == 0:
            continue
        for t in range(1, len(likelihoods)):
            known = np.arange(len(likelihoods)) == t
            for function in (smooth, log_smooth):
                moves = function(start, transition, likelihoods, known)[1]
                np.testing.assert_allclose(moves, truth.moves[t - 1], rtol=0, atol=1e-12)


def test_backward_is_what_the_future_says():
    """beliefs * backward = p(state | all), and its own definition: p(future | state) / p(future | past)."""
    rng = np.random.default_rng(3)
    start, transition, emission = random_model(rng, 3, 4, 0.0)
    likelihoods = emission.T[rng.integers(0, 4, 6)]
    beliefs, log_probs = forward_beliefs(start, transition, likelihoods)
    ahead = backward(transition, likelihoods, beliefs, log_probs)
    for t in range(5):
        for state in range(3):
            given = enumerate_paths(transition[state], transition, likelihoods[t + 1 :]).probability
            assert ahead[t, state] == pytest.approx(given / np.exp(log_probs[t + 1 :].sum()), rel=1e-12)
    np.testing.assert_array_equal(ahead[5], 1.0)


def test_sequences_side_by_side_are_as_alone():
    """Shorter sequences are filled up with likelihood 1, and any number of axes may stand between time and states."""
    rng = np.random.default_rng(4)
    K, V = 3, 5
    start, transition, emission = random_model(rng, K, V, 0.2)
    emission = random_rows(rng, (K, V), 0.0)
    lengths = np.array([[7, 1, 4], [2, 7, 5]])
    ids = rng.integers(0, V, (7, 2, 3))
    known = np.arange(7)[:, None, None] < lengths
    likelihoods = np.where(known[..., None], emission.T[ids], 1.0)
    beliefs, log_probs = forward_beliefs(start, transition, likelihoods)
    for function in (smooth, log_smooth):
        states, moves, _ = function(start, transition, likelihoods, known)
        alone_moves = np.zeros((K, K))
        paths, nats = viterbi(start, transition, likelihoods, lengths)
        for i in range(2):
            for j in range(3):
                n = lengths[i, j]
                own = likelihoods[:n, i, j]
                alone = function(start, transition, own)
                np.testing.assert_allclose(states[:n, i, j], alone[0], rtol=0, atol=1e-13)
                np.testing.assert_allclose(
                    beliefs[:n, i, j], forward_beliefs(start, transition, own)[0], rtol=0, atol=1e-14
                )
                np.testing.assert_allclose(log_probs[:n, i, j], alone[2], rtol=0, atol=1e-13)
                np.testing.assert_allclose(log_probs[n:, i, j], 0.0, rtol=0, atol=1e-14)
                path, own_nats = viterbi(start, transition, own)
                assert paths[:n, i, j].tolist() == path.tolist() and nats[i, j] == own_nats
                assert (paths[n:, i, j] == path[-1]).all()
                alone_moves += alone[1]
        np.testing.assert_allclose(moves, alone_moves, rtol=0, atol=1e-12)


def test_of_equal_paths_the_lowest_from_the_end():
    """All paths alike: zeros. And a tie that is decided at the last place where the paths differ."""
    same = np.full((5, 3), 0.5)
    assert viterbi(np.full(3, 1 / 3), np.full((3, 3), 1 / 3), same)[0].tolist() == [0] * 5
    swap = np.array([[0.0, 1.0], [1.0, 0.0]])  # two paths, 01010 and 10101: the one that ends in 0
    assert viterbi(np.array([0.5, 0.5]), swap, np.full((5, 2), 0.5))[0].tolist() == [0, 1, 0, 1, 0]
    assert viterbi(np.array([0.5, 0.5]), swap, np.full((4, 2), 0.5))[0].tolist() == [1, 0, 1, 0]


def test_a_path_may_differ_from_the_likeliest_states():
    """The likeliest state at each place may make an impossible path; Viterbi's never is."""
    start, likelihoods = np.array([0.4, 0.3, 0.3]), np.ones((2, 3))
    transition = np.array([[0.0, 0.5, 0.5], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    states = smooth(start, transition, likelihoods).states.argmax(-1).tolist()
    assert states == [0, 0] and transition[0, 0] == 0
    assert viterbi(start, transition, likelihoods)[0].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("zeros", "steps"), [(0.0, 100_000), (0.3, 10_000)], ids=["plain", "with zeros, in logarithms"]
)
def test_100000_steps_are_finite(zeros, steps):
    """Row 99: no logarithm of 0, no NaN; the same number of nats in both arithmetics."""
    rng = np.random.default_rng(5)
    start, transition, _ = random_model(rng, 3, 7, zeros)
    emission = random_rows(rng, (3, 7), 0.0)
    likelihoods = emission.T[rng.integers(0, 7, steps)]
    assert is_exact(start, transition, likelihoods, forward_beliefs(start, transition, likelihoods)[0]) == (zeros == 0)
    found = smooth(start, transition, likelihoods)
    assert np.isfinite(found.log_probs).all() and np.isfinite(found.states).all()
    assert found.moves.sum() == pytest.approx(steps - 1, abs=1e-6)
    np.testing.assert_allclose(found.states.sum(-1), 1.0, rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        found.log_probs[:2000], log_forward(start, transition, likelihoods[:2000])[1], atol=1e-11
    )
    path, nats = viterbi(start, transition, likelihoods)
    assert np.isfinite(nats) and nats < found.log_probs.sum()
    moves = np.log(start[path[0]]) + np.log(transition[path[:-1], path[1:]]).sum()
    assert nats == pytest.approx(moves + np.log(likelihoods[np.arange(steps), path]).sum(), rel=1e-12)


def hopeless_at_first(n: int):
    """Two states that never change. The first n tokens are 1e10 times likelier in state 0, the next 2 n in state 1."""
    start, transition = np.array([0.5, 0.5]), np.eye(2)
    return start, transition, np.array([[0.5, 0.5e-10]] * n + [[0.5e-10, 0.5]] * (2 * n))


def test_a_state_that_was_hopeless_may_be_the_right_one():
    """Row 99: scaling alone loses a state once it is 1e300 times less likely; what is exact is found out, and the rest done
    in logarithms."""
    start, transition, likelihoods = hopeless_at_first(50)
    beliefs, scaled = forward_beliefs(start, transition, likelihoods)
    assert not is_exact(start, transition, likelihoods, beliefs)
    assert scaled.sum() < -2000  # wrong: by then state 1 was lost
    right = np.log(0.5) + 150 * np.log(0.5) + 50 * np.log(1e-10)
    assert token_log_probs(start, transition, likelihoods).sum() == pytest.approx(right, rel=1e-13)
    found = smooth(start, transition, likelihoods)
    np.testing.assert_array_equal(found.states, np.tile([0.0, 1.0], (150, 1)))
    np.testing.assert_allclose(found.moves, [[0, 0], [0, 149]], rtol=1e-12)
    assert viterbi(start, transition, likelihoods)[0].tolist() == [1] * 150


def test_where_nothing_is_lost_scaling_is_exact():
    start, transition, likelihoods = hopeless_at_first(10)
    beliefs, scaled = forward_beliefs(start, transition, likelihoods)
    assert is_exact(start, transition, likelihoods, beliefs)
    assert scaled.sum() == pytest.approx(log_forward(start, transition, likelihoods)[1].sum(), rel=1e-13)


def test_digits_are_not_lost_before_the_number_is():
    """Below 1e-308 a float keeps fewer and fewer digits: 1e-320 is known to one part in 2,000, and is not 0."""
    start, transition = np.array([0.5, 0.5]), np.eye(2)
    for n in range(140, 166):  # state 1 falls to 1e-280 ... 1e-330, and turns out to be right
        likelihoods = np.array([[0.5, 0.5e-2]] * n + [[0.5e-2, 0.5]] * (2 * n))
        right = (3 * n + 1) * np.log(0.5) + n * np.log(1e-2)
        assert token_log_probs(start, transition, likelihoods).sum() == pytest.approx(right, abs=1e-9), n


def test_a_state_that_cannot_be_does_not_weigh():
    """Row 99: behind a state that is impossible the future may weigh 1e10 at each step; inf times 0 would be NaN."""
    start, transition = np.array([1.0, 0.0]), np.eye(2)
    likelihoods = np.array([[0.5e-10, 0.5]] * 60)
    for function in (smooth, log_smooth):
        states, moves, log_probs = function(start, transition, likelihoods)
        np.testing.assert_array_equal(states, np.tile([1.0, 0.0], (60, 1)))
        np.testing.assert_allclose(moves, [[59, 0], [0, 0]], rtol=1e-12)
        assert log_probs.sum() == pytest.approx(60 * np.log(0.5e-10), rel=1e-13)


def test_an_impossible_token_costs_infinity_and_nothing_else():
    start, transition = np.array([0.5, 0.5]), np.array([[0.75, 0.25], [0.25, 0.75]])
    likelihoods = np.array([[0.5, 0.25], [0.0, 0.0], [0.5, 0.25]])
    for log_probs in (
        forward_beliefs(start, transition, likelihoods)[1],
        log_forward(start, transition, likelihoods)[1],
    ):
        assert np.isneginf(log_probs[1]) and np.isfinite(log_probs[[0, 2]]).all()


def test_log_sum():
    rows = np.log([[1e-320, 2e-320], [0.5, 0.5]]) - 1000
    np.testing.assert_allclose(log_sum(rows), [np.log(3e-320) - 1000, -1000.0], rtol=1e-3)
    with np.errstate(divide="ignore"):
        assert np.isneginf(log_sum(np.log(np.zeros(3))))
    np.testing.assert_allclose(log_sum(np.array([[0.0, 1.0], [2.0, 3.0]]), 0), np.log([1 + np.e**2, np.e + np.e**3]))


@pytest.mark.parametrize("seed", range(3))
def test_unnormalised_weights_add_up_as_well(seed):
    """The slope of log p along each probability, the others fixed, is its expected count / itself: by finite differences."""
    rng = np.random.default_rng(seed)
    start, transition, emission = random_model(rng, 3, 4, 0.0)
    ids = rng.integers(0, 4, 9)
    found = smooth(start, transition, emission.T[ids])
    tokens = np.array([np.bincount(ids, column, 4) for column in found.states.T])
    counts = {"start": found.states[0], "transition": found.moves, "emission": tokens}
    for name, expected in counts.items():
        for place in np.ndindex(expected.shape):
            nats = []
            for step in (1e-6, -1e-6):
                arrays = {"start": start.copy(), "transition": transition.copy(), "emission": emission.copy()}
                arrays[name][place] *= np.exp(step)
                likelihoods = arrays["emission"].T[ids]
                nats.append(forward_beliefs(arrays["start"], arrays["transition"], likelihoods)[1].sum())
            slope = (nats[0] - nats[1]) / 2e-6
            assert slope == pytest.approx(expected[place], abs=1e-8)

"""Baum-Welch: expected counts against all paths, no round lowers the likelihood, and what is learned is what was hidden."""

import re

import numpy as np
import pytest
from hmm_by_enumeration import enumerate_paths, random_rows

from minilm.classical.config import HMMConfig, HMMTraining
from minilm.classical.hmm import HMM
from minilm.classical.hmm_train import (
    baum_welch,
    expected_counts,
    learn_hmm,
    maximise,
    objective,
    random_hmm,
    supervised_counts,
)
from minilm.text.stories import stories

EOT = 3


def random_model(rng, K: int, V: int, zeros: float = 0.0) -> HMM:
    start, transition = random_rows(rng, (K,), zeros), random_rows(rng, (K, K), zeros)
    return HMM(HMMConfig(V, K), start, transition, random_rows(rng, (K, V), 0.0), EOT)


def pieces(stream):
    """The documents of a stream that does not begin with <|endoftext|>, each with its own at the end."""
    ends = (np.flatnonzero(stream == EOT) + 1).tolist()
    return [part for part in np.split(stream, ends) if len(part)]


def test_expected_counts_add_up_over_all_paths():
    """300 models and streams: first states, moves and tokens, document by document."""
    rng = np.random.default_rng(1)
    for _ in range(300):
        K, V = int(rng.integers(1, 5)), int(rng.integers(4, 7))
        model = random_model(rng, K, V, 0.2)
        stream = rng.integers(0, V, 13)
        stream[[4, 9]] = EOT
        counts = expected_counts(model, stream)
        start, moves, tokens, nats = np.zeros(K), np.zeros((K, K)), np.zeros((K, V)), 0.0
        for ids in pieces(stream):
            truth = enumerate_paths(model.start, model.transition, model.emission.T[ids])
            start, moves = start + truth.states[0], moves + truth.moves.sum(0)
            tokens += np.array([np.bincount(ids, column, V) for column in truth.states.T])
            nats += np.log(truth.probability)
        np.testing.assert_allclose(counts.start, start, rtol=0, atol=1e-12)
        np.testing.assert_allclose(counts.transition, moves, rtol=0, atol=1e-12)
        np.testing.assert_allclose(counts.emission, tokens, rtol=0, atol=1e-12)
        assert counts.log_prob == pytest.approx(nats, abs=1e-11)


@pytest.mark.parametrize("pseudo_count", [0.0, 0.5])
@pytest.mark.parametrize("seed", range(6))
def test_no_round_lowers_the_objective(seed, pseudo_count):
    """Row 99: EM is monotone, to 1e-9, from guesses of every kind, with zeros in them."""
    rng = np.random.default_rng(seed)
    K, V = int(rng.integers(2, 5)), int(rng.integers(4, 8))
    stream = rng.integers(0, V, 300)
    model = random_model(rng, K, V, 0.3 if seed % 2 and not pseudo_count else 0.0)
    _, rounds = baum_welch(model, stream, HMMTraining(60, 0.0, pseudo_count))
    values = np.array([one.objective for one in rounds])
    assert np.isfinite(values).all() and len(values) > 20
    assert (np.diff(values) >= -1e-9).all()
    assert values[-1] > values[0] + 1


def test_a_round_is_the_shares_of_the_expected_counts():
    rng = np.random.default_rng(2)
    model, stream = random_model(rng, 3, 5), rng.integers(0, 5, 50)
    counts = expected_counts(model, stream)
    for k in (0.0, 0.7):
        better = maximise(counts, model, k)
        for name in ("start", "transition", "emission"):
            array = getattr(counts, name) + k
            np.testing.assert_allclose(getattr(better, name), array / array.sum(-1, keepdims=True), rtol=1e-14)
        assert better.end_of_text == EOT
    _, rounds = baum_welch(model, stream, HMMTraining(1, 0.0, 0.0))
    assert rounds[1].log_prob == pytest.approx(expected_counts(maximise(counts, model, 0.0), stream).log_prob)


def test_the_objective_counts_the_imagined():
    """With a pseudo_count the objective is the text's log-probability and k times each logarithm: the imagined counts."""
    rng = np.random.default_rng(4)
    model = random_model(rng, 2, 4)
    logs = sum(np.log(row).sum() for row in (model.start, model.transition, model.emission))
    assert objective(model, -10.0, 0.25) == pytest.approx(-10 + 0.25 * logs)
    assert objective(model, -10.0, 0.0) == -10


def test_a_state_never_in_use_stays_as_it_is():
    """Row 99: no row of zeros, no NaN, where nothing was counted."""
    start, transition = [1.0, 0.0], np.eye(2)
    emission = np.array([[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])
    model = HMM(HMMConfig(4, 2), start, transition, emission, EOT)
    better, rounds = baum_welch(model, np.array([0, 0, 1, EOT, 0, 2, EOT]), HMMTraining(5, 0.0, 0.0))
    np.testing.assert_array_equal(better.emission[1], emission[1])
    np.testing.assert_array_equal(better.transition, np.eye(2))
    np.testing.assert_allclose(better.emission[0], [3 / 7, 1 / 7, 1 / 7, 2 / 7])
    assert np.isfinite([one.log_prob for one in rounds]).all()


def test_what_was_hidden_is_found():
    """8,000 tokens of a model with distinct states: from a guess that is half right, likelier than the truth, and near it."""
    rng = np.random.default_rng(5)
    transition = np.array([[0.85, 0.1, 0.05], [0.05, 0.7, 0.25], [0.3, 0.1, 0.6]])
    emission = np.array([[0.7, 0.2, 0.06, 0.01, 0.03], [0.05, 0.1, 0.8, 0.01, 0.04], [0.05, 0.1, 0.04, 0.01, 0.8]])
    true = HMM(HMMConfig(5, 3), [0.2, 0.5, 0.3], transition, emission, EOT)
    stream = [EOT]
    while len(stream) < 8_000:
        stream += [token for _, token in true.sample(rng.random((2000, 2)))] + [EOT]
    ids = np.array(stream)
    guess = random_hmm(true.config, np.random.default_rng(0), end_of_text=EOT)
    pairs = ((guess.start, true.start), (guess.transition, transition), (guess.emission, emission))
    halfway = HMM(true.config, *((one + other) / 2 for one, other in pairs), end_of_text=EOT)
    best, _ = baum_welch(halfway, ids, HMMTraining(100, 1e-6, 0.0))
    assert expected_counts(best, ids[1:]).log_prob >= expected_counts(true, ids[1:]).log_prob
    np.testing.assert_allclose(best.transition, transition, atol=0.1)


def test_rounds_end_early_and_say_so():
    rng = np.random.default_rng(6)
    model, stream = random_model(rng, 2, 5), rng.integers(0, 5, 200)
    better, rounds = baum_welch(model, stream, HMMTraining(500, 1e-3, 0.0))
    gains = np.diff([one.objective for one in rounds]) / rounds[0].tokens
    assert len(rounds) < 500 and gains[-1] < 1e-3 and (gains[:-1] >= 1e-3).all()
    assert [one.number for one in rounds] == list(range(len(rounds)))
    assert expected_counts(better, stream).log_prob == pytest.approx(rounds[-1].log_prob, rel=1e-14)
    assert rounds[-1].nats_per_token == pytest.approx(-rounds[-1].log_prob / 200)
    assert baum_welch(model, stream, HMMTraining(0, 0.0, 0.0))[0] is model
    assert len(baum_welch(model, stream, HMMTraining(7, 0.0, 0.0))[1]) == 8
    seen = []

    def on_round(one):
        seen.append(one)
        return len(seen) == 4

    assert baum_welch(model, stream, HMMTraining(50, 0.0, 0.0), on_round)[1] == seen and len(seen) == 4


def test_the_opening_is_given_and_not_learned():
    rng = np.random.default_rng(7)
    model, stream = random_model(rng, 2, 5), rng.integers(0, 3, 30)
    stream[10] = EOT
    one, rounds = baum_welch(model, stream, HMMTraining(3, 0.0, 0.0))
    other, same = baum_welch(model, np.append(EOT, stream), HMMTraining(3, 0.0, 0.0))
    assert rounds == same and rounds[0].tokens == 30
    np.testing.assert_array_equal(one.emission, other.emission)
    with pytest.raises(ValueError, match="nothing to learn from"):
        baum_welch(model, np.array([EOT]), HMMTraining())


def test_an_impossible_text_is_one_clear_line():
    even = np.full((2, 2), 0.5)
    model = HMM(HMMConfig(4, 2), [0.5, 0.5], even, [[0.5, 0, 0, 0.5], [0.5, 0, 0, 0.5]], EOT)
    with pytest.raises(ValueError, match=r"impossible.*pseudo_count"):
        baum_welch(model, np.array([0, 1, 0]), HMMTraining(3, 0.0, 0.0))


def test_a_guess_depends_on_its_generator():
    config, often = HMMConfig(6, 4), np.array([5.0, 1, 0, 2, 4, 3])
    one, same, other = (random_hmm(config, np.random.default_rng(seed), often, EOT) for seed in (1, 1, 2))
    for name in ("start", "transition", "emission"):
        np.testing.assert_array_equal(getattr(one, name), getattr(same, name))
        assert (getattr(one, name) != getattr(other, name)).any()
    assert len({tuple(row) for row in one.emission}) == 4  # no two states alike: they would stay so
    assert (one.emission[:, 2] == 0).all()
    many = random_hmm(HMMConfig(6, 400), np.random.default_rng(3), often, EOT).emission
    np.testing.assert_allclose(many.mean(0), often / often.sum(), atol=0.05)
    assert one.end_of_text == EOT


def test_supervised_counts():
    start, transition, emission = supervised_counts(
        [([0, 1, 1, 2], [4, 2, 2, 0]), ([], []), ([2], [4]), ([0, 1], [2, 2])], 3, 5
    )
    assert start.tolist() == [2, 0, 1]
    assert transition.tolist() == [[0, 2, 0], [0, 1, 1], [0, 0, 0]]
    assert emission.tolist() == [[0, 0, 1, 0, 1], [0, 0, 3, 0, 0], [1, 0, 0, 0, 1]]
    with pytest.raises(ValueError, match="2 states for 1 tokens"):
        supervised_counts([([0, 1], [0])], 2, 2)
    with pytest.raises(ValueError, match="beyond"):
        supervised_counts([([2], [0])], 2, 2)


def test_counting_is_baum_welch_with_known_states():
    """Where each token belongs to one state only, the expected counts are those that were seen."""
    emission = [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]
    model = HMM(HMMConfig(4, 2), [0.5, 0.5], [[0.5, 0.5], [0.5, 0.5]], emission, EOT)
    stream = np.array([0, 2, 1, 1, EOT, 2, 0, EOT])
    seen = supervised_counts([(np.isin(ids, [2, 3]).astype(int), ids) for ids in pieces(stream)], 2, 4)
    for expected, found in zip(expected_counts(model, stream)[:3], seen, strict=True):
        np.testing.assert_allclose(expected, found, rtol=0, atol=1e-14)


def test_two_states_find_the_vowels():
    """Each different word of the stories once, blanks between: one state makes the vowels and the blank, the other the rest."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    told = " ".join(stories(200, seed=0)).lower()
    words = sorted({word for word in re.sub(f"[^{letters}]", " ", told).split() if len(word) > 2})
    np.random.default_rng(0).shuffle(words)
    place = {character: i for i, character in enumerate(f"{letters} ")}
    end = len(place)
    documents = (" ".join(words[i : i + 30]) for i in range(0, len(words), 30))
    ids = np.array([i for document in documents for i in (end, *(place[character] for character in document))])
    config, training = HMMConfig(end + 1, 2), HMMTraining(100, 1e-6, 0.01)
    found = [learn_hmm(config, ids, end, training, np.random.default_rng(seed)) for seed in range(4)]
    best, _ = max(found, key=lambda pair: pair[1][-1].objective)
    states = best.posteriors(ids)
    share = np.array([states[ids == place[letter]].mean(0) for letter in letters])  # (26, 2)
    vowel = int(share[place["a"]].argmax())
    assert "".join(letter for letter, row in zip(letters, share, strict=True) if row[vowel] > 0.5) == "aeiou"
    assert states[ids == place[" "]].mean(0)[vowel] > 0.9

"""The n-gram model against a slow one of dictionaries and loops, NLTK where NLTK is right, and counts made by hand."""

from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest
from nltk import lm

from minilm.classical.config import SMOOTHINGS, NgramConfig
from minilm.classical.discounts import FALLBACK
from minilm.classical.ngram import NgramLM, history_lengths

V, EOT = 11, 4  # token ids 0 and 10 are never used; <|endoftext|> is neither the first nor the last id


def some_text(seed: int, n_documents: int = 13) -> np.ndarray:
    """Documents of 1 to 60 tokens and an empty one. A token depends on the one before it, so n-grams come again."""
    rng = np.random.default_rng(seed)
    ids: list[int] = []
    for document in range(n_documents):
        ids.append(EOT)
        token = 5
        for _ in range(0 if document == 1 else rng.integers(1, 61)):
            choices = [t for t in range(1, V - 1) if t != EOT]
            token = choices[(token * 3 + int(rng.geometric(0.5))) % len(choices)]
            ids.append(token)
    return np.array(ids)


class SlowNgram:
    """The definitions, written over tuples of tokens: no arrays, no sorting, one probability at a time."""

    def __init__(self, ids: np.ndarray, config: NgramConfig) -> None:
        self.config = config
        raw: Counter[tuple[int, ...]] = Counter()
        history: list[int] = []
        for token in ids.tolist():
            for n in range(1, config.order + 1):
                if n - 1 <= len(history) and not (token == EOT and not history):
                    raw[(*history[len(history) - n + 1 :], token)] += 1
            history = [token] if token == EOT else [*history, token]
        self.counts = dict(raw)
        if config.smoothing.endswith("kneser-ney"):
            before = defaultdict(set)
            for gram in raw:
                before[gram[1:]].add(gram[0])
            for gram in raw:
                if len(gram) < config.order and (len(gram) == 1 or gram[0] != EOT):
                    self.counts[gram] = len(before[gram])
        self.after = defaultdict(list)
        for gram, count in self.counts.items():
            if count > 0:
                self.after[gram[:-1]].append(count)

    def discount(self, order: int, count: int) -> float:
        if count == 0:
            return 0.0
        n = [sum(c == j for gram, c in self.counts.items() if len(gram) == order) for j in range(5)]
        modified = self.config.smoothing == "kneser-ney"
        if 0 in (n[1:5] if modified else n[1:3]):
            return FALLBACK[min(count, 3) - 1] if modified else 0.5
        y = n[1] / (n[1] + 2 * n[2])
        all_three = [j - (j + 1) * y * n[j + 1] / n[j] for j in (1, 2, 3)] if modified else [y, y, y]
        return (all_three if min(all_three) > 0 else FALLBACK)[min(count, 3) - 1]

    def p(self, token: int, context: tuple[int, ...]) -> float:
        if EOT in context[1:]:
            return self.p(token, context[1:])
        if len(context) > self.config.order - 1:
            return self.p(token, context[1:])
        count, after = self.counts.get((*context, token), 0), self.after[context]
        if self.config.smoothing == "add-k":
            return (count + self.config.k) / (sum(after) + V * self.config.k)
        shorter = self.p(token, context[1:]) if context else 1 / V
        if not after:
            return shorter
        if self.config.smoothing == "maximum-likelihood":
            return count / sum(after)
        order = len(context) + 1
        given_up = sum(self.discount(order, c) for c in after)
        return (count - self.discount(order, count) + given_up * shorter) / sum(after)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_equals_the_slow_model(smoothing: str, order: int) -> None:
    config = NgramConfig(V, order, smoothing, k=0.37)
    train, other = some_text(1), some_text(2, 3)
    assert (np.diff(np.flatnonzero(train == EOT)) == 1).sum() == 1 and (train == EOT).sum() > 5
    other[[7, 20]] = [0, V - 1]  # two tokens that training never saw
    fast, slow = NgramLM(config).fit(train, EOT), SlowNgram(train, config)
    expected = [slow.p(int(token), tuple(other[:t].tolist())) for t, token in enumerate(other)]
    assert np.std(expected) > 0.04
    np.testing.assert_allclose(np.exp(fast.token_log_probs(other)), expected, rtol=0, atol=1e-12)
    for t in range(0, len(other), 7):
        row = [slow.p(token, tuple(other[:t].tolist())) for token in range(V)]
        np.testing.assert_allclose(np.exp(fast.next_log_probs(other[:t])), row, rtol=0, atol=1e-12)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_every_row_sums_to_one(smoothing: str, order: int) -> None:
    train = some_text(3)
    model = NgramLM(NgramConfig(V, order, smoothing)).fit(train, EOT)
    seen = np.exp(model.log_probs(train))
    np.testing.assert_allclose(seen.sum(1), 1, rtol=0, atol=1e-12)
    rng, grams = np.random.default_rng(4), {tuple(train[t : t + order - 1]) for t in range(len(train))}
    unseen = [context for context in rng.integers(0, V, (3000, order - 1)) if tuple(context) not in grams]
    if order >= 3:
        assert len(unseen) >= 1000
    rows = np.array([model.next_log_probs(context) for context in unseen[:1000]]).reshape(-1, V)
    np.testing.assert_allclose(np.exp(rows).sum(1), 1, rtol=0, atol=1e-12)
    if smoothing == "maximum-likelihood":
        assert np.isneginf(model.next_log_probs(train[:9])[0])
    else:
        assert seen.min() > 0 and np.isfinite(rows).all()


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("order", [2, 3, 4, 5])
def test_a_thousand_unseen_contexts_sum_to_one(smoothing: str, order: int) -> None:
    """In a vocabulary of which the text uses 200 tokens: contexts of unused tokens, and unseen ones of used tokens."""
    rng, vocab_size, end = np.random.default_rng(15), 1303, 1301
    train = np.append(end, rng.integers(0, 200, 700))
    train[100::37] = end
    model = NgramLM(NgramConfig(vocab_size, order, smoothing)).fit(train, end)
    grams = {tuple(train[t : t + order - 1]) for t in range(len(train))}
    contexts = np.vstack([rng.integers(0, 1300, (900, order - 1)), rng.integers(200, 1300, (300, order - 1))])
    unseen = [context for context in contexts if tuple(context) not in grams][:1000]
    assert len(unseen) == 1000
    sums = np.array([np.exp(model.next_log_probs(context)).sum() for context in unseen])
    np.testing.assert_allclose(sums, 1, rtol=0, atol=1e-12)


def test_kneser_ney_equals_nltk() -> None:
    """NLTK 3.10 leaves its unigrams without a discount, knows no documents, and weighs a context that opens the stream
    wrongly (n-grams that nothing precedes count among those that give up a discount, but not in the total). So: a
    stream whose opening comes again, no documents, and discounts of 0 for order 1. Order 1 alone divides by zero."""
    ids = some_text(5)
    ids = ids[ids != EOT]
    stream = np.append(ids, ids[:8])
    words = [str(token) for token in stream]
    rng = np.random.default_rng(6)
    for order in (2, 3, 4):
        D = 0.37
        theirs = lm.KneserNeyInterpolated(order, discount=D)
        grams = [tuple(words[t : t + n]) for n in range(1, order + 1) for t in range(len(words) - n + 1)]
        theirs.fit([grams], vocabulary_text=words)
        discounts = ((0.0,) * 3, *((D, D, D),) * (order - 1))
        ours = NgramLM(NgramConfig(V, order, "interpolated-kneser-ney", discounts=discounts)).fit(stream, EOT)
        contexts = [stream[t - order + 1 : t] for t in range(order, len(stream), 3)]
        for context in [*contexts, *rng.choice(ids, (50, order - 1))]:
            row = np.exp(ours.next_log_probs(context))
            expected = [theirs.score(str(token), [str(c) for c in context]) for token in range(V)]
            np.testing.assert_allclose(row, expected, rtol=0, atol=1e-12)


def test_maximum_likelihood_and_add_k_equal_nltk() -> None:
    """NLTK's maximum likelihood gives 0 to every token after an unseen context; ours asks the shorter context there."""
    stream = some_text(7)
    stream = stream[stream != EOT]
    words = [str(token) for token in stream]
    for order in (1, 2, 3, 4):
        grams = [tuple(words[t : t + n]) for n in range(1, order + 1) for t in range(len(words) - n + 1)]
        vocabulary = lm.Vocabulary([str(token) for token in range(V - 1)])
        assert len(vocabulary) == V  # with NLTK's own unknown word in the place of our id 10
        for smoothing, theirs in (
            ("maximum-likelihood", lm.MLE(order, vocabulary)),
            ("add-k", lm.Lidstone(0.37, order, vocabulary)),
        ):
            theirs.fit([grams])
            ours = NgramLM(NgramConfig(V, order, smoothing, k=0.37)).fit(stream, EOT)
            contexts = [stream[t - order + 1 : t] for t in range(order, len(stream), 5)]
            if smoothing == "add-k":
                contexts += list(np.random.default_rng(8).choice(9, (40, order - 1)))
            for context in contexts:
                row = np.exp(ours.next_log_probs(context))
                expected = [theirs.score(str(token), [str(c) for c in context] or None) for token in range(V)]
                np.testing.assert_allclose(row, expected, rtol=0, atol=1e-12)


def test_san_francisco() -> None:
    """A word that is frequent after one word only is unlikely after all others: 30 x "san francisco", 8 x "glasses"."""
    san, francisco, glasses, unknown, end = 0, 1, 2, 3, 12
    text = [end, *[san, francisco] * 30]
    for word in range(4, 12):
        text += [word, glasses]
    for smoothing in ("kneser-ney", "interpolated-kneser-ney"):
        model = NgramLM(NgramConfig(13, 2, smoothing)).fit(np.array(text), end)
        after_unknown = model.next_log_probs(np.array([unknown]))
        assert after_unknown[glasses] > after_unknown[francisco] + 1
        assert np.exp(model.next_log_probs(np.array([san]))[francisco]) > 0.9
    counted = NgramLM(NgramConfig(13, 2, "maximum-likelihood")).fit(np.array(text), end)
    after_unknown = counted.next_log_probs(np.array([unknown]))  # by frequency it would be the other way round
    assert after_unknown[francisco] > after_unknown[glasses] + 1


def test_context_does_not_cross_documents() -> None:
    model = NgramLM(NgramConfig(V, 4)).fit(some_text(9), EOT)
    here = model.next_log_probs(np.array([EOT, 2]))
    np.testing.assert_array_equal(model.next_log_probs(np.array([7, 3, EOT, 2])), here)
    assert not np.allclose(model.next_log_probs(np.array([7, 3, 2])), here)
    np.testing.assert_array_equal(history_lengths(np.array([1, 2, EOT, EOT, 3]), EOT), [0, 1, 2, 1, 1, 2])


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("text", [[EOT], [7], [EOT, EOT], [EOT, EOT, EOT], [7, 7], [EOT, 7], [7, EOT, 2]])
def test_smallest_texts(smoothing: str, text: list[int]) -> None:
    model = NgramLM(NgramConfig(V, 3, smoothing)).fit(np.array(text), EOT)
    counted = any(token != EOT or t > 0 for t, token in enumerate(text))
    rows = np.exp([model.next_log_probs(np.array(context, dtype=int)) for context in ([], [7], [EOT], [2, 7, EOT, 2])])
    np.testing.assert_allclose(rows.sum(1), 1, rtol=0, atol=1e-12)
    if not counted:
        np.testing.assert_allclose(rows, 1 / V, rtol=1e-12)
    assert model.token_log_probs(np.array([*text, 2])).shape == (len(text) + 1,)


def test_documents_of_one_token() -> None:
    """Six documents: 1 1 1 2 2 5. The ends of the first five stand in the stream; that of the last only with one more
    <|endoftext|>. What opens the stream is never predicted. By hand, with maximum likelihood."""
    stream = np.array([token for document in (1, 1, 1, 2, 2, 5) for token in (EOT, document)])
    config = NgramConfig(V, 3, "maximum-likelihood")
    for ids, ends, all_tokens in ((stream, 5, 11), (np.append(stream, EOT), 6, 12)):
        model = NgramLM(config).fit(ids, EOT)
        assert np.exp(model.next_log_probs(np.array([EOT])))[[1, 2, 5, EOT]] == pytest.approx([3 / 6, 2 / 6, 1 / 6, 0])
        assert np.exp(model.next_log_probs(np.array([EOT, 1])))[EOT] == pytest.approx(1)
        alone = np.exp(model.next_log_probs(np.array([], dtype=int)))
        assert alone[[1, 2, 5, EOT]] == pytest.approx(np.array([3, 2, 1, ends]) / all_tokens)
        assert model.score([1]) == pytest.approx(np.log(3 / 6)) == model.score([1], with_end=False)
    for smoothing in SMOOTHINGS:
        model = NgramLM(NgramConfig(V, 3, smoothing)).fit(np.append(stream, EOT), EOT)
        rng = np.random.default_rng(16)
        lengths = [len(list(model.generate([EOT], rng.random(50)))) for _ in range(200)]
        assert np.mean(np.array(lengths) < 50) > 0.95, smoothing  # it knows how to stop
        assert np.isfinite(model.score([1])) and np.isfinite(model.score([2], with_end=False))


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_score_is_the_sum_over_a_document(smoothing: str) -> None:
    train = some_text(17)
    model, slow = NgramLM(NgramConfig(V, 3, smoothing)).fit(train, EOT), SlowNgram(train, NgramConfig(V, 3, smoothing))
    begins = np.flatnonzero(train == EOT)
    for document in (train[begins[0] + 1 : begins[1]], train[begins[4] + 1 : begins[5]], train[:0]):
        whole = [EOT, *document.tolist(), EOT]
        p = [slow.p(whole[t], tuple(whole[:t])) for t in range(1, len(whole))]
        assert model.score(document) == pytest.approx(np.log(p).sum(), abs=1e-10)
        assert model.score(document.tolist(), with_end=False) == pytest.approx(np.log(p[:-1]).sum(), abs=1e-10)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("order", [1, 2, 4])
def test_generate_draws_by_inverse_transform(smoothing: str, order: int) -> None:
    """By hand: walk up the probabilities until they have passed u."""
    model = NgramLM(NgramConfig(V, order, smoothing)).fit(some_text(18), EOT)
    rng = np.random.default_rng(19)
    for _ in range(30):
        uniforms, text, context = rng.random(25), [], [EOT, 5]
        for u in uniforms:
            passed, token = 0.0, -1
            while passed <= u:
                token += 1
                passed += np.exp(model.next_log_probs(np.array(context + text)))[token]
            if token == EOT:
                break
            text.append(token)
        assert list(model.generate(context, uniforms)) == text
        assert list(model.generate(np.array(context), uniforms)) == text


def test_generate_takes_as_many_numbers_as_tokens() -> None:
    model = NgramLM(NgramConfig(V, 3)).fit(some_text(20), EOT)
    uniforms = iter([0.0, np.nextafter(1.0, 0.0), 0.3, 0.4])
    stream = model.generate([], uniforms)
    assert next(stream) == 0  # the first token of all, however unlikely
    assert next(uniforms) == np.nextafter(1.0, 0.0)
    stream.close()
    assert list(model.generate([EOT], [np.nextafter(1.0, 0.0)])) == [V - 1]  # and the last
    for bad in (1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match="a draw of"):
            list(model.generate([EOT], [bad]))


def test_generate_where_rounding_left_the_sum_below_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model = NgramLM(NgramConfig(V, 2)).fit(some_text(20), EOT)
    monkeypatch.setattr(model, "next_log_probs", lambda context: np.log(np.full(V, 0.999 / V)))
    assert list(model.generate([EOT], [0.9995])) == [V - 1]


def test_never_what_has_no_probability() -> None:
    model = NgramLM(NgramConfig(V, 2, "maximum-likelihood")).fit(np.array([EOT, 3, 5, 3, 6, EOT]), EOT)
    for u, token in [(0.0, 5), (0.49, 5), (0.51, 6), (np.nextafter(1.0, 0.0), 6)]:
        assert list(model.generate([3], [u])) == [token]


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_many_documents_are_one_stream(smoothing: str) -> None:
    model, ids = NgramLM(NgramConfig(V, 4, smoothing)).fit(some_text(21), EOT), some_text(22, 5)
    begins = [*np.flatnonzero(ids == EOT).tolist(), len(ids)]
    alone = [model.token_log_probs(ids[a:b])[1:] for a, b in pairwise(begins)]
    together = model.token_log_probs(ids)
    np.testing.assert_array_equal(together[ids != EOT], np.concatenate(alone))
    past = np.minimum(history_lengths(ids, EOT)[:-1], 1)  # no more than a bigram
    for t in (3, 17, 40):
        assert model.token_log_probs(ids, past)[t] == model.token_log_probs(ids[t - 1 : t + 1])[1]


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_scores_of_tokens_are_entries_of_rows(smoothing: str) -> None:
    model, ids = NgramLM(NgramConfig(V, 4, smoothing)).fit(some_text(10), EOT), some_text(11, 4)
    rows, scores = model.log_probs(ids), model.token_log_probs(ids)
    np.testing.assert_allclose(rows[np.arange(len(ids) - 1), ids[1:]], scores[1:], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(model.log_probs(ids, last=5), rows[-5:])
    np.testing.assert_array_equal(model.next_log_probs(ids), rows[-1])
    np.testing.assert_allclose(model.next_log_probs(ids[:0])[ids[0]], scores[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_saved_and_loaded(smoothing: str) -> None:
    ids = some_text(12).astype(np.uint16)
    before = ids.copy()
    model = NgramLM(NgramConfig(V, 3, smoothing)).fit(ids, EOT)
    arrays = {name: array.copy() for name, array in model.arrays().items()}
    again = NgramLM.from_arrays(model.config, arrays)
    np.testing.assert_array_equal(again.log_probs(ids), model.log_probs(ids))
    np.testing.assert_array_equal(ids, before)
    assert again.n_parameters == model.n_parameters == sum(np.count_nonzero(arrays[f"counts.{n}"]) for n in (1, 2, 3))
    for other in (NgramConfig(V, 4, smoothing), NgramConfig(V, 2, smoothing), NgramConfig(V + 1, 3, smoothing)):
        with pytest.raises(ValueError, match="not the counts of order"):
            NgramLM.from_arrays(other, arrays)


def test_large_vocabulary_does_not_overflow() -> None:
    vocab_size, end = 200_000, 199_999
    ids = np.append(end, np.random.default_rng(13).integers(0, vocab_size, 5000))
    model = NgramLM(NgramConfig(vocab_size, 4)).fit(np.tile(ids, 2), end)
    assert np.exp(model.token_log_probs(ids))[4:].min() > 0.3  # each n-gram came twice, and always went on the same way


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([], "no ids"),
        ([4, V], "4 to 11"),
        ([4, -1], "-1 to 4"),
        ([4.0, 2.0], "integers"),
        ([[4, 2]], "one row"),
    ],
)
def test_bad_ids(ids: list, message: str) -> None:
    model = NgramLM(NgramConfig(V, 2)).fit(np.array([4, 2]), EOT)
    for call in (lambda x: NgramLM(NgramConfig(V, 2)).fit(x, EOT), model.token_log_probs):
        with pytest.raises(ValueError, match=message):
            call(np.array(ids))


def test_bad_use() -> None:
    for call in (lambda model: model.token_log_probs(np.array([4])), lambda model: model.score([4])):
        with pytest.raises(ValueError, match="call fit"):
            call(NgramLM(NgramConfig(V, 2)))
    model = NgramLM(NgramConfig(V, 2)).fit(np.array([EOT, 2, EOT]), EOT)
    for bad in ([0.5], [[2, 3]], [V]):
        with pytest.raises(ValueError, match=r"integers|0\.\.10"):
            model.score(bad)
    with pytest.raises(ValueError, match=r"0\.\.10"):
        NgramLM(NgramConfig(V, 2)).fit(np.array([4, 2]), V)

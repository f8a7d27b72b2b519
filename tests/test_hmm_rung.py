"""The hidden Markov model on the ladder: between the unigram and what looks at tokens."""

import numpy as np

from minilm.classical.config import HMMTraining, NgramConfig
from minilm.evaluation.evaluate import evaluate
from minilm.evaluation.hmm_rung import hmm_rung
from minilm.evaluation.ladder import counted_rungs, ladder_to_dict
from minilm.text.stories import stories
from minilm.text.token_file import encode_corpus
from minilm.text.tokenizer import CharTokenizer


def test_more_states_know_more() -> None:
    """On characters of stories: one state is a unigram; more are better; a bigram of characters lies in reach."""
    texts = list(stories(30, seed=1))
    tokenizer = CharTokenizer.train(texts)
    train, validation = encode_corpus(texts[:24], tokenizer), encode_corpus(texts[24:], tokenizer)
    rungs = {}
    for n_states in (1, 2, 5):
        training = HMMTraining(iterations=25, tolerance=0)
        rung, model = hmm_rung(train, validation, tokenizer, n_states, training=training, write=lambda model: "x")
        rungs[n_states] = rung.bits_per_byte
        assert rung.bits_per_byte == evaluate(model, validation, tokenizer).bits_per_byte
        assert (
            rung.name == f"HMM, {n_states} states"
            and rung.sample == "x"
            and f"one of {n_states} hidden states" in rung.sentence
        )
        assert rung.parameters == n_states * (1 + n_states + tokenizer.vocab_size)
    config = NgramConfig(tokenizer.vocab_size, 2, "add-k")
    unigram = next(iter(counted_rungs(train, validation, tokenizer, config)))[0].bits_per_byte
    assert abs(rungs[1] - unigram) < 0.01
    assert rungs[1] > rungs[2] + 0.01 and rungs[2] > rungs[5] + 0.1
    assert "HMM, 5 states" in str(ladder_to_dict([rung]))


def test_it_learns_from_the_first_tokens_only() -> None:
    texts = list(stories(8, seed=2))
    tokenizer = CharTokenizer.train(texts)
    train = encode_corpus(texts, tokenizer)
    training = HMMTraining(iterations=2)
    some = {"training": HMMTraining(iterations=2, most_tokens=900)}
    same = (
        hmm_rung_model(train, tokenizer, **some),
        hmm_rung_model(encode_corpus(texts[:2], tokenizer), tokenizer, **some),
    )
    np.testing.assert_array_equal(same[0].arrays()["emission"], same[1].arrays()["emission"])
    assert (
        hmm_rung_model(train, tokenizer, training=training).arrays()["emission"] != same[0].arrays()["emission"]
    ).any()


def hmm_rung_model(train, tokenizer, **how):
    return hmm_rung(train, train, tokenizer, 2, **how)[1]

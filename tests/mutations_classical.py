"""Mistakes for tests/mutations.py in hidden Markov models: the recursions, the learning, the taggers."""

# as in mutations_decoding.py: file, the tests that have to notice, and mistakes: (name, old text, new text)
CLASSICAL: list[tuple[str, str, list[tuple[str, str, str]]]] = [
    (
        "minilm/classical/hmm_chain.py",
        "test_hmm_chain.py",
        [
            ("exact: digits are lost before the number", "SMALLEST = 1e-290", "SMALLEST = 0.0"),
            ("forward: transition transposed", "beliefs[t] @ transition\n", "beliefs[t] @ transition.T\n"),
            ("observe: nothing believed after the impossible", "out=np.array(expected), where", "out=0 * joint, where"),
            (
                "backward: transition transposed",
                "(weights[t] * ahead[t]) @ transition.T",
                "(weights[t] * ahead[t]) @ transition",
            ),
            ("backward: the impossible weighs", "np.where(beliefs > 0, likelihoods, 0.0) / np", "likelihoods / np"),
            (
                "smooth: moves into filling count",
                "        arrivals = arrivals * known[1:, ..., None]\n",
                "        pass\n",
            ),
            ("smooth: moves begin where they end", "beliefs[:-1].reshape", "beliefs[1:].reshape"),
            ("viterbi: filling costs", "np.where(goes_on, ahead, best)", "ahead"),
            ("viterbi: best way out", "ways.argmax(-1)\n", "ways.argmax(-2)\n"),
            ("viterbi: ends one late", "(t < lengths)[..., None]", "(t <= lengths)[..., None]"),
            (
                "viterbi: first state not followed back",
                "for t in range(len(path) - 1, 0, -1):\n        path",
                "for t in range(len(path) - 1, 1, -1):\n        path",
            ),
        ],
    ),
    (
        "minilm/classical/hmm_train.py",
        "test_hmm_train.py",
        [
            ("shares: rows of zeros", "out=np.array(otherwise), where", "out=0 * all_of_them, where"),
            ("Baum-Welch: starts are ends", "found.states[0].sum(0)", "found.states[-1].sum(0)"),
            ("Baum-Welch: the opening is learned", "ids = ids[int(ids[0] == model.end_of_text) :]", "pass"),
            ("Baum-Welch: a round less", "len(rounds) > training.iterations", "len(rounds) >= training.iterations"),
            ("Baum-Welch: tolerance of the whole text", "training.tolerance * len(ids)", "training.tolerance"),
            ("Baum-Welch: imagined twice", "counts + pseudo_count", "counts + 2 * pseudo_count"),
            ("objective: nothing imagined", "    if not pseudo_count:\n", "    if True:\n"),
            ("counts: the last state begins", "start[states[:1]] += 1", "start[states[-1:]] += 1"),
            ("counts: moves backwards", "states[:-1] * K + states[1:]", "states[1:] * K + states[:-1]"),
        ],
    ),
    (
        "minilm/classical/tagger.py",
        "test_tagger.py",
        [
            ("tagger: words seen twice are new", "if times == 1", "if times == 2"),
            (
                "tagger: capitals are other words",
                "forms = (word, word.lower(), look(word))",
                "forms = (word, look(word))",
            ),
            ("tagger: filling is tagged", "self.emission.T[ids], lengths)", "self.emission.T[ids])"),
            ("tagger: the rule is read backwards", "rule(before, tag)", "rule(tag, before)"),
            ("tagger: greedy forgets", "expected = self.transition[row[-1]]", "pass"),
            (
                "tagger: the bigram is not asked",
                "self.after.get((before, word), int(self.best[word]))",
                "int(self.best[word])",
            ),
            ("BIO: a name has two words", 'before in (f"B-{kind}", f"I-{kind}")', 'before == f"B-{kind}"'),
        ],
    ),
]

"""Mistakes for tests/mutations.py in the search for options: what is tried, what is kept of it, and what a difference means."""

# as in mutations_decoding.py: file, the tests that have to notice, and mistakes: (name, old text, new text)
SEARCH: list[tuple[str, str, list[tuple[str, str, str]]]] = [
    (
        "minilm/training/search.py",
        "test_search.py",
        [
            ("search: the highest whole number is never drawn", "end = high + 1 if whole else high", "end = high"),
            ("search: a logarithmic range drawn evenly", " if log else low", " if not log else low"),
            ("search: a list draws no uniform", "choices[int(uniform * len(choices))]", "rng.choice(choices)"),
            ("search: one fewer goes on", "math.ceil(len(left) / keep)", "max(1, len(left) // keep)"),
            ("search: the budget stays", "left, budget = kept, budget * keep", "left, budget = kept, budget"),
            ("search: whole numbers below 0 are cut, not rounded down", "math.floor(number)", "int(number)"),
            ("search: the worst go on", "key=lambda i: scores[i])", "key=lambda i: -scores[i])"),
            ("search: infinite scores go on", "if math.isfinite(scores[i])), key", "if scores[i] == scores[i]), key"),
            ("search: one side only", "t_quantile((1 + level) / 2, 2 * n - 2)", "t_quantile(level, 2 * n - 2)"),
            ("search: degrees of one group", "2 * n - 2)", "n - 1)"),
            ("search: the spread of one mean", "math.sqrt(2 / n)", "math.sqrt(1 / n)"),
            ("search: Welch without the squares", "(va**2 / (len(a) - 1) + vb**2 /", "(va / (len(a) - 1) + vb /"),
            ("search: the overlap forgotten", "math.sqrt(1 / n + overlap)", "math.sqrt(1 / n)"),
            ("search: one power of the cosine too many", "** (degrees - 1) for i", "** degrees for i"),
        ],
    ),
    (
        "minilm/training/trials.py",
        "test_search.py",
        [
            ("trials: the key without the fold", "json.dumps(self._asdict(), sort", "json.dumps(self[:2], sort"),
            ("trials: the key hangs on the order of options", "self._asdict(), sort_keys=True", "self._asdict()"),
            ("trials: a torn line stays", "file.write_bytes(data[: len(data) - len(unfinished)])", "file.write_bytes(data)"),
            ("trials: the last line is a torn one", "*lines, unfinished = data.split", "*lines, _, unfinished = data.split"),
            ("trials: two scores of one trial", "!= score:", "is None:"),
            ("trials: not on the disk", "            sync(self.path)\n", "            pass\n"),
            ("trials: all is done again", "if trial.key not in self.scores:", "if True:"),
            ("trials: the first round is the whole", "// max(self.keep, 1) ** (self.n_rounds - 1)", "// 1"),
            ("trials: seeds are not counted", "len(self.seeds) * max(1, self.folds)", "max(1, self.folds)"),
            ("trials: a short round counts as a long one", "in reversed(ended):", "in ended:"),
            ("trials: different budgets compared", "if best.budget != following.budget or", "if"),
            ("trials: folds compared as if they were seeds", "    if folds:\n", "    if not folds:\n"),
        ],
    ),
    (
        "minilm/cli/searching.py",
        "test_cli_search.py::test_pitfall_12_no_document_is_on_both_sides "
        "test_cli_search.py::test_an_ngram_on_folds_is_scored_as_by_hand "
        "test_cli_search.py::test_a_gpt_is_trained_as_the_loop_does_it "
        "test_cli_search.py::test_the_warm_up_of_a_short_round_is_short "
        "test_cli_search.py::test_a_signal_during_a_step_ends_the_search_and_keeps_no_half_trial "
        "test_cli_search.py::test_another_text_is_refused "
        "test_cli_search.py::test_a_trial_is_a_pure_function_of_options_and_seed",
        [
            (
                "searching: equal documents on both sides",
                "different.setdefault(document.tobytes(), ",
                "different.setdefault(bytes([len(different)]), ",
            ),
            ("searching: scored on what was learnt", "evaluate(model, held_out, tokenizer", "evaluate(model, learned, tokenizer"),
            ("searching: the seed of the weights stays", "set_seed(config.seed)", "set_seed(0)"),
            ("searching: the warm-up of the whole", "config.warmup * trial.budget / config.steps", "config.warmup"),
            ("searching: threads of the trial before", "with threads_restored():", "if True:"),
            ("searching: half a trial counts", 'if "interrupted" in history[-1]:', "if False:"),
            ("searching: the text may change", "sha.update(len(data).to_bytes(8, \"big\") + data)", "sha.update(b\"\")"),
        ],
    ),
    (
        "minilm/cli/search.py",
        "test_cli_search.py::test_another_text_is_refused "
        "test_cli_search.py::test_interrupted_after_any_trial_and_gone_on_with",
        [
            ("search verb: another text goes unnoticed", "if digest and read != digest:", "if False:"),
            ("search verb: what was done is thrown away", "with new_run(out, kept=PLAN):", "with new_run(out):"),
        ],
    ),
]  # fmt: skip

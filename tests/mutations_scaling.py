"""Mistakes for tests/mutations.py in the scaling law, in what compares runs, and in what watches them."""

# as in mutations_decoding.py: file, the tests that have to notice, and mistakes: (name, old text, new text)
SCALING: list[tuple[str, str, list[tuple[str, str, str]]]] = [
    (
        "minilm/evaluation/scaling.py",
        "test_scaling.py",
        [
            ("scaling: all points weigh the same", "((loss - floors[:, None]) / loss) ** 2", "np.ones(height.shape)"),
            (
                "scaling: the last floor is the best",
                "best = int(np.argmin(",
                "best = len(floors) - 1 + 0 * int(np.argmin(",
            ),
            (
                "scaling: the law without its floor",
                "np.logaddexp(mean + slope * along, ",
                "(mean + slope * along + 0 * ",
            ),
            ("scaling: a slope is no exponent", "float(-slope[best, 0])", "float(slope[best, 0])"),
            ("scaling: two rounds are enough", "ROUNDS = 65, 9", "ROUNDS = 65, 2"),
            (
                "scaling: means of the same seeds",
                "rng.integers(S, size=(S, N)), points]",
                "np.arange(S)[:, None], points]",
            ),
            (
                "scaling: all points, always",
                "points = rng.integers(N, size=N)\n        while",
                "points = np.arange(N)\n        while",
            ),
            ("scaling: a run without chance", " * np.exp(chance[rng.integers(S), rng.integers(N)])", ""),
            ("scaling: seeds are as close as they look", " * np.sqrt(S / (S - 1))  #", "  #"),
            ("scaling: the level on one side", "[(1 - level) / 2, 0.5, (1 + level) / 2]", "[1 - level, 0.5, level]"),
        ],
    ),
    (
        "minilm/bench/scaling.py",
        "test_bench_scaling.py",
        [
            ("bench scaling: the larger run first", "[*jobs[:-1], prediction, jobs[-1]]", "[*jobs, prediction]"),
            ("bench scaling: half a set of runs", "if len(rows) < n_small:", "if not rows:"),
            (
                "bench scaling: outside is inside",
                'said["low"] <= row["nats"] <= said["high"]',
                'row["nats"] <= said["high"]',
            ),
            (
                "bench scaling: as many steps for all",
                "TOKENS_A_WEIGHT * weights_of(width)",
                "TOKENS_A_WEIGHT * weights_of(32)",
            ),
            ("bench scaling: nobody hears of it", "    tqdm.write(sentence(row), file=sys.stderr)\n", ""),
            ("bench scaling: sizes as they come", "sorted({row", "list({row"),
        ],
    ),
    (
        "minilm/plots/runs.py",
        "test_plots_runs.py",
        [
            ("runs: the whole fall", "course.loss[int(BEGINNING * len(course.loss)) :]", "course.loss"),
            ("runs: the worst is ringed", "np.argmin(course.looks)", "np.argmax(course.looks)"),
            ("runs: the last score is the best", "course.looks[best]:.3f}", "course.looks[-1]:.3f}"),
            ("runs: one stroke for all", 'if i < len(COLOURS) else "--")', 'if True else "--")'),
            ("runs: a number is a name", "[:1].isalpha()", "[:1].isalnum()"),
            ("runs: last parts stay", "part[-1] for part in parts}) == 1", "part[-1] for part in parts}) == 0"),
        ],
    ),
    (
        "minilm/cli/plot.py",
        "test_cli_plot.py",
        [
            ("plot: nats of two tokenizers", "in_bits = len({each.tokenizer for each in runs}) > 1", "in_bits = False"),
            ("plot: a token is a byte", "1 / (math.log(2) * each.bytes_per_token)", "1 / math.log(2)"),
            ("plot: any two units", "if other.look_unit != first.look_unit:", "if False:"),
            ("plot: any two texts", "if any(other.text != first.text for other in runs):", "if False:"),
            ("plot: a late log counts from nought", 'if each.records[0]["step"] != 1:', "if False:"),
        ],
    ),
    (
        "minilm/cli/watching.py",
        "test_watching.py",
        [
            ("watching: samples draw as they like", "seed=self.seed))", "seed=step))"),
            (
                "watching: one sample too many",
                "if step % self.watch.sample_every == 0:",
                "if step % self.watch.sample_every < 2:",
            ),
            ("watching: what came after stays", 'if 0 < sample["step"] <= start]', 'if 0 < sample["step"]]'),
            ("watching: a lost sample stays lost", "            self.take(start, model)\n", "            pass\n"),
            ("watching: nothing is taken back", "purge_step=start + 1 if start else None", "purge_step=None"),
            ("watching: the file stays open", "        writer.close()\n", "        pass\n"),
            (
                "watching: looked at without a need",
                "if watch.tensorboard and summary_writer() is None:\n        raise",
                "if False:\n        raise",
            ),
            ("watching: the prompt is forgotten", '"text": prompt + more}', '"text": more}'),
        ],
    ),
]

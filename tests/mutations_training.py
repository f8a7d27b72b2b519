"""Mistakes for tests/mutations.py in training/, and in the attention that is fast there."""

# as in mutations_decoding.py: file, the tests that have to notice, and mistakes: (name, old text, new text)
TRAINING: list[tuple[str, str, list[tuple[str, str, str]]]] = [
    (
        "minilm/training/distill.py",
        "test_distill.py",
        [
            ("distill: the other way round", "for logits in (teacher, student))", "for logits in (student, teacher))"),
            (
                "distill: multiplied by the temperature",
                "logits.to(precision) / temperature",
                "logits.to(precision) * temperature",
            ),
            ("distill: its size lost", "return temperature**2 * terms", "return terms"),
            ("distill: ignored targets counted", "terms.sum(-1).where(counted, 0.0).sum()", "terms.sum()"),
            ("distill: mean over all targets", "counted.sum().clamp(min=1)", "counted.numel()"),
            ("distill: what is ruled out is NaN", "wanted.masked_fill(ruled_out, 0.0) - found", "wanted - found"),
            ("distill: shares swapped", "share * learned + (1 - share) *", "(1 - share) * learned + share *"),
            ("distill: the teacher keeps its dropout", "evaluation_mode(teacher)", "evaluation_mode(None)"),
        ],
    ),
    (
        "minilm/training/sizes.py",
        "test_budget.py::test_the_largest_that_sees_enough_tokens_is_chosen "
        "test_budget.py::test_a_field_that_was_given_is_never_chosen "
        "test_budget.py::test_no_context_is_longer_than_the_text "
        "test_budget.py::test_a_short_text_is_not_worth_a_large_model "
        "test_budget.py::test_what_cannot_pay_is_not_measured test_budget.py::test_the_band_follows_the_measurements "
        "test_budget.py::test_steps_fill_the_minutes_but_for_the_reserve "
        "test_budget.py::test_every_rung_is_a_model_of_every_kind_and_larger_than_the_one_before[gpt]",
        [
            ("sizes: the reserve is spent", "(1.0 - RESERVE) * 60.0 * minutes", "60.0 * minutes"),
            ("sizes: endless epochs", "min(steps * candidate.tokens, EPOCHS * n_tokens)", "steps * candidate.tokens"),
            ("sizes: tables are weights too", ' if brick.name.startswith("blocks."))', ")"),
            ("sizes: no hope", "candidate.work / (HOPE * rate)", "candidate.work / rate"),
            ("sizes: half a shape is given", "(WIDTH if WIDTH & set(given) else set())", "set()"),
            (
                "sizes: a context as long as the text",
                '.get("context_length", 0) < n_tokens',
                '.get("context_length", 0) <= n_tokens',
            ),
            ("sizes: a straight line in bits", "y0 * (y1 / y0) ** (", "y0 + (y1 - y0) * ("),
            ("sizes: drawn on without end", " or not points[0][0] / 2 <= n_bytes <= BEYOND * points[-1][0]", ""),
        ],
    ),
    (
        "minilm/training/budget.py",
        "test_budget.py::test_threads_are_measured_unless_given test_budget.py::test_steps_fill_the_minutes_but_for_the_reserve "
        "test_budget.py::test_a_short_run_has_a_short_warm_up_and_few_looks "
        "test_budget.py::test_impossible_minutes_are_refused_with_what_would_do "
        "test_budget.py::test_the_plan_is_measured_and_leaves_everything_as_it_was "
        "test_budget.py::test_a_trial_leaves_the_random_numbers_and_says_where_there_is_no_room "
        "test_budget.py::test_the_forecast_in_words",
        [
            ("budget: the slowest threads", "fastest = min(timed,", "fastest = max(timed,"),
            ("budget: threads not set", "    torch.set_num_threads(fastest.threads)\n", ""),
            ("budget: trains the model itself", "train(copy.deepcopy(model), batches", "train(model, batches"),
            ("budget: batches move on", "        batches.restore(where)\n        restore", "        restore"),
            (
                "budget: random numbers move on",
                "        raise\n    finally:\n        restore_random_state(randomness)\n",
                "        raise\n    finally:\n        pass\n",
            ),
            ("budget: more steps than were asked", "min(fitting, config.steps))", "fitting)"),
            ("budget: the whole warm-up", "min(config.warmup, int(WARMUP * steps))", "config.warmup"),
            ("budget: looks without bound", "int(min(MOST_LOOKS, LOOKS * 60.0", "int(min(10**6, LOOKS * 60.0"),
            ("budget: the last look forgotten", "n_looks = 1 + (", "n_looks = 0 + ("),
        ],
    ),
    (
        "minilm/training/loop.py",
        "test_loop.py::test_accumulation_with_unequal_labels_is_one_big_batch "
        "test_loop.py::test_accumulation_with_nothing_to_learn",
        [
            ("shares: a mean of means", "count / max(sum(counts), 1) for", "1 / len(counts) for"),
            ("shares: sum for mean", "count / max(sum(counts), 1) for", "count for"),
            ("shares: nothing to learn", "max(sum(counts), 1)", "sum(counts)"),
        ],
    ),
    (
        "minilm/training/optim.py",
        "test_optim.py::test_clip_leaves_short_gradients_bit_for_bit test_optim.py::test_clip_shortens_all_by_one_factor "
        "test_loop.py::test_a_loss_or_gradient_that_is_no_number_stops_before_the_weights_are_touched",
        [
            (
                "clip: each gradient alone",
                "torch.linalg.vector_norm(torch.stack([length.to(lengths[0].device) for length in lengths]))",
                "torch.stack([length.to(lengths[0].device) for length in lengths]).max()",
            ),
            (
                "clip: short gradients stretched",
                "if max_norm < norm < math.inf else 1.0",
                "if norm < math.inf else 1.0",
            ),
            (
                "clip: to the root of the norm",
                "return norm, max_norm / norm if",
                "return norm, (max_norm / norm) ** 0.5 if",
            ),
        ],
    ),
    (
        "minilm/training/fused_adam.py",
        "test_fused_adam.py",
        [
            ("fused adam: strides do not matter", " and t.is_contiguous()", ""),
            ("fused adam: types do not matter", "t.dtype is p.dtype and ", ""),
            ("fused adam: steps do not count", 'memory["step"] += 1', "pass"),
            ("fused adam: decays twice", "weight_decay=0.0", "weight_decay=0.1"),
            ("fused adam: betas exchanged", "(beta1, beta2), lists", "(beta2, beta1), lists"),
            ("fused adam: its own eps", "eps=self.eps", "eps=1e-8"),
        ],
    ),
    (
        "minilm/fast/short_attention.py",
        "test_short_attention.py::test_values_and_gradients_are_those_of_torchs_kernel "
        "test_short_attention.py::test_where_nothing_may_be_seen_nothing_comes_out_and_nothing_goes_back",
        [
            ("short attention: empty row is NaN", "masked_fill(~mask & visible", "masked_fill(~mask"),
            (
                "short attention: empty row is the mean",
                "(F.softmax(scores + barred, dim=-1) @ v) * visible",
                "F.softmax(scores + barred, dim=-1) @ v",
            ),
            ("short attention: scale by the size of v", "math.sqrt(q.shape[-1])", "math.sqrt(v.shape[-1])"),
        ],
    ),
]

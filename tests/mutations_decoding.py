"""Mistakes for tests/mutations.py in decoding/ and in the caches it stands on: which text for which, and who must notice."""

# file, the tests that have to notice (as few as do, so that a run takes seconds), and mistakes: (name, old text, new text)
DECODING: list[tuple[str, str, list[tuple[str, str, str]]]] = [
    (
        "minilm/decoding/filters.py",
        "test_filters.py::test_top_p_on_exact_ties test_filters.py::test_typical_may_drop_the_likeliest "
        "test_filters.py::test_row_52_top_k_with_ties_and_more_than_there_is "
        "test_filters.py::test_min_p_on_the_border test_filters.py::test_a_mass_of_one_keeps_the_rarest_token "
        "test_filters.py::test_what_an_earlier_filter_dropped_counts_for_nothing "
        "test_filters.py::test_top_p_is_the_best_of_all_subsets",
        [
            ("top-p: one more where the mass is met", "before >= p", "before > p"),
            (
                "top-p: the token that crosses is lost",
                "    before = torch.zeros_like(probabilities)\n    before[:, 1:] = probabilities.cumsum(-1)[:, :-1]",
                "    before = probabilities.cumsum(-1)",
            ),
            ("top-p: a mass of one cuts", "    if p >= 1:", "    if p > 1:"),
            ("top-k: one too few", "[:, k:]", "[:, k - 1 :]"),
            (
                "filters: ties to the higher id",
                "scores.argsort(dim=-1, descending=True, stable=True)",
                "scores.shape[-1] - 1 - scores.flip(-1).argsort(dim=-1, descending=True, stable=True)",
            ),
            ("min-p: the border is dropped", "parts < min_p", "parts <= min_p"),
            ("min-p: an absolute bound", "torch.exp(scores - scores.amax(-1, keepdim=True))", "softmax(scores)"),
            (
                "typical: dropped tokens make it NaN",
                "torch.where(surprise < torch.inf, softmax(logits.double()) * surprise, 0.0)",
                "softmax(logits.double()) * surprise",
            ),
            ("typical: distance with a sign", "keepdim=True)).abs()", "keepdim=True))"),
            ("typical: least typical first", "descending(-distance)", "descending(distance)"),
        ],
    ),
    (
        "minilm/decoding/filters.py",
        "test_filters.py::test_exactly_the_defined_set_stays[top_p-torch.bfloat16] "
        "test_filters.py::test_exactly_the_defined_set_stays[min_p-torch.bfloat16] "
        "test_filters.py::test_exactly_the_defined_set_stays[typical-torch.bfloat16]",
        [
            ("top-p: adds up in half precision", "logits.double().gather(-1, order)", "logits.gather(-1, order)"),
            ("min-p: compares in half precision", "scores = logits.double()", "scores = logits"),
            ("typical: surprise in half precision", "log_softmax(logits.double())", "log_softmax(logits).double()"),
        ],
    ),
    (
        "minilm/decoding/sampling.py",
        "test_sampling.py::test_temperature_comes_before_top_p test_sampling.py::test_filters_follow_one_another "
        "test_sampling.py::test_draw_on_the_borders_of_the_pieces test_sampling.py::test_draw_adds_up_in_float64 "
        "test_sampling.py::test_draw_never_gives_an_impossible_token test_sampling.py::test_other_errors "
        "test_sampling.py::test_row_53_a_tiny_temperature_is_nearly_greedy "
        "test_sampling.py::test_row_54_one_uniform_for_each_row_and_call "
        "test_sampling.py::test_greedy_takes_the_largest_and_of_ties_the_first "
        "test_sampling.py::test_logits_of_every_type_are_sampled_in_float64 "
        "test_penalties.py::test_processors_come_after_penalties_and_in_their_order",
        [
            ("draw: a border belongs to the token before", "right=True", "right=False"),
            ("draw: a sum that misses one", "uniforms.double()[:, None] * ends[:, -1:]", "uniforms.double()[:, None]"),
            ("draw: adds up in the type given", "probabilities.double().cumsum", "probabilities.cumsum"),
            ("draw: uniforms below zero pass", "uniforms >= 0", "uniforms > -1"),
            ("sampling: in the type of the logits", "logits.cpu().double()", "logits.cpu()"),
            ("temperature: maximum not subtracted", "(logits - logits.amax(-1, keepdim=True)) /", "logits /"),
            ("temperature: multiplied", "keepdim=True)) / temperature", "keepdim=True)) * temperature"),
            (
                "temperature: after top-p",
                "keep_top_p(logits, config.top_p)",
                "keep_top_p(logits * config.temperature, config.top_p) / config.temperature",
            ),
            (
                "sampling: processors before penalties",
                "    judged = penalise(logits, texts, config)\n    for processor in processors:\n"
                "        judged = processor(judged, texts)\n",
                "    judged = logits\n    for processor in processors:\n        judged = processor(judged, texts)\n"
                "    judged = penalise(judged, texts, config)\n",
            ),
            ("Sampler: one uniform for all rows", "torch.rand(len(logits), ", "torch.rand(1, "),
            ("Sampler: its generator unused", "generator=self.generator, ", ""),
        ],
    ),
    (
        "minilm/decoding/sampling.py",
        "test_sampling.py::test_all_steps_in_their_order",
        [
            (
                "min-p: half of what was asked",
                "keep_min_p(logits, config.min_p)",
                "keep_min_p(logits, config.min_p / 2)",
            ),
            (
                "filters: top-p before top-k",
                "    if config.top_k is not None:\n        logits = keep_top_k(logits, config.top_k)\n"
                "    if config.top_p is not None:\n        logits = keep_top_p(logits, config.top_p)\n",
                "    if config.top_p is not None:\n        logits = keep_top_p(logits, config.top_p)\n"
                "    if config.top_k is not None:\n        logits = keep_top_k(logits, config.top_k)\n",
            ),
        ],
    ),
    (
        "minilm/decoding/config.py",
        "test_sampling.py::test_ranges_of_settings",
        [
            ("settings: a mass of one refused", "0 < p <= 1", "0 < p < 1"),
            ("settings: any min-p", "0 <= self.min_p <= 1", "0 <= self.min_p"),
            (
                "settings: endless penalties",
                "not math.isfinite(getattr(self, name))",
                "math.isnan(getattr(self, name))",
            ),
            ("settings: NaN repetition", "not 0 < self.repetition_penalty < math.inf", "self.repetition_penalty <= 0"),
        ],
    ),
    (
        "minilm/decoding/penalties.py",
        "test_penalties.py::test_each_penalty_by_hand test_penalties.py::test_penalties_against_a_plain_loop "
        "test_penalties.py::test_penalties_compute_in_the_type_of_the_logits "
        "test_penalties.py::test_penalties_need_a_text_for_each_row",
        [
            ("repetition: small scores not divided", "logits > 0, logits", "logits >= 1, logits"),
            ("repetition: rewarded", "logits / penalty, logits * penalty", "logits * penalty, logits / penalty"),
            (
                "repetition: negative ones gain",
                "logits / penalty, logits * penalty",
                "logits / penalty, logits / penalty",
            ),
            ("presence: counted", "torch.where(counts > 0, logits - penalty, logits)", "logits - penalty * counts"),
            ("frequency: once", "penalty * counts.to(logits.dtype)", "penalty * (counts > 0).to(logits.dtype)"),
            ("frequency: changes the type", "penalty * counts.to(logits.dtype)", "penalty * counts.double()"),
            ("penalties: texts not checked", "    check_texts(texts, len(logits))\n", ""),
            (
                "penalties: frequency alone skipped",
                "config.presence_penalty == config.frequency_penalty == 0",
                "config.presence_penalty == 0",
            ),
        ],
    ),
    (
        "minilm/decoding/processors.py",
        "test_penalties.py::test_logit_bias test_penalties.py::test_bad_words_by_hand test_penalties.py::test_vocabulary "
        "test_penalties.py::test_bad_input_is_one_line",
        [
            ("vocabulary: one id too many", "logits[:, self.size :]", "logits[:, self.size + 1 :]"),
            ("bad words: not the whole text", "if n <= len(text)", "if n < len(text)"),
            (
                "bad words: in the caller's logits",
                "        logits = logits.clone()\n        for row",
                "        for row",
            ),
            ("bad words: at the beginning", "text[len(text) - n :]", "text[:n]"),
            ("bad words: the last ending only", "].append(word[-1])", "] = [word[-1]]"),
            ("bias: subtracted", "added[token] = value", "added[token] = -value"),
            ("ids: negative ones pass", "if not 0 <= token < V", "if not token < V"),
        ],
    ),
    (
        "minilm/decoding/generate.py",
        "test_generate.py::test_the_sampler_is_given_the_whole_text test_generate.py::test_slide_keeps_the_last_half "
        "test_generate.py::test_with_a_cache_each_token_is_read_once "
        "test_generate.py::test_mode_and_gradients_are_restored_even_between_tokens "
        "test_generate.py::test_stop_tokens_end_the_stream_and_are_not_part_of_it "
        "test_generate.py::test_cached_equals_uncached_for_every_prompt_length[slide-gpt]",
        [
            ("generate: the sampler sees the view", "cache), [text]))", "cache), [text[start:]]))"),
            ("generate: rollback of too much", "cache.rollback(read - start)", "cache.rollback(read)"),
            ("generate: slides too far", "max(1, limit // 2)", "max(1, limit // 2 - 1)"),
            ("generate: a token read twice", "            read = len(text)\n", "            read = len(text) - 1\n"),
            ("generate: slides too late", "len(text) - start > limit:", "len(text) - start > limit + 1:"),
            ("generate: dropout stays on", "evaluation_mode(model)", "evaluation_mode(None)"),
            (
                "generate: the stop token is given",
                "        if token in stop_tokens:\n            return\n        yield token\n",
                "        yield token\n        if token in stop_tokens:\n            return\n",
            ),
        ],
    ),
    (
        "minilm/runtime.py",
        "test_generate.py::test_mode_and_gradients_are_restored_even_between_tokens test_distill.py",
        [
            ("evaluation mode: dropout stays on", "        model.eval()\n", "        pass\n"),
            ("evaluation mode: not restored", "            model.train()\n", "            pass\n"),
        ],
    ),
    (
        "minilm/decoding/reading.py",
        "test_beam.py::test_models_of_the_house[True-ngram] test_beam.py::test_models_of_the_house[False-gpt]",
        [
            ("reading: the filling stays", "cache.rollback(longest - lengths)", "pass"),
            ("reading: behind the filling", "lengths[:, None] - 1", "lengths[:, None] * 0 + longest - 1"),
            ("reading: dropout stays on", "evaluation_mode(model)", "evaluation_mode(None)"),
        ],
    ),
    (
        "minilm/decoding/reading.py",
        "test_speculative.py::test_a_reader_forgets_what_the_text_no_longer_says "
        "test_speculative.py::test_a_reader_survives_a_model_that_refuses",
        [
            ("reader: nothing forgotten", "self.cache.rollback(len(self.text) - same)", "pass"),
            (
                "reader: believes a refused text",
                "            self.forget()\n            raise\n",
                "            raise\n",
            ),
            ("reader: last token not read again", "text[: len(text) - n]", "text[:-1]"),
        ],
    ),
    (
        "minilm/decoding/beam.py",
        "test_beam.py::test_expand_by_hand test_beam.py::test_a_positive_penalty_favours_long_texts_row_58 "
        "test_beam.py::test_fewer_hypotheses_than_asked_for test_beam.py::test_context_limit[True-9] "
        "test_beam.py::test_the_bound_holds_for_every_continuation_row_58 "
        "test_beam.py::test_the_length_counts_the_stop_token_and_no_prompt_row_58 "
        "test_beam.py::test_the_search_ends_when_it_is_decided_and_no_sooner",
        [
            ("beams: a beam that ends keeps its seat", "order[~stops][:n_beams]", "order[:n_beams][~stops[:n_beams]]"),
            ("beams: the impossible is kept", "    order = order[totals[order] > -torch.inf]\n", ""),
            ("beams: score times the length", "log_prob / math.pow(", "log_prob * math.pow("),
            ("beams: bound of the next token", "room if length_penalty > 0 else length + 1", "length + 1"),
            ("beams: bound of the whole room", "room if length_penalty > 0 else length + 1", "room"),
            ("beams: context one short", "limit - len(text) + 1)", "limit - len(text))"),
            ("beams: never decided", "return self.hypotheses[-1].score >= bound", "return False"),
            (
                "beams: stop token not counted",
                "        self.length += 1\n        self.n_ended += len(stopping)\n"
                "        self.end(totals, stopping, V, stopped=True)\n",
                "        self.n_ended += len(stopping)\n        self.end(totals, stopping, V, stopped=True)\n"
                "        self.length += 1\n",
            ),
        ],
    ),
    (
        "minilm/decoding/beam.py",
        "test_beam.py::test_few_beams_equal_a_literal_search_that_never_ends_early",
        [
            ("beams: any stop token ends", "order[:n_beams][stops[:n_beams]]", "order[stops]"),
            (
                "beams: decided by the best",
                "return self.hypotheses[-1].score >= bound",
                "return self.hypotheses[0].score >= bound",
            ),
            ("beams: early, but one later", "self.n_ended >= rules.n_beams", "self.n_ended > rules.n_beams"),
            (
                "beams: scores of another",
                "self.log_probs = totals[going]\n",
                "self.log_probs = totals[going].flip(0)\n",
            ),
        ],
    ),
    (
        "minilm/decoding/beam.py",
        "test_beam.py::test_models_of_the_house[True-ngram]",
        [
            (
                "beams: rows of the prompt, not of the batch",
                "log_softmax(row_logits)) + first_row)",
                "log_softmax(row_logits)))",
            ),
            ("beams: cache not reordered", "cache.select(torch.cat(parents))", "pass"),
            ("beams: all go on from the best", "[[*self.beams[place // V],", "[[*self.beams[0],"),
        ],
    ),
    (
        "minilm/decoding/beam.py",
        "test_beam.py::test_models_of_the_house[True-llama]",
        [
            ("beams: logits for log p", "search.step(log_softmax(row_logits))", "search.step(row_logits)"),
        ],
    ),
    (
        "minilm/decoding/drafts.py",
        "test_speculative.py::test_a_model_draft_draws_from_the_q_it_reports test_speculative.py::test_place_to_copy "
        "test_speculative.py::test_look_up_copies_and_goes_on_into_its_own_copy "
        "test_speculative.py::test_a_draft_with_a_shorter_context_falls_silent",
        [
            (
                "draft: takes the likeliest",
                "draw(q[place : place + 1], uniforms[place : place + 1])",
                "q[place].argmax()",
            ),
            ("draft: reads beyond its context", "- len(text) + 1)]", "- len(text) + 3)]"),
            ("look-up: the first place", "range(len(text) - 1, n - 1, -1)", "range(n, len(text))"),
            (
                "look-up: the shortest ending",
                "range(min(longest, len(text) - 1), 0, -1)",
                "range(1, min(longest, len(text) - 1) + 1)",
            ),
            ("look-up: half sure", "dtype=torch.long)] = 1.0", "dtype=torch.long)] = 0.5"),
        ],
    ),
    (
        "minilm/decoding/speculative.py",
        "test_speculative.py::test_accept_by_hand_row_62 test_speculative.py::test_supports_that_differ "
        "test_speculative.py::test_a_rest_that_rounds_to_nothing_is_drawn_from_p "
        "test_speculative.py::test_guessing_and_judging_take_uniforms_of_their_own "
        "test_speculative.py::test_max_new_tokens_is_met_exactly[4] test_speculative.py::test_context_limit[True-8] "
        "test_speculative.py::test_a_stop_token_within_a_run_ends_the_text_row_56",
        [
            ("accept: what is impossible", ">= p[place, token]", "> p[place, token]"),
            ("accept: whatever q says", "uniforms[place] * q[place, token] >=", "uniforms[place] >="),
            ("accept: redrawn from p", "rest = (p[place] - q[place]).clamp(min=0)", "rest = p[place]"),
            (
                "accept: redrawn from the difference",
                "(p[place] - q[place]).clamp(min=0)",
                "(p[place] - q[place]).abs()",
            ),
            ("accept: last token from the first row", "draw(p[-1:], uniforms[-1:])", "draw(p[:1], uniforms[-1:])"),
            (
                "accept: nothing left to draw from",
                "            rest = rest if bool(rest.any()) else p[place]  # p and q differ by a rounding only\n",
                "",
            ),
            ("accept: what follows is kept", "return [*proposed[:place], int(", "return [*proposed, int("),
            ("speculate: guess and judgement share", "uniforms[len(uniforms) - m - 1 :]", "uniforms[: m + 1]"),
            ("speculate: one too many", "end - len(text) - 1)  #", "end - len(text))  #"),
            (
                "speculate: context one short",
                "len(text) + max_new_tokens, limit + 1)",
                "len(text) + max_new_tokens, limit)",
            ),
            (
                "speculate: the stop token is given",
                "            if token in stop_tokens:\n                return\n            yield token\n",
                "            yield token\n            if token in stop_tokens:\n                return\n",
            ),
        ],
    ),
    (
        "minilm/decoding/speculative.py",
        "test_speculative.py::test_the_distribution_is_that_of_the_target_row_62[1-6]",
        [
            (
                "accept: the uniform that refused",
                "draw(rest[None], uniforms[-1:])",
                "draw(rest[None], uniforms[place : place + 1])",
            )
        ],
    ),
    (
        "minilm/decoding/batch.py",
        "test_batch_generation.py::test_what_rows_share_is_read_once test_batch_generation.py::test_prefill_in_chunks "
        "test_batch_generation.py::test_each_token_of_ragged_prompts_is_read_once "
        "test_batch_generation.py::test_prompts_of_very_different_lengths_are_read_without_filling[rotary] "
        "test_batch_generation.py::test_prompts_of_very_different_lengths_are_read_without_filling[rolling] "
        "test_batch_generation.py::test_pitfall_56_none_one_or_three_stop_tokens "
        "test_batch_generation.py::test_pitfall_55_finished_rows_are_not_computed_and_have_no_tail "
        "test_batch_generation.py::test_each_reason "
        "test_batch_generation.py::test_stop_sees_the_new_bytes_only_and_after_each_token "
        "test_batch_generation.py::test_a_callback_that_returns_nothing_cancels_nothing "
        "test_batch_generation.py::test_pitfall_54_sample_i_of_n_is_sample_i_alone "
        "test_batch_generation.py::test_log_probs_are_the_models_own_and_those_of_score[ngram]",
        [
            ("batch: one generator for all", "generator=row.generator,", "generator=rows[0].generator,"),
            ("batch: log p at a temperature", "log_softmax(logits).gather", "log_softmax(logits / 0.9).gather"),
            (
                "batch: the first rows stay",
                "[place for place, row in enumerate(live) if not row.reason]",
                "list(range(sum(not row.reason for row in live)))",
            ),
            ("batch: copies of other rows", "[texts.index(view) for view in views]", "[0 for view in views]"),
            ("batch: who joins has read another's text", "[held - shared] * len(new)", "[0] * len(new)"),
            ("batch: who joins forgets what is shared", "[held - shared] * len(new)", "[held] * len(new)"),
            (
                "batch: rows stay the longest first",
                "[rows.index(i) for i in range(len(texts))]",
                "[*range(len(texts))]",
            ),
            ("batch: always filled up", "self.chunk < self.room or filling <= MOST_FILLED", "True"),
            ("batch: a cache half read", "                self.cache = before\n", ""),
            ("batch: nothing is shared", "if self.cache is None or len(rows) == 1:", "if True:"),
            ("batch: all is shared", "common_prefix(texts[0], text[:-1]) for", "common_prefix(texts[0], text) for"),
            ("batch: chunks one longer", "min(self.chunk, self.room", "min(self.chunk + 1, self.room"),
            ("batch: nothing said is cancelled", "row.text[-1]) is False", "row.text[-1]) is not True"),
            ("batch: stops on the prompt", "for token in row.new)", "for token in row.text)"),
            ("batch: cancelled for stop", 'return "stop"\n', 'return "cancelled"\n'),
            (
                "batch: the stop token is given",
                '            row.reason = "stop token"\n            continue\n',
                '            row.reason = "stop token"\n',
            ),
            ("batch: the context one short", "len(row.view) > self.last_length", "len(row.view) >= self.last_length"),
        ],
    ),
    (
        "minilm/decoding/batch.py",
        "test_batch_generation.py::test_every_model_with_all_settings[slide-learned]",
        [
            (
                "batch: penalties on the view",
                "[row.text for row in rows], processors",
                "[row.view for row in rows], processors",
            ),
            (
                "batch: a slide forgets nothing",
                "self.cache.rollback(self.cache.lengths * torch.tensor(forgotten))",
                "pass",
            ),
            ("batch: slides too little", "max(1, self.limit // 2)", "max(1, self.limit // 2 + 1)"),
            ("batch: filled beyond the room", "min(self.chunk, self.room - max(held))", "self.chunk"),
        ],
    ),
    (
        "minilm/decoding/score.py",
        "test_batch_generation.py::test_score_goes_on_behind_a_cache "
        "test_batch_generation.py::test_score_is_in_float64_and_a_text_is_the_product_of_its_tokens "
        "test_batch_generation.py::test_score_of_what_cannot_be_read",
        [
            ("score: pieces lack their last", "text[t : t + step + 1]", "text[t : t + step]"),
            ("score: reads what it judges", "torch.tensor([ids[:-1]])", "torch.tensor([ids[1:]])"),
            ("score: one beyond the context", "held + n > limit:", "held + n > limit + 1:"),
            ("score: logits for log p", "log_softmax(logits).gather", "logits.gather"),
        ],
    ),
    (
        "minilm/layers/kv_cache.py",
        "test_kv_cache.py::test_a_growing_cache_is_a_preallocated_one "
        "test_kv_cache.py::test_growth_copies_each_token_once_on_average "
        "test_kv_cache.py::test_fork_and_select_make_rows_that_know_nothing_of_each_other[learned] "
        "test_kv_cache.py::test_bytes_are_those_of_the_arrays",
        [
            ("cache: rollback forwards", "(left < 0) | (left > lengths)", "left < 0"),
            ("cache: growth forgets", "    larger[:, :, : store.shape[2]] = store\n", ""),
            (
                "cache: grows by one",
                "with_slots(self.values[layer], 2 * (longest + n_new))",
                "with_slots(self.values[layer], longest + n_new)",
            ),
            (
                "cache: bytes of the keys alone",
                "store.nbytes for store in (*self.keys, *self.values)",
                "store.nbytes for store in self.keys",
            ),
        ],
    ),
    (
        "minilm/layers/rolling_cache.py",
        "test_kv_cache.py::test_rolling_rows_of_different_lengths test_kv_cache.py::test_rolling_memory_is_the_window "
        "test_kv_cache.py::test_a_rolling_cache_forgets_what_was_read_last_and_what_is_spare "
        "test_kv_cache.py::test_columns_of_the_last_tokens "
        "test_kv_cache.py::test_fork_and_select_make_rows_that_know_nothing_of_each_other[rolling] "
        "test_kv_cache.py::test_pitfall_63_after_random_rollbacks_the_cache_is_one_rebuilt[rolling]",
        [
            ("rolling: one token short", "window - 1 + spare", "window - 2 + spare"),
            ("rolling: one token more", "window - 1 + spare", "window + spare"),
            ("rolling: columns before the begin", " & (columns >= 0)", ""),
            ("rolling: holds all it has read", "self.held.clamp(max=self.kept) + n_new", "self.held + n_new"),
            ("rolling: half a window will do", ".clamp(max=self.window - 1)).any()", ".clamp(max=0)).any()"),
            (
                "rolling: all rows move alike",
                "torch.arange(store.shape[2]) - n[:, None]",
                "torch.arange(store.shape[2]) - n.max()",
            ),
            (
                "rolling: keys lie at the end",
                "return by_position(self.keys[layer], ends), by_position(self.values[layer], ends)",
                "return self.keys[layer], self.values[layer]",
            ),
        ],
    ),
    (
        "minilm/layers/rolling_cache.py",
        "test_kv_cache.py::test_rows_that_are_selected_take_along_what_they_hold",
        [
            (
                "rolling: select leaves what is held",
                "self.held = self.held[rows.cpu()]",
                "self.held = self.held[: len(rows)]",
            ),
        ],
    ),
    (
        "minilm/decoding/quantize.py",
        "test_quantize.py::test_int8_is_what_plain_python_makes test_quantize.py::test_weights_that_are_not_finite_are_refused "
        "test_quantize.py::test_the_product_is_that_of_the_restored_matrix test_quantize.py::test_a_tied_head_is_stored_once "
        "test_quantize.py::test_an_untied_embedding_and_positions_stay test_quantize.py::test_memory_is_saved "
        "test_quantize.py::test_two_layers_with_one_matrix_store_it_once",
        [
            ("int8: cut off, not rounded", ").round().clamp(", ").trunc().clamp("),
            ("int8: mean for largest", "grouped.abs().amax(-1) / LEVELS", "grouped.abs().mean(-1) / LEVELS"),
            ("int8: largest with its sign", "grouped.abs().amax(-1)", "grouped.amax(-1)"),
            ("int8: groups not evened", "    group = -(-n_in // n_groups)  # as", "    group = group  # as"),
            ("int8: infinite weights pass", "if not bool(weight.isfinite().all()):", "if bool(weight.isnan().any()):"),
            (
                "product: bias lost",
                "restore(numbers, scales).to(x.dtype), bias)",
                "restore(numbers, scales).to(x.dtype))",
            ),
            (
                "quantize: a shared matrix twice",
                "            if id(part.weight) not in rounded:\n                rounded",
                "            if True:\n                rounded",
            ),
            (
                "quantize: every embedding",
                "isinstance(part, Embedding) and id(part.weight) in rounded:",
                "isinstance(part, Embedding):\n            rounded.setdefault(id(part.weight), rounding(part.weight))",
            ),
        ],
    ),
    (
        "minilm/decoding/quantize.py",
        "test_quantize.py::test_smaller_groups_are_closer_and_an_outlier_spoils_only_its_own",
        [
            ("restore: scales tiled", "scales.repeat_interleave(group, dim=1)", "scales.repeat(1, group)"),
        ],
    ),
    (
        "minilm/decoding/regular.py",
        "test_regular.py::test_the_sets_are_those_of_python test_regular.py::test_equal_languages_have_equal_arrays",
        [
            (
                "pattern: a point is no return",
                "DOT = complement(characters((10, 10)))",
                "DOT = complement(characters((10, 10), (13, 13)))",
            ),
            (
                "pattern: a space that does not break",
                "characters((9, 13), (32, 32))",
                "characters((9, 13), (32, 32), (160, 160))",
            ),
            (
                "pattern: at least is exactly",
                "at_most = at_least if not comma else",
                "at_most = at_least if not comma or not high else",
            ),
            ("pattern: plus is star", '"+": (1, None)', '"+": (0, None)'),
            ("pattern: class not negated", "return complement(found) if negated else found", "return found"),
        ],
    ),
    (
        "minilm/decoding/automaton.py",
        "test_regular.py::test_known_sizes test_regular.py::test_equal_languages_have_equal_arrays",
        [
            (
                "automaton: one column splits",
                "{(len(blocks), column) for column in range(len(before))}",
                "{(len(blocks), 0)}",
            ),
            (
                "automaton: jumps of one state",
                "found, waiting = set(states), list(states)",
                "found, waiting = set(states), list(states)[:1]",
            ),
            (
                "automaton: not minimal",
                "        block_of = minimise(table, accepting)\n",
                "        block_of = np.arange(len(table))\n",
            ),
        ],
    ),
    (
        "minilm/decoding/expressions.py",
        "test_regular.py::test_utf8_ranges_spell_each_character_once test_regular.py::test_character_sets "
        "test_regular.py::test_equal_languages_have_equal_arrays test_regular.py::test_known_sizes "
        "test_regular.py::test_all_short_texts_of_a_small_alphabet",
        [
            ("UTF-8: first byte not cut", "    if low[1:] > least:", "    if low[1:] > most:"),
            (
                "UTF-8: last byte cut twice",
                "    if high[1:] < most:\n        last",
                "    if high[1:] <= most:\n        last",
            ),
            (
                "characters: surrogates",
                "for low, high in sorted(part for whole in ranges for part in without(whole, SURROGATES)):",
                "for low, high in sorted(ranges):",
            ),
            ("characters: merged to the later end", "max(high, merged[-1][1])", "high"),
            ("complement: the last one lost", "(low - 1, high)), LAST]", "(low - 1, high)), LAST - 1]"),
            ("repeat: a loop of one state", "loop = self.after([start])", "loop = start"),
            (
                "repeat: once too often",
                "for _ in range(node.high - node.low):",
                "for _ in range(node.high - node.low + 1):",
            ),
        ],
    ),
    (
        "minilm/decoding/json_schema.py",
        "test_json_schema.py::test_patterns_speak_of_the_value_and_not_of_its_spelling "
        "test_json_schema.py::test_what_is_not_supported_is_named test_json_schema.py::test_each_type_by_hand "
        "test_json_schema.py::test_commas_of_optional_properties",
        [
            ("schema: an escaped dollar ties", "% 2 == 0  #", ">= 0  #"),
            ("schema: an anchor of one option", "if (tied_front or tied_behind) and", "if tied_front and"),
            ("schema: one entry too many", "max(low - 1, 0), None if high is None else high - 1", "low, high"),
            (
                "schema: comma in front of the first",
                "before = [optional(pair, COMMA)",
                "before = [optional(COMMA, pair)",
            ),
            ("schema: none before the first", "for i in range(len(pairs))", "for i in range(1)"),
            ("schema: commas behind nothing", "optional(item, more)", "Sequence((optional(item), more))"),
            ("schema: a string has no end", "quoted(Repeat(ANY, low, high))", "quoted(Repeat(ANY, low, None))"),
            ("schema: true is a number", 'return kind == "boolean"', 'return kind in ("boolean", "integer")'),
        ],
    ),
    (
        "minilm/decoding/constrained.py",
        "test_constrained.py::test_special_tokens_and_empty_ones_are_never_text "
        "test_constrained.py::test_tokens_that_lack_a_byte_do_not_lead_into_a_trap "
        "test_constrained.py::test_what_follows_a_wrong_guess_is_left_as_it_is "
        "test_constrained.py::test_ids_beyond_the_tokenizer_are_forbidden "
        "test_constrained.py::test_only_the_end_follows_the_end "
        "test_constrained.py::test_rows_do_not_see_each_other_and_logits_are_left_alone "
        "test_constrained.py::test_rows_may_be_reordered_dropped_doubled_and_taken_back "
        "test_constrained.py::test_a_text_that_ends_like_the_last_one_is_read_from_its_beginning",
        [
            ("constraint: specials are text", "token in {end_of_text, *specials}", "token == end_of_text"),
            ("constraint: empty tokens stay", "ids = np.flatnonzero(lengths)", "ids = np.arange(len(lengths))"),
            ("constraint: one token late", "< (FAR if remaining is None", "<= (FAR if remaining is None"),
            (
                "constraint: into a trap",
                "if remaining is not None or not self.is_complete:",
                "if remaining is not None:",
            ),
            (
                "constraint: ends in the middle",
                "or (state != LEFT and self.automaton.accepting[state])\n        return",
                "or state != LEFT\n        return",
            ),
            ("constraint: one token more", "self.budget - len(output)", "self.budget - len(output) + 1"),
            (
                "constraint: all at one distance",
                "distances[state] = distances[target] + 1",
                "distances[state] = distances[target]",
            ),
            (
                "constraint: ids beyond pass",
                "mask = np.zeros(logits.shape, dtype=bool)",
                "mask = np.ones(logits.shape, dtype=bool)",
            ),
            ("constraint: in the caller's logits", "logits.masked_fill(", "logits.masked_fill_("),
            ("constraint: behind the wrong output", "output[:-1] in self.states:", "output[1:] in self.states:"),
            (
                "constraint: a guess is an error",
                "                row[:] = True  # behind a guess that is refused\n",
                "",
            ),
            (
                "constraint: bytes of the token before",
                "states, places = np.full(len(ids), state), (ends - lengths)[ids]",
                "states, places = np.full(len(ids), state), (ends - lengths)[ids - 1]",
            ),
        ],
    ),
    (
        "minilm/decoding/beam.py",
        "test_beam.py::test_processed_beams_are_exhaustive_search_under_the_constraint[constraint]",
        [
            ("beams: processors left out", "rows, processors)", "rows, ())"),
            (
                "beams: processors see no prompt",
                "SampleConfig(), rows, processors)",
                "SampleConfig(), [text[1:] for text in rows], processors)",
            ),
        ],
    ),
    (
        "minilm/decoding/reading.py",
        "test_chat.py::test_answers_are_those_of_rereading[learned-0-torch.float64] "
        "test_chat.py::test_an_answer_ends_at_any_signal[<|end|>] test_chat.py::test_an_answer_has_a_longest_length "
        "test_chat.py::test_what_was_read_is_not_read_again",
        [
            ("conversation: the cache survives Ctrl-C", "except BaseException:", "except ValueError:"),
            (
                "conversation: a signal is said",
                "        if token in stop_tokens:\n            return\n",
                "",
            ),
            (
                "conversation: context one short",
                "len(text) > limit:\n            return",
                "len(text) >= limit:\n            return",
            ),
            ("conversation: one token more", "range(max_new_tokens):", "range(max_new_tokens + 1):"),
            ("conversation: read again", "            self.text = list(text)\n", "            self.forget()\n"),
        ],
    ),
    (
        "minilm/models/quantized.py",
        "test_quantized.py::test_a_loaded_model_says_the_same_bit_for_bit[llama-20] "
        "test_quantized.py::test_a_quarter_of_the_bytes test_quantized.py::test_what_does_not_fit_is_refused",
        [
            ("quantized: groups of 64 always", "partial(to_int8, group=group)", "to_int8"),
            ("quantized: nothing loaded", "        load_arrays(model, arrays)\n", ""),
            ("quantized: every name stored", "return arrays(self.model)", "return dict(self.model.state_dict())"),
            ("quantized: fractions are cut off", "is not torch.int8:", "is torch.float64:"),
            ("quantized: groups not saved", "group=group)\n        self.model", "group=64)\n        self.model"),
        ],
    ),
    (
        "minilm/runtime.py",
        "test_time_limit.py",
        [
            ("time limit: by the clock on the wall", "time.thread_time, seconds", "time.monotonic, seconds"),
            ("time limit: of all threads", "time.thread_time, seconds", "time.process_time, seconds"),
            ("time limit: the outer one is lost", "        if outer:\n", "        if outer < 0:\n"),
            ("time limit: the handler stays", "        signal.signal(signal_number, handler)\n", ""),
            (
                "time limit: rings once",
                "        signal.setitimer(timer, left)  # the timer",
                "        return  # the timer",
            ),
        ],
    ),
    (
        "minilm/checks/observe.py",
        "test_time_limit.py",
        [
            ("place: a clone is the student's", "    str(Path(__file__).parents[1]),\n", ""),
            ("place: outermost line", "own[-1].lineno}", "own[0].lineno}"),
        ],
    ),
    (
        "minilm/cli/talk.py",
        "test_chat.py::test_answers_are_those_of_rereading[learned-0-torch.float64] "
        "test_chat.py::test_an_answer_ends_at_any_signal[<|end|>]",
        [
            ("chat: special tokens are said", "self.max_new_tokens, signals)", "self.max_new_tokens)"),
        ],
    ),
]

"""Mistakes for tests/mutations.py in finetuning/, tasks/ and the classifiers of classical/, and in the measures of metrics.py."""

# as in mutations_decoding.py: file, the tests that have to notice, and mistakes: (name, old text, new text)
FINETUNING: list[tuple[str, str, list[tuple[str, str, str]]]] = [
    (
        "minilm/metrics.py",
        "test_overlap.py::test_by_hand test_overlap.py::test_comparable_words_by_hand "
        "test_overlap.py::test_rouge_words_by_hand",
        [
            (
                "lcs: the best of one side",
                "word == other else max(above[j + 1], row[j])",
                "word == other else above[j + 1]",
            ),
            ("token F1: sets of words", "(Counter(words) & Counter(wanted)).total()", "len(set(words) & set(wanted))"),
            (
                "exact match: characters not composed",
                'unicodedata.normalize("NFC", text.casefold())\n    kept',
                "text.casefold()\n    kept",
            ),
            (
                "rouge: marks part words",
                'if unicodedata.category(c)[0] in "LMN" else',
                'if unicodedata.category(c)[0] in "LN" else',
            ),
            (
                "rouge: recall alone",
                "2 * longest_common_subsequence(words, wanted) / (len(words) + len(wanted))",
                "longest_common_subsequence(words, wanted) / len(wanted)",
            ),
        ],
    ),
    (
        "minilm/metrics.py",
        "test_classification_metrics.py::test_the_names_of_every_short_row_of_tags "
        "test_classification_metrics.py::test_entity_f1_counts_the_names_of_all_rows_together "
        "test_classification_metrics.py::test_entity_f1_of_every_pair_of_short_rows",
        [
            ("entities: names of one word", 'if place == "I" and found and found[-1][1:] == (i, kind):', "if False:"),
            ("entities: another kind goes on", "found[-1][1:] == (i, kind):", "found[-1][1] == i:"),
            ("entities: a name goes on behind a gap", "found[-1][1:] == (i, kind):", "found[-1][2] == kind:"),
            ("entities: a B goes on", 'if place == "I" and found', "if found"),
            ("entities: an I begins nothing", 'elif place != "O":', 'elif place == "B":'),
            ("entities: the first of the kind", 'one.partition("-")', 'one.rpartition("-")'),
            ("entity F1: rows are mixed up", "{(i, *name) for i, row", "{(0, *name) for i, row"),
            ("entity F1: precision", ") / (len(ours) + len(theirs)) if", "* 0.5) / len(ours) if"),
            (
                "entity F1: kinds do not count",
                "for name in entities(row)}",
                "for name in [one[:2] for one in entities(row)]}",
            ),
            ("entity F1: nothing is 0", "if ours or theirs else 1.0", "if ours or theirs else 0.0"),
        ],
    ),
    (
        "minilm/tasks/sentiment.py",
        "test_story_tasks.py::test_labels_alternate test_story_tasks.py::test_the_label_of_a_story_is_how_it_ends",
        [
            ("sentiment: labels begin with the other", "LABELS[(i + 1) % 2]", "LABELS[i % 2]"),
            (
                "sentiment: moods swapped",
                '{"positive": "happy", "negative": "sad"}',
                '{"positive": "sad", "negative": "happy"}',
            ),
            ("sentiment: silent names the feeling", 'if form == "silent" else', 'if form == "quiet" else'),
            ("sentiment: gloomy is said", 'told.without("glad", "gloomy")', 'told.without("glad")'),
            ("sentiment: any ending", "if ending.mood == mood)", ")"),
        ],
    ),
    (
        "minilm/tasks/labelled.py",
        "test_labelled.py::test_columns_are_named_guessed_and_said test_labelled.py::test_folders_as_aclimdb "
        "test_labelled.py::test_json_lines_and_lists "
        "test_labelled.py::test_columns_without_names_are_told_apart_by_what_stands_in_them",
        [
            ("labelled: rows without text stay", "[example for example in examples if example.text]", "list(examples)"),
            ("labelled: unsup is a label", 'LEFT_OUT = {"unsup"}', "LEFT_OUT = set()"),
            ("labelled: hidden folders are labels", ' or folder.name.startswith("."):', ":"),
            ("labelled: 1.0 is not 1", 're.sub(r"^([+-]?\\d+)\\.0+$", r"\\1", name)', "name"),
            ("labelled: the shortest column is the text", "i = max((c for", "i = min((c for"),
        ],
    ),
    (
        "minilm/tasks/tables.py",
        "test_labelled.py::test_any_csv_of_two_columns_just_works "
        "test_labelled.py::test_each_error_is_one_line_that_names_the_file_and_the_row "
        "test_labelled.py::test_quotes_with_a_backslash_and_all_cells_quoted",
        [
            ("tables: a byte order mark stays", 'data = b"".join(read_blocks(path))', "data = path.read_bytes()"),
            ("tables: the line is that of the row", "begins = reader.line_num + 1", "begins = begins + 1"),
            ("tables: empty lines are rows", "if any(cell.strip() for cell in row):", "if row is not None:"),
            (
                "tables: uneven rows pass",
                "        if len(row) != len(rows[0]):\n            raise",
                "        if False:\n            raise",
            ),
            (
                "tables: doubled quotes only",
                '({"doublequote": True}, {"doublequote": False, "escapechar": "\\\\"})',
                '({"doublequote": True},)',
            ),
        ],
    ),
    (
        "minilm/classical/bag_of_ngrams.py",
        "test_bag_of_ngrams.py::test_ngrams_by_slices test_bag_of_ngrams.py::test_words",
        [
            ("bag: the longest only", "for n in range(1, longest + 1):", "for n in range(longest, longest + 1):"),
            ("bag: one too short", "for n in range(1, longest + 1):", "for n in range(1, longest):"),
            ("bag: capitals count", "text.lower())", "text)"),
            ("bag: signs are not composed", 'unicodedata.normalize("NFC", text.lower())', "text.lower()"),
            ("bag: curly apostrophes stay", '.replace("’", "\'")', ""),
        ],
    ),
    (
        "minilm/classical/classifier.py",
        "test_naive_bayes.py::test_the_posterior_in_fractions test_naive_bayes.py::test_long_texts_keep_finite_logs",
        [
            (
                "classifier: labels as they come",
                "names = tuple(sorted(set(labels)))",
                "names = tuple(dict.fromkeys(labels))",
            ),
            ("classifier: the least likely", ".argmax(axis=1)]\n\n\nclass", ".argmin(axis=1)]\n\n\nclass"),
            ("classifier: no bias", "self.vocabulary) @ self.weights + self.bias", "self.vocabulary) @ self.weights"),
            (
                "classifier: the maximum stays",
                "    scores = scores - scores.max(axis=1, keepdims=True)\n",
                "    scores = scores + 0\n",
            ),
            (
                "classifier: normalised over the texts",
                "np.log(np.exp(scores).sum(axis=1, keepdims=True))",
                "np.log(np.exp(scores).sum(axis=0, keepdims=True))",
            ),
        ],
    ),
    (
        "minilm/classical/naive_bayes.py",
        "test_naive_bayes.py::test_the_posterior_in_fractions "
        "test_naive_bayes.py::test_each_class_tells_texts_with_total_probability_one",
        [
            ("naive Bayes: not smoothed", " + self.smoothing  #", " + 1.0  #"),
            ("naive Bayes: shares of an n-gram", "counts.sum(axis=0)", "counts.sum(axis=1, keepdims=True)"),
            ("naive Bayes: all classes alike", "np.log(Y.mean(axis=0))", "np.zeros(Y.shape[1])"),
            ("naive Bayes: counts of texts", "np.log(Y.mean(axis=0))", "np.log(Y.sum(axis=0))"),
            ("naive Bayes: no log", "np.log(counts / counts.sum(axis=0))", "counts / counts.sum(axis=0)"),
        ],
    ),
    (
        "minilm/classical/ngram_classifier.py",
        "test_ngram_classifier.py::test_bayes_rule_text_by_text test_ngram_classifier.py::test_what_it_refuses",
        [
            ("n-gram classifier: no prior", "np.stack(scores, axis=1) + self.log_prior", "np.stack(scores, axis=1)"),
            (
                "n-gram classifier: every class reads all",
                "zip(texts, column, strict=True) if here]",
                "zip(texts, column, strict=True)]",
            ),
            (
                "n-gram classifier: the end is the next one's",
                "owner += [i] * len(document)",
                "owner += [i] * (len(document) - 1) + [min(i + 1, len(texts) - 1)]",
            ),
            ("n-gram classifier: all tokens owned by one", "np.bincount(owner, model", "np.bincount(0 * owner, model"),
            (
                "n-gram classifier: an end within passes",
                "if document.index(self.end_of_text) < len(document) - 1:",
                "if False:",
            ),
        ],
    ),
    (
        "minilm/classical/logistic_regression.py",
        "test_logistic_regression.py::test_value_gradient_and_hessian_are_those_of_autograd",
        [
            (
                "logistic: the bias is penalised too",
                "self.strength / 2 * (theta[:-1] ** 2)",
                "self.strength / 2 * (theta ** 2)",
            ),
            ("logistic: penalty without the half", "self.strength / 2 * (theta", "self.strength * (theta"),
            (
                "logistic: sum, not mean",
                "float(-(log_P * self.Y).sum() / len(self.Y) +",
                "float(-(log_P * self.Y).sum() +",
            ),
            (
                "logistic: gradient the other way",
                "np.exp(log_normalise(self._scores(theta))) - self.Y, theta",
                "self.Y - np.exp(log_normalise(self._scores(theta))), theta",
            ),
            ("logistic: gradient without penalty", " + self.strength * theta[:-1]\n", "\n"),
        ],
    ),
    (
        "minilm/finetuning/heads.py",
        "test_heads.py::test_each_pooling_by_definition "
        "test_heads.py::test_a_head_leaves_the_backbone_it_came_from_alone "
        "test_heads.py::test_pitfall_32_a_text_is_judged_as_if_it_were_alone",
        [
            (
                "heads: the last place, padding or not",
                "return hidden[torch.arange(len(hidden), device=hidden.device), lengths - 1]",
                "return hidden[:, -1]",
            ),
            (
                "heads: the mean of padding too",
                "hidden.where(mask[..., None], 0.0).sum(1) / lengths[:, None]",
                "hidden.mean(1)",
            ),
            ("heads: divided by the width", ".sum(1) / lengths[:, None]", ".mean(1)"),
            ("heads: the given backbone is taken", "cls(config, copy.deepcopy(backbone))", "cls(config, backbone)"),
            ("heads: a span ends in padding", '.masked_fill(~mask[..., None], float("-inf"))', ""),
        ],
    ),
    (
        "minilm/finetuning/skills.py",
        "test_finetune_figures.py::test_row_59_with_frozen_tables_a_model_learns_to_stop "
        "test_finetune_figures.py::test_parts_of_speech_are_judged_by_macro_f1 "
        "test_finetune_figures.py::test_the_answers_judged_are_drawn_from_all",
        [
            ("skills: a frozen table grows", " and not config.freeze:", ":"),
            ("skills: names in any tags", "if are_bio(self.labels) else", "if True else"),
            ("skills: the first answers are judged", "random.Random(0).sample(range(n), min(", "range(min("),
        ],
    ),
    (
        "minilm/finetuning/sft.py",
        "test_sft.py::test_row_80_a_prompt_and_its_answer "
        "test_sft.py::test_row_80_every_turn_of_the_assistant_with_its_end_and_nothing_else",
        [
            (
                "sft: targets one place early",
                "zip(ids[1:], counted[1:], strict=True)",
                "zip(ids[1:], counted[:-1], strict=True)",
            ),
            ("sft: the end is not learned", "[True] * len(answer_and_end)", "[True] * len(answer_ids) + [False]"),
            (
                "sft: whose turn it is, is learned",
                'counted += [False] + [message["role"] == "assistant"] * (len(turn) - 1)',
                'counted += [message["role"] == "assistant"] * len(turn)',
            ),
            (
                "sft: the end of a turn is not learned",
                'counted += [False] + [message["role"] == "assistant"] * (len(turn) - 1)',
                'counted += [False] + [message["role"] == "assistant"] * (len(turn) - 2) + [False]',
            ),
            (
                "sft: the system is learned",
                '[message["role"] == "assistant"] * (len(turn) - 1)',
                '[message["role"] != "user"] * (len(turn) - 1)',
            ),
        ],
    ),
    (
        "minilm/finetuning/vocabulary.py",
        "test_vocabulary.py::test_parts_modes_and_types_stay test_vocabulary.py::test_tied_stays_tied "
        "test_vocabulary.py::test_new_rows_are_the_mean_of_the_old_ones_and_all_different "
        "test_vocabulary.py::test_old_rows_keep_their_bits_and_nothing_else_changes",
        [
            (
                "vocabulary: frozen rows learn",
                "grown[id(old)] = nn.Parameter(rows, requires_grad=old.requires_grad)",
                "grown[id(old)] = nn.Parameter(rows)",
            ),
            ("vocabulary: a tied head comes loose", "if id(old) not in grown:", "if True:"),
            ("vocabulary: new rows of noise", "exact.mean(0) + NOISE", "NOISE"),
            ("vocabulary: new rows all alike", "NOISE * exact.std(0, correction=0) * noise", "0 * noise"),
            (
                "vocabulary: one embedding of several",
                "[*model.embeddings, model.lm_head]",
                "[model.embeddings[0], model.lm_head]",
            ),
        ],
    ),
    (
        "minilm/finetuning/lora.py",
        "test_lora.py::test_output_is_the_formula_in_loops "
        "test_lora.py::test_without_the_adapter_it_is_the_base_or_the_merged_model "
        "test_lora.py::test_A_starts_normal_with_variance_one_over_inputs_and_B_at_zero",
        [
            ("lora: not scaled", "return scale * linear(linear(x, A), B)", "return linear(linear(x, A), B)"),
            ("lora: merged without scale", "return weight + scale * (B @ A)", "return weight + B @ A"),
            (
                "lora: B begins at a number",
                "linear.weight.new_zeros(d_out, rank)",
                "0.01 * torch.ones(d_out, rank).to(linear.weight)",
            ),
            (
                "lora: A begins at zero",
                "torch.randn(rank, d_in, generator=generator) / math.sqrt(d_in)",
                "torch.zeros(rank, d_in)",
            ),
            ("lora: A as wide as the rank", "/ math.sqrt(d_in)", "/ math.sqrt(rank)"),
        ],
    ),
]

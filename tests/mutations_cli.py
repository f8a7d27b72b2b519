"""Mistakes for tests/mutations.py in cli/ and in what its verbs say: options, convert, describe, finetune, the loss as a
picture, the checks; and in the places of other rooms that a converted, grown or judged model needs."""

# as in mutations_decoding.py: file, the tests that have to notice, and mistakes: (name, old text, new text)
CLI: list[tuple[str, str, list[tuple[str, str, str]]]] = [
    (
        "minilm/finetuning/vocabulary.py",
        "test_vocabulary.py::test_the_first_n_grams_of_a_window_are_found_again",
        [
            (
                "vocabulary: the first n-grams are lost",
                '        sizes["no_token"] = model.no_token\n',
                '        sizes["no_token"] = vocab_size\n',
            ),
            ("vocabulary: grown twice they are lost", "= model.no_token", "= old_size"),
        ],
    ),
    (
        "minilm/models/speedrun_gpt.py",
        "test_speedrun.py::test_what_stands_before_a_text_is_the_id_vocab_size_to_its_ngrams "
        "test_speedrun.py::test_without_ngrams_and_beyond_the_shift",
        [
            ("speedrun: no_token of the config ignored", " if config.no_token is None else config.no_token", ""),
            ("speedrun: n-grams read -1", "tokens.where(tokens >= 0, self.no_token)", "tokens"),
            ("speedrun: the first token before a text", "tokens.where(source >= 0, -1)", "tokens"),
            ("speedrun: shifted in before a text", "token * there) * there[..., None]", "token * there)"),
        ],
    ),
    (
        "minilm/training/muon.py",
        "test_optim.py::test_muon_leaves_every_head_to_adamw test_optim.py::test_muon_takes_the_maps_and_adamw_the_rest",
        [
            ("muon: a head of labels is a matrix", '{"lm_head", "score"}', '{"lm_head"}'),
            ("muon: a head of tokens is a matrix", '{"lm_head", "score"}', '{"score"}'),
            ("muon: only whole names", 'not HEADS & set(name.split("."))', "name not in HEADS"),
        ],
    ),
    (
        "minilm/models/part_accounts.py",
        "test_part_accounts.py",
        [
            ("parts: a scale is a byte", "numbers + 4 * scales", "numbers + scales"),
            ("parts: one scale an output", "n_out * n_groups(n_in, group)", "n_out"),
            ("parts: an adapter of one side", "rank * (n_out + n_in)", "rank * 2 * n_in"),
            ("parts: an adapter on the head", '(not targets and name != "lm_head")', "not targets"),
            ("parts: the base is in the checkpoint", "learns=False, here=False)", "learns=False)"),
            ("parts: a head without a shift", 'Part("head", C * D + C,', 'Part("head", C * D,'),
            ("parts: two heads", 'brick.name not in ("lm_head", "loss")', 'brick.name != "loss"'),
            ("parts: tables are matrices", "len(brick.weight) == 2 and brick.flops", "len(brick.weight) == 2"),
            ("parts: any type of a rounded model", 'if dtype != "float32":', 'if dtype == "float64":'),
            ("parts: the whole context always", "batch_size, length, dtype)\n    if kind", "batch_size)\n    if kind"),
        ],
    ),
    (
        "minilm/cli/describing.py",
        "test_part_accounts.py::test_json_has_the_sums_and_the_parts test_part_accounts.py::test_tables_of_people",
        [
            ("describe: bits are bytes", "8 * a.weights / a.parameters", "a.weights / a.parameters"),
            ("describe: all learn", "a.learned / a.parameters", "a.parameters / a.parameters"),
            ("describe: the plain model's FLOPs", '"flops_forward": part.flops}', '"flops_forward": 0}'),
        ],
    ),
    (
        "minilm/cli/convert.py",
        "test_convert.py",
        [
            ("convert: the plan goes along", "if name not in OF_TRAINING}", "if name}"),
            ("convert: no state goes along", "state=state)", "state={})"),
            (
                "convert: the score of another model",
                "None if options.int8 else checkpoint.validation",
                "checkpoint.validation",
            ),
            ("convert: step 0", "step=checkpoint.step, ", ""),
            ("convert: the group ignored", "Quantized(model, group or GROUP)", "Quantized(model)"),
            ("convert: the examples stay behind", "if (checkpoint.path.parent / ASIDE).is_file():", "if False:"),
            ("convert: the examples are not described", 'state["files"] = describe_files(out, [ASIDE])', "pass"),
            ("convert: nothing is merged", "        model = model.merged()\n", "        pass\n"),
            ("convert: half a folder is left", "    with whole_or_nothing(out):\n", "    if True:\n"),
            ("convert: any group", "options.group < 1", "options.group < 0"),
            (
                "convert: the base ignored",
                "load_with_base(options.checkpoint, options.base)",
                "load_with_base(options.checkpoint, None)",
            ),
        ],
    ),
    (
        "minilm/cli/options.py",
        "test_options.py",
        [
            ("options: names within names", r"(?<![\w./-])", ""),
            ("options: any word is an option", 'if "_" not in name:', "if not name:"),
            ("options: the flag of no one", "word in arguments if (found", "word in [] if (found"),
            ("options: the value is part of the flag", '"--[a-z][a-z0-9-]*"', '"--.*"'),
            ("options: the default of the field", "own.get(field.name, field.default)", "field.default"),
            ("options: choices not shown", "if choices else base.__name__.upper()", "if not field else base.__name__"),
            (
                "options: every field is an option",
                "if not field.metadata or field.name in skip",
                "if field.name in skip",
            ),
        ],
    ),
    (
        "minilm/cli/finetune.py",
        "test_cli_finetune.py::test_steps_or_epochs test_cli_finetune.py::test_an_adapter_has_a_recipe_of_its_own "
        "test_cli_finetune.py::test_answers_are_held_against_those_before "
        "test_cli_finetune.py::test_the_help_shows_tasks_and_the_defaults_that_hold",
        [
            ("finetune: steps beside epochs", 'if {"steps", "epochs"} <= chosen.keys():', "if False:"),
            (
                "finetune: an adapter learns as long as a model",
                "make_config(FinetuneConfig, gentle, chosen)",
                "make_config(FinetuneConfig, chosen)",
            ),
            (
                "finetune: an adapter learns as slowly as a model",
                "make_config(TrainConfig, RECIPE, gentle, chosen)",
                "make_config(TrainConfig, RECIPE, chosen)",
            ),
            (
                "finetune: what was said is overruled",
                "make_config(FinetuneConfig, gentle, chosen)",
                "make_config(FinetuneConfig, chosen, gentle)",
            ),
            ("finetune: the score before is not kept", '"before": before,\n', '"before": None,\n'),
            ("finetune: the help of training", "defaults={**RECIPE, **FROM_EPOCHS}", "defaults={}"),
        ],
    ),
    (
        "minilm/plots/loss.py",
        "test_plots_loss.py",
        [
            ("loss: always two panels", "bool(checks) and unit != validation_unit", "bool(checks)"),
            ("loss: the highest is the best", "min(checks, key", "max(checks, key"),
            (
                "loss: the last is the best",
                "step, value = min(checks, key=lambda check: check[1])",
                "step, value = checks[-1]",
            ),
            ("loss: the words run out of the picture", '"right" if late', '"left" if late'),
            ("loss: the mean lags behind", "x[window // 2 :][: len(mean)]", "x[window - 1 :]"),
        ],
    ),
    (
        "minilm/checks/compare.py",
        "test_checks.py::test_a_number_that_is_right_in_float32_is_a_pass_with_a_note "
        "test_checks.py::test_what_float32_has_rounded_is_told",
        [
            ("compare: numbers of float32 are wrong", "if hint == ROUNDED and (digits", 'if hint == "" and (digits'),
            ("compare: six places behind the point", "rel_tol=SINGLE)", "rel_tol=SINGLE, abs_tol=SINGLE)"),
            (
                "compare: arrays of float32 are right, too",
                "all(isinstance(answer, float) for answer in expected)",
                "all(True for answer in expected)",
            ),
            (
                "compare: a tensor is no number",
                "number = answer.item() if isinstance(answer",
                "number = answer if isinstance(answer",
            ),
        ],
    ),
]

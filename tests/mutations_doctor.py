"""Mistakes for tests/mutations.py in the doctor, which examines a device before it is trained on."""


def tests(*names: str) -> str:
    """Tests of the doctor's file, as the table wants them."""
    return " ".join(f"test_doctor.py::test_{name}" for name in names)


# as in mutations_decoding.py: file, the tests that have to notice, and mistakes: (name, old text, new text)
DOCTOR: list[tuple[str, str, list[tuple[str, str, str]]]] = [
    (
        "minilm/training/doctor.py",
        tests(
            "wrong_by_hand",
            "what_is_not_finite_is_infinitely_wrong",
            "infinities_may_be_right",
            "shapes_and_zeros_and_whole_numbers",
            "rounding_is_no_error_and_one_percent_is",
            "a_missing_result_is_wrong_and_a_refusal_is_not_offered",
            "a_place_rounds_what_its_reference_rounds",
            "ranks_by_hand",
        ),
        [
            ("doctor: 1 % of all is rounding", "zip(off, (single, together)", "zip(off, (single, single)"),
            ("doctor: one wrong number among many", "float(parts.max())", "float(parts.mean())"),
            ("doctor: errors cancel", "(off * want).mean()", "(off * want.abs()).mean()"),
            ("doctor: no number is a number", "if not bool(off.isfinite().all()):", "if False:"),
            ("doctor: infinity has no sign", " and torch.equal(got[~finite], want[~finite])", ""),
            ("doctor: the shape may be another", "got.shape != want.shape", "got.numel() != want.numel()"),
            ("doctor: what is missing is right", "else (math.inf, math.inf)", "else (0.0, 0.0)"),
            ("doctor: a refusal is an error", "NOT_OFFERED, why=first", "WRONG, why=first"),
            ("doctor: another beginning", "x.to(self.rounded).to(self.dtype)", "x.to(self.dtype)"),
            ("doctor: what is right clears nobody", "n_wrong * (wrong + right)", "n_wrong * wrong"),
        ],
    ),
    (
        "minilm/training/doctor.py",
        tests("every_operation_of_the_house_is_asked", "one_strided_input_makes_a_call_strided"),
        [
            (
                "doctor: what arrives whole is not taken apart",
                "if torch.is_inference_mode_enabled() or any(x.is_inference() for x in inputs):",
                "if False:",
            ),
            ("doctor: strided is contiguous", "if all(x.is_contiguous()", "if any(x.is_contiguous()"),
        ],
    ),
    (
        "minilm/training/doctor_bricks.py",
        tests("every_operation_of_the_house_is_asked", "one_percent_in_any_operation_is_caught_and_named"),
        [
            ("doctor: no kernel is asked for all", ", x.all()[None]])", "])"),
        ],
    ),
    (
        "minilm/training/doctor_operations.py",
        tests("layouts_keep_the_numbers_and_are_strided"),
        [
            (
                "doctor: sliced is contiguous",
                "    return wide[..., 1::2]\n",
                "    return wide[..., 1::2].contiguous()\n",
            ),
            ("doctor: transposed is as it was", "x.mT.contiguous().mT", "x.mT.mT"),
        ],
    ),
    (
        "minilm/training/doctor_draws.py",
        tests(
            "a_wrong_random_stream_is_caught",
            "a_generator_that_forgets_is_caught",
            "a_large_array_is_held_once",
        ),
        [
            ("doctor: any mean is a mean", "SIGMAS = 6.0", "SIGMAS = 60.0"),
            ("doctor: a seed may forget", 'torch.equal(first, numbers["again"])', "True"),
            ("doctor: all seeds are one", 'float((first == numbers["other"]).double().mean()) < 0.01', "True"),
            ("doctor: a state may be lost", 'torch.equal(following, numbers["restored"])', "True"),
            ("doctor: a sum of eight times the size", "x.count_nonzero() - n", "x.sum() - n"),
        ],
    ),
    (
        "minilm/training/doctor_machine.py",
        tests(
            "memory_of_the_machine_and_of_a_step",
            "a_container_may_have_less_than_its_machine",
            "a_number_type_that_is_wrong_or_refused",
        ),
        [
            ("doctor: memory that is used again", "ctypes.CDLL(None).malloc_trim(0)", "ctypes.CDLL(None)"),
            ("doctor: the peak never begins anew", 'write_text("5"', 'write_text("4"'),
            ("doctor: the whole limit is left", "int(most) - int(used)", "int(most)"),
            ("doctor: every type is right", 'return "ok" if fine else "WRONG"', 'return "ok"'),
        ],
    ),
    (
        "minilm/training/doctor_report.py",
        tests("tables_and_sentences"),
        [
            (
                "doctor: the table shows the largest error",
                "([OK, NOT_OFFERED, WRONG].index(finding.state), finding.error))",
                "finding.error)",
            ),
            (
                "doctor: nothing is explained",
                "for dtype, finding in said.items() if finding.state != OK]",
                "for dtype, finding in said.items() if not said]",
            ),
            (
                "doctor: JSON with an infinity",
                "finding.error if math.isfinite(finding.error) else None",
                "finding.error",
            ),
        ],
    ),
    (
        "minilm/cli/doctor.py",
        tests(
            "training_on_the_cpu_pays_for_no_examination",
            "training_refuses_a_device_that_computes_wrong",
            "training_asks_for_bfloat16_only_where_it_is_used",
            "a_device_without_float64_computes_right_and_cannot_turn_positions",
            "the_verb_names_what_is_wrong",
        ),
        [
            (
                "doctor: exit 0 whatever is wrong",
                'return 3 if any(report["wrong"]',
                'return 3 if all(not report["wrong"]',
            ),
            ("doctor: nobody is asked", "    if device.type in TRUSTED:\n", "    if True:\n"),
            ("doctor: the CPU is asked", "    if device.type in TRUSTED:\n", "    if False:\n"),
            (
                "doctor: bfloat16 is believed",
                "fromkeys([torch.float32, pick_dtype(dtype, device)])",
                "fromkeys([torch.float32])",
            ),
            (
                "doctor: bfloat16 is always asked",
                "fromkeys([torch.float32, pick_dtype(dtype, device)])",
                "fromkeys([torch.float32, torch.bfloat16])",
            ),
            (
                "doctor: wrong is good enough",
                "if any(finding.state == WRONG for finding in findings):",
                "if all(finding.state == WRONG for finding in findings):",
            ),
            (
                "doctor: what it cannot compute it trains",
                "if finding.state == NOT_OFFERED and kind and",
                "if finding.state == WRONG and kind and",
            ),
        ],
    ),
    (
        "minilm/training/compiling.py",
        tests(
            "compile_that_crashes_is_told",
            "the_reason_is_that_of_the_first_error",
            "what_is_compiled_is_compared",
            "training_falls_back_in_one_line",
            "a_short_run_is_not_compiled_and_nothing_is_tried",
        ),
        [
            ("compile: other numbers", "rtol=1e-4, atol=1e-5", "rtol=1e-2, atol=1e-2"),
            ("compile: the last error", "while error.__cause__ is not None:", "while False:"),
            ("compile: in a short run", "config.minutes < LEAST_MINUTES", "config.minutes > LEAST_MINUTES"),
            ("compile: without a word", '    say(f"--compile:', '    str(f"--compile:'),
        ],
    ),
]

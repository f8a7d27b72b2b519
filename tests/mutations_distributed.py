"""Mistakes for tests/mutations.py where several processes train: training/distributed.py, training/sharded.py, cli/crew.py."""

# as in mutations_decoding.py: file, the tests that have to notice, and mistakes: (name, old text, new text)
DISTRIBUTED: list[tuple[str, str, list[tuple[str, str, str]]]] = [
    (
        "minilm/training/distributed.py",
        "test_distributed.py::test_every_row_is_in_one_share_and_shares_differ_by_one_row_at_most "
        "test_distributed.py::test_gradients_are_those_of_one_process "
        "test_distributed.py::test_gradients_are_exchanged_once_an_update "
        "test_distributed.py::test_weights_that_differ_end_the_run_on_all "
        "test_distributed.py::test_each_process_tosses_its_own_coins_from_one_common_generator "
        "test_distributed.py::test_agreement_on_numbers test_distributed.py::test_one_clock_and_the_same_end "
        "test_distributed.py::test_one_does_the_work_and_all_get_what_it_gives",
        [
            (
                "team: each process counts its own targets",
                "token_shares([*counts, n_targets - sum(counts)])",
                "token_shares([*counts, 0])",
            ),
            ("team: the mean for the sum", "(part * self.size).backward()", "part.backward()"),
            ("team: the sum for the mean of a table", "own.values() / self.size", "own.values()"),
            ("team: padding taken for rows", "part[:length] for part, length", "part for part, length"),
            ("team: gradients exchanged each time", "if last else engine.no_sync()", "if True else engine.no_sync()"),
            (
                "team: gradients exchanged at first",
                "last=number == len(mine)",
                "last=number == 1",
            ),
            ("team: only its own loss", "return self.sum(total), n_targets", "return total, n_targets"),
            ("team: all toss the same coins", "torch.manual_seed(number + rank)", "torch.manual_seed(number)"),
            ("team: the common generator moves apart", "with torch.random.fork_rng(devices=gpus):", "if True:"),
            (
                "share: neighbours for every W-th",
                "inputs[rank::size], targets[rank::size]",
                "inputs[rank:], targets[rank:]",
            ),
            (
                "share: targets of other rows",
                "inputs[rank::size], targets[rank::size]",
                "inputs[rank::size], targets[: len(targets[rank::size])]",
            ),
            ("share: an empty one counts a row", "torch.full_like(targets[:1], IGNORE)", "targets[:1]"),
            ("agree: every one its own clock", "seconds if self.leads else -1.0", "seconds"),
            (
                "agree: the first one's signals",
                "signals[0] if signals else 0.0]",
                "signals[0] if signals and self.leads else 0.0]",
            ),
            ("weights: compared once", "self.steps == 1 or self.steps % self.check_every == 0", "self.steps == 1"),
            ("weights: the first is blamed", "enumerate(others, 1)", "enumerate(others)"),
            ("lead: all do the work", "value = work() if self.leads else None", "value = work()"),
        ],
    ),
    (
        "minilm/training/distributed.py",
        "test_distributed.py::test_a_lost_process_ends_the_others_with_one_voice "
        "test_distributed.py::test_an_error_of_ones_own_is_no_lost_process",
        [
            ("lost: all speak", "speaks = self.rank == noticed[0] and not", "speaks = not"),
            ("lost: those that are left are named", "if rank not in noticed)", "if rank in noticed)"),
            ("lost: no patience kept", "timeout=timedelta(seconds=patience)", "timeout=timedelta(seconds=LONGEST)"),
            (
                "lost: every error is one",
                'if not isinstance(error, dist.DistError) and "gloo" not in str(error):',
                "if False:",
            ),
        ],
    ),
    (
        "minilm/training/sharded.py",
        "test_sharded.py::test_gradients_clipping_and_steps_are_those_of_one_process "
        "test_sharded.py::test_each_holds_a_part_of_the_weights_and_of_the_memory "
        "test_sharded.py::test_gradients_are_exchanged_once_an_update "
        "test_sharded.py::test_tables_that_all_hold_are_compared "
        "test_sharded.py::test_a_sharded_run_goes_on_bit_for_bit_and_in_any_way",
        [
            (
                "shard: only what is outside of the blocks",
                "for part in (*model.blocks, model):",
                "for part in (model,):",
            ),
            (
                "shard: Muon sees its part of a matrix",
                "part_of(orthogonalize(matrix.full_tensor()), matrix)",
                "DTensor.from_local(orthogonalize(matrix.to_local()), matrix.device_mesh, matrix.placements)",
            ),
            ("shard: exchanged each time", "set_requires_gradient_sync(last)", "set_requires_gradient_sync(True)"),
            ("shard: never exchanged", "set_requires_gradient_sync(last)", "set_requires_gradient_sync(False)"),
            (
                "shard: what was loaded stays whole",
                "optimizer.memory[name][what] = part_of(value, p)",
                "part_of(value, p)",
            ),
            ("shard: a part is saved", "array.full_tensor() if isinstance", "array.to_local() if isinstance"),
            ("shard: no copies are compared", "return tables(self.engine.model)", "return []"),
        ],
    ),
    (
        "minilm/cli/crew.py",
        "test_cli_torchrun.py::test_what_stops_the_first_is_said_by_it_alone "
        "test_cli_torchrun.py::test_what_stops_another_is_said_by_it_alone "
        "test_cli_torchrun.py::test_the_same_mistake_of_all_is_said_once "
        "test_cli_torchrun.py::test_each_process_of_a_machine_has_a_gpu_of_its_own "
        "test_cli_torchrun.py::test_it_is_the_run_of_one_process_and_one_speaks "
        "test_cli_torchrun.py::test_what_one_process_does_is_refused_in_one_line",
        [
            ("crew: all are heard", "    if place()[0] == 0:\n        yield", "    if place()[0] >= 0:\n        yield"),
            ("crew: an error of its own is not said", "speak(team.first_to_say())", "speak(False)"),
            ("crew: all say it", "speak(lost.speaks)", "speak(True)"),
            ("crew: no time for the first", "time.sleep(SAME_ERROR)", "time.sleep(0.0)"),
            ("crew: all write", "context if place()[0] == 0 else", "context if True else"),
            ("crew: one GPU for all", 'int(os.environ.get("LOCAL_RANK", rank))', "0"),
            ("crew: too few GPUs", "if n_processes > n_gpus:", "if n_processes > n_gpus + 1:"),
            (
                "crew: several do what one does",
                "if n_processes > 1:\n        raise",
                "if n_processes > 2:\n        raise",
            ),
            ("crew: text prepared by all", "prepare() if crew.leads else None", "prepare()"),
        ],
    ),
]

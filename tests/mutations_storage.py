"""Mistakes for tests/mutations.py in what keeps a run: its directories, its log, its lock, its files of tokens."""

# as in mutations_decoding.py: file, the tests that have to notice, and mistakes: (name, old text, new text)
STORAGE: list[tuple[str, str, list[tuple[str, str, str]]]] = [
    (
        "minilm/training/storage.py",
        "test_storage.py",
        [
            ("storage: nothing reaches the disk", "        sync(file)\n", "        pass\n"),
            ("storage: the folder is not synced", "        sync(temporary)\n", "        pass\n"),
            ("storage: its name is not synced", "        sync(final.parent)\n", "        pass\n"),
            (
                "storage: a new parent is not synced",
                "        sync(path.parent)\n\n\ndef write",
                "        pass\n\n\ndef write",
            ),
            (
                "storage: deleted before it has lost its name",
                "        sync(path.parent)\n        shutil",
                "        shutil",
            ),
            ("storage: manifest first", "(*files.items(), (MANIFEST,", "((MANIFEST,"),
            (
                "storage: the half of it stays",
                "        shutil.rmtree(temporary, ignore_errors=True)\n        raise",
                "        raise",
            ),
            ("storage: links are followed", "    if file.is_symlink():\n", "    if False:\n"),
            (
                "storage: a linked folder is followed",
                "if path.is_symlink() or file.is_symlink():",
                "if file.is_symlink():",
            ),
            ("storage: sizes do not matter", 'file.stat().st_size != expected["bytes"]', "False"),
            ("storage: sums do not matter", '.hexdigest() != expected["sha256"]:', '.hexdigest() == "":'),
            ("storage: the layout does not matter", "to_json(manifest) != file.read_bytes()", "False"),
            ("storage: any format will do", 'manifest["format"] != FORMAT', "False"),
            ("storage: a file elsewhere", "Path(name).name != name or len(name) > 255", "len(name) > 255"),
            ("storage: two values for one name", "if len({name for name, _ in pairs}) < len(pairs):", "if not pairs:"),
            ("storage: no number is a number", ", parse_constant=_no_number", ""),
            ("storage: true is a step", "type(value[name]) not in allowed", "not isinstance(value[name], allowed)"),
            (
                "storage: without a manifest it is passed over",
                "    if not file.is_file():\n        raise Damaged(file",
                "    if False:\n        raise Damaged(file",
            ),
            (
                "storage: steps as words",
                "for step in sorted(found, reverse=True)]",
                "for step in sorted(found, key=str, reverse=True)]",
            ),
            (
                "storage: what stepped aside comes first",
                'parent.glob("step-*"), reverse=True)',
                'parent.glob("step-*"))',
            ),
            (
                "storage: what stepped aside stays",
                '    for aside in parent.glob("step-*.old"):\n',
                "    for aside in ():\n",
            ),
            ("storage: a full disk says no place", "error.filename = error.filename or str(file)", "pass"),
        ],
    ),
    (
        "minilm/training/checkpoint.py",
        "test_checkpoint.py",
        [
            ("checkpoint: the step may be another", 'not in (None, progress["step"]):', "is None and False:"),
            ("checkpoint: read without being listed", "        if name not in listed:\n", "        if False:\n"),
            ("checkpoint: a foreign optimizer", "if TRAINING not in listed and", "if False and"),
            ("checkpoint: the best is believed", '    verify_directory(path, only="state.json")\n', ""),
            (
                "checkpoint: the oldest whole one",
                "    for path in newest_first(run):\n        try:\n            check",
                "    for path in reversed(newest_first(run)):\n        try:\n            check",
            ),
            ("checkpoint: what is damaged is thrown away", "            kept.append(path)\n", "            pass\n"),
            (
                "checkpoint: the best is thrown away",
                "        kept.append(min(scores, key=scores.__getitem__))\n",
                "        pass\n",
            ),
            (
                "checkpoint: the worst is the best",
                "    return min(newest_first(run), key=score)",
                "    return max(newest_first(run), key=score)",
            ),
            (
                "checkpoint: a killed run is any folder",
                "if (path / LOG).exists() or (path / LOCK).exists():",
                "if False:",
            ),
        ],
    ),
    (
        "minilm/training/weights.py",
        "test_checkpoint.py",
        [
            ("weights: no long context", "LARGEST = 2**20 ", "LARGEST = 2**12 "),
            (
                "weights: whole numbers are read as fractions",
                "if _is_whole(array) != _is_whole(arrays[name]):",
                "if False:",
            ),
            (
                "weights: a foreign file is a traceback",
                "except safetensors.SafetensorError as error:",
                "except KeyError as error:",
            ),
        ],
    ),
    (
        "minilm/training/run_log.py",
        "test_run_log.py",
        [
            ("log: with the seconds", ' if name != "seconds"})', "})"),
            (
                "log: half a line is enough",
                "rest = rest[os.write(descriptor, rest) :]",
                'os.write(descriptor, rest)\n                    rest = b""',
            ),
            ("log: the sum lags behind", "        self.digest.update(line)\n", ""),
            ("log: the size lags behind", "        self.n_bytes += len(line)\n", ""),
            ("log: any log will do", "    if description(part) != dict(mark):\n", "    if not part:\n"),
            ("log: never cut", "part = file.read(min(size, log.stat().st_size))", "part = file.read()"),
            ("log: times not cut", 'timing["step"] <= step and mark is not None', "mark is not None"),
            ("log: a full disk says no place", "                error.filename = str(path)\n", ""),
            ("log: stays open", "            os.close(descriptor)\n", "            pass\n"),
        ],
    ),
    (
        "minilm/training/lock.py",
        "test_lock.py",
        [
            ("lock: none", "if not try_lock(descriptor):", "if False:"),
            ("lock: no number", '        os.write(descriptor, f"{os.getpid()}\\n".encode())\n', ""),
            ("lock: not given back", "os.close(descriptor)\n\n\ndef holder_of", "pass\n\n\ndef holder_of"),
            (
                "lock: on a file that is gone",
                "        if _is_open(file, descriptor):\n            return",
                "        if True:\n            return",
            ),
            ("lock: the file stays", "                file.unlink()\n", "                pass\n"),
            ("lock: through a link", 'os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)', "os.O_CREAT"),
        ],
    ),
    (
        "minilm/training/verify.py",
        "test_verify.py",
        [
            ("verify: checkpoints are believed", "            look(check_checkpoint, part)\n", "            pass\n"),
            ("verify: tokens are believed", "if look(verify_token_file, part) else", "if True else"),
            (
                "verify: one damaged file hides all",
                "for name in files if name not in broken]",
                "for name in files if not broken]",
            ),
            ("verify: a damaged file is told twice", "for name in files if name not in broken]", "for name in files]"),
            (
                "verify: the log is believed",
                '            look(_check_log, run / LOG, state["log"])\n',
                "            pass\n",
            ),
            (
                "verify: the text may be another",
                "            look(check_files, run, described)\n",
                "            pass\n",
            ),
            ("verify: a missing log is no finding", "    if not log.exists():\n", "    if False:\n"),
        ],
    ),
    (
        "minilm/text/token_file.py",
        "test_token_file.py",
        [
            ("tokens: ids are believed", '    if digest != read_header(path)["ids_sha256"]:\n', "    if not digest:\n"),
            ("tokens: the line is believed", "if given != (header_line(fields), MAGIC", "if given != (line, MAGIC"),
            (
                "tokens: sum of the last document",
                "            digest.update(ids.tobytes())\n",
                "            digest = hashlib.sha256(ids.tobytes())\n",
            ),
            (
                "tokens: any version",
                "given != (header_line(fields), MAGIC,",
                'given != (header_line(fields), fields["magic"],',
            ),
            ("tokens: less than nothing", "type(number) is not int or number < 0", "type(number) is not int"),
        ],
    ),
    (
        "minilm/training/run.py",
        "test_resume_cli.py::test_who_goes_back_takes_another_way_from_there "
        "test_resume_cli.py::test_a_validation_score_that_is_no_number_is_a_failed_training",
        [
            ("run: later steps stay", "                remove_directory(path)\n", "                pass\n"),
            ("run: a score that is no number", 'if not math.isfinite(record.get("validation", 0.0)):', "if False:"),
        ],
    ),
]

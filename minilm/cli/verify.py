"""`minilm verify`: whether what lies in a run's folder is what was saved there."""

import json

from minilm.cli.options import Parser


def run(arguments: list[str]) -> int:
    """Parse the flags, look at every file, tell what is wrong; exit code 2 if anything is."""
    parser = Parser(
        "verify",
        "Whether a run is whole: each checkpoint, the files that it learns from, and its log are held against the sizes and\n"
        "SHA-256 that were kept when they were saved. Nothing is changed, and no model is built.",
        "minilm verify checkpoints/my-gpt",
    )
    parser.add_argument("folder", help="a run's folder, or one checkpoint")
    parser.option("--json", action="store_true", help="one JSON object: folder, parts, whole, findings")
    options = parser.read(arguments)

    from minilm.training.verify import parts_of, verify_run

    parts, findings = [part.name for part in parts_of(options.folder)], verify_run(options.folder)
    if options.json:
        table = {"folder": options.folder, "parts": parts, "whole": not findings, "findings": findings}
        print(json.dumps(table, ensure_ascii=False))
    else:
        print("\n".join(findings or [f"{options.folder} is whole: {', '.join(parts)}"]))
    if findings:
        raise ValueError(f"{options.folder} is not whole: {len(findings)} of its files are not what was saved")
    return 0

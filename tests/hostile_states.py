"""States of a checkpoint that nobody should load, made on purpose, most of them with a manifest that fits.

HOSTILE is a list of (name, what the error has to name, change): `change(step)` turns a good step directory, beside which lies
step-000002 of the same run, into such a state.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from minilm.models.config import GPTConfig
from minilm.models.gpt import GPT
from minilm.text.tokenizer import CharTokenizer
from minilm.training.checkpoint import save_checkpoint
from minilm.training.config import TrainConfig
from minilm.training.muon import build_optimizer
from minilm.training.storage import MANIFEST

FILES = ["config.json", "weights.safetensors", "tokenizer.json", "state.json", "training.safetensors", MANIFEST]
LAST = "step-000004"


def sign(path: Path) -> None:
    """Make the manifest fit what is there."""
    manifest = json.loads((path / MANIFEST).read_bytes())
    for name in manifest["files"]:
        data = (path / name).read_bytes()
        manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (path / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


Change = Callable[[Path], None]


def content(name: str, data: bytes, signed: bool = True) -> Change:
    """The file holds these bytes."""

    def change(path: Path) -> None:
        (path / name).write_bytes(data)
        if signed and name != MANIFEST:
            sign(path)

    return change


def replaced(name: str, old: bytes, new: bytes) -> Change:
    """The text `old` in a file, which stands there, is `new`."""

    def change(path: Path) -> None:
        data = (path / name).read_bytes()
        assert old in data
        content(name, data.replace(old, new, 1))(path)

    return change


def edited(name: str, edit: Callable[[Any], Any]) -> Change:
    """The JSON of a file is edited in place."""

    def change(path: Path) -> None:
        value = json.loads((path / name).read_bytes())
        edit(value)
        content(name, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())(path)

    return change


def table(name: str, edit: Callable[[dict[str, Any]], Any]) -> Change:
    """The table of a safetensors file is edited; its data stay."""

    def change(path: Path) -> None:
        data = (path / name).read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        edit(header)
        text = json.dumps(header).encode()
        content(name, len(text).to_bytes(8, "little") + text + data[8 + length :])(path)

    return change


def link(name: str, target: str) -> Change:
    def change(path: Path) -> None:
        (path / name).unlink()
        (path / name).symlink_to(target)

    return change


def folder(name: str) -> Change:
    def change(path: Path) -> None:
        (path / name).unlink()
        (path / name).mkdir()

    return change


def fifo(name: str) -> Change:
    def change(path: Path) -> None:
        (path / name).unlink()
        os.mkfifo(path / name)

    return change


def other(*names: str) -> Change:
    """Files of the other step, in the place of this one's."""

    def change(path: Path) -> None:
        for name in names:
            shutil.copy(path.with_name("step-000002") / name, path / name)

    return change


def other_model(*names: str) -> Change:
    """Files of another model's checkpoint, with a manifest that fits."""

    def change(path: Path) -> None:
        config = GPTConfig(vocab_size=11, context_length=7, d_model=8, n_layers=2, n_heads=2)
        model, tokenizer = GPT(config), CharTokenizer.train(["abcdefghij"])
        optimizer = build_optimizer(model, TrainConfig())
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        optimizer.step()
        other = save_checkpoint(path.parent.parent / "other", model, tokenizer, step=4, optimizer=optimizer)
        for name in names:
            shutil.copy(other / name, path / name)
        if MANIFEST not in names:
            sign(path)

    return change


def unlisted(name: str) -> Change:
    """The manifest no longer speaks of a file, which is then changed."""

    def change(path: Path) -> None:
        manifest = json.loads((path / MANIFEST).read_bytes())
        del manifest["files"][name]
        (path / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        shutil.copy(path.with_name("step-000002") / name, path / name)

    return change


def entry(**changes: Any) -> Change:
    return edited(MANIFEST, lambda m: m["files"]["state.json"].update(changes))


def renamed(new: str) -> Change:
    """The whole step under another step's name: what remains there has to be that step."""

    def change(path: Path) -> None:
        path.rename(path.with_name("real"))
        shutil.copytree(path.with_name(new), path)

    return change


DEEP = b"[" * 100_000 + b"]" * 100_000


def some(header: dict[str, Any]) -> dict[str, Any]:
    """The description of one array in a safetensors table."""
    return next(value for name, value in sorted(header.items()) if name != "__metadata__")


CONFIGS: dict[str, Any] = {  # field of the model's config -> what it cannot be
    "vocab_size": [0, -257, 256, 258, 10**9, 10**30, 257.5, "257", None, [257], True],
    "d_model": [0, -8, 16, 10**9, 8.5, "8", None],
    "n_layers": [0, 2, 10**6, None],
    "n_heads": [0, 3, 10**9],
    "context_length": [0, -7, 8, 10**9],
    "dropout": [-0.5, 1.0, "0", None],
    "norm": ["LAYER", None, 3],
}
STATES: dict[str, Any] = {
    "step": [-1, 5, 4.5, "4", None, True, 10**400],
    "validation": ["3", [3], True],
    "state": [None, [], "x"],
    "batches": [[], "x", {}, {"epoch": 0}],
}
BATCHES: dict[str, Any] = {
    "epoch": [-1, 0.5, "0", None, True],
    "position": [-1, 10**9, 0.5, "0", None],
    "seed": [4],
    "n_ids": [100],
}


def set_in(name: str, keys: list[str], value: Any) -> Change:
    def edit(whole: Any) -> None:
        for key in keys[:-1]:
            whole = whole[key]
        whole[keys[-1]] = value

    return edited(name, edit)


def without(name: str, key: str) -> Change:
    return edited(name, lambda whole: whole.pop(key))


# (name, the file or folder that the error has to name, the change)
HOSTILE: list[tuple[str, str, Change]] = [
    *[(f"{f}: {v!r:.20}", "config.json", set_in("config.json", ["config", f], v)) for f in CONFIGS for v in CONFIGS[f]],
    *[(f"{f}: {v!r:.20}", "state.json", set_in("state.json", [f], v)) for f in STATES for v in STATES[f]],
    *[(f"{f}: {v!r:.20}", "state.json", set_in("state.json", ["batches", f], v)) for f in BATCHES for v in BATCHES[f]],
    *[(f"no {key}", "config.json", without("config.json", key)) for key in ("kind", "config", "numpy")],
    *[(f"no {key}", "state.json", without("state.json", key)) for key in ("step", "validation", "batches", "state")],
    *[(f"kind {k!r}", "config.json", set_in("config.json", ["kind"], k)) for k in ("GPT", "", 3, None, ["gpt"], {})],
    *[(f"numpy {k!r}", "config.json", set_in("config.json", ["numpy"], k)) for k in (["nothing"], 3, None, "x", [[]])],
    *[(f"config {k!r}", "config.json", set_in("config.json", ["config"], k)) for k in ([], 3, None, "x")],
    *[
        (f"{name}: {what}", name, content(name, data))
        for name in ("config.json", "state.json", "tokenizer.json", MANIFEST)
        for what, data in {
            "empty": b"", "a number": b"3\n", "a list": b"[]\n", "deep": DEEP, "binary": b"\xff\xfe\0",
            "half": b'{"step": ', "a huge number": b"1" * 5000, "null": b"null\n", "twice": b"{}{}\n",
        }.items()
    ],
    ("a key nobody knows", "config.json", set_in("config.json", ["config", "d_modell"], 8)),
    ("an upper-case key", "config.json", set_in("config.json", ["config", "D_MODEL"], 8)),
    ("duplicate key, config", "config.json", replaced("config.json", b'"d_model": 8', b'"d_model": 4, "d_model": 8')),
    ("duplicate key, step", "state.json", replaced("state.json", b'"step": 4', b'"step": 2, "step": 4')),
    ("duplicate key, kind", "tokenizer.json", replaced("tokenizer.json", b'"kind"', b'"kind": "bpe", "kind"')),
    ("NaN in config", "config.json", replaced("config.json", b'"dropout": 0.0', b'"dropout": NaN')),
    ("NaN score", "state.json", replaced("state.json", b'"validation": 3.0', b'"validation": NaN')),
    ("infinite score", "state.json", replaced("state.json", b'"validation": 3.0', b'"validation": -Infinity')),
    ("NaN in what the caller keeps", "state.json", replaced("state.json", b'"noise"', b"NaN")),
    ("a tokenizer of an unknown kind", "tokenizer.json", set_in("tokenizer.json", ["kind"], "words")),
    ("a tokenizer without kind", "tokenizer.json", without("tokenizer.json", "kind")),
    *[
        (f"{name}: {what}", name, change)
        for name in ("weights.safetensors", "training.safetensors")
        for what, change in {
            "empty": content(name, b""),
            "a header that is longer than the file": content(name, (10**6).to_bytes(8, "little") + b"{}"),
            "a header of 2^63 bytes": content(name, (2**63).to_bytes(8, "little") + b"{}"),
            "a header that is no JSON": content(name, (4).to_bytes(8, "little") + b"{,,}"),
            "a pickle": content(name, b"\x80\x04cos\nsystem\n(S'true'\ntR."),
            "an absurd shape": table(name, lambda h: some(h).update(shape=[10**9, 10**9])),
            "a shape of 10^9": table(name, lambda h: some(h).update(shape=[10**9])),
            "a negative shape": table(name, lambda h: some(h).update(shape=[-1])),
            "offsets beyond the end": table(name, lambda h: some(h).update(data_offsets=[0, 10**12])),
            "negative offsets": table(name, lambda h: some(h).update(data_offsets=[-8, 0])),
            "an unknown type": table(name, lambda h: some(h).update(dtype="F7")),
            "an array less": table(name, lambda h: h.pop(sorted(h)[-1])),
            "no arrays": content(name, (2).to_bytes(8, "little") + b"{}"),
        }.items()
    ],
    ("another model's config", "step-000004", other_model("config.json")),
    ("another model's weights", "step-000004", other_model("weights.safetensors")),
    ("another model's optimizer", "step-000004", other_model("training.safetensors")),
    ("another model's weights and config", "step-000004", other_model("weights.safetensors", "config.json")),
    ("another model's manifest", "step-000004", other_model(MANIFEST)),
    *[(f"{name} of another step", f"{LAST}/{name}", other(name)) for name in ("weights.safetensors", "state.json")],
    ("training.safetensors of another step", f"{LAST}/training.safetensors", other("training.safetensors")),
    ("the manifest of another step", LAST, other(MANIFEST)),
    ("weights and manifest of another step", LAST, other("weights.safetensors", MANIFEST)),
    ("all of another step", LAST, renamed("step-000002")),
    *[(f"format {f!r}", MANIFEST, edited(MANIFEST, lambda m, f=f: m.update(format=f))) for f in (0, 2, "1", True, 1.0)],
    *[(f"no {key}", MANIFEST, without(MANIFEST, key)) for key in ("format", "files")],
    *[(f"{name} is not listed", name, unlisted(name)) for name in FILES if name != MANIFEST],
    *[(f"size {n!r:.20}", LAST, entry(bytes=n)) for n in (-1, 10**30, "5", None, 1.5, [], True)],
    *[(f"hash {h!r:.20}", LAST, entry(sha256=h)) for h in ("", "A" * 64, None, 5, [])],
    ("a size that is no number", MANIFEST, replaced(MANIFEST, b'"bytes": ', b'"bytes": NaN, "x": ')),
    ("an entry with more in it", LAST, entry(link="/etc/passwd")),
    ("duplicate entry", MANIFEST, replaced(MANIFEST, b'"format": 1', b'"format": 2, "format": 1')),
    ("a file outside", LAST, edited(MANIFEST, lambda m: m["files"].update({"../log.jsonl": {"bytes": 0, "sha256": ""}}))),
    ("an absolute file", LAST, edited(MANIFEST, lambda m: m["files"].update({"/etc/passwd": {"bytes": 0, "sha256": ""}}))),
    ("the folder itself", LAST, edited(MANIFEST, lambda m: m["files"].update({".": {"bytes": 0, "sha256": ""}}))),
    ("a name with NUL", LAST, edited(MANIFEST, lambda m: m["files"].update({"a\0b": {"bytes": 0, "sha256": ""}}))),
    ("a name of 10,000 letters", LAST, edited(MANIFEST, lambda m: m["files"].update({"a" * 10**4: {"bytes": 0, "sha256": ""}}))),
    *[(f"{name} is a folder", f"{LAST}", folder(name)) for name in FILES],
    *[(f"{name} is a FIFO", f"{LAST}", fifo(name)) for name in FILES],
    *[(f"{name} links to itself", f"{LAST}", link(name, name)) for name in FILES],
    *[(f"{name} links to nothing", f"{LAST}", link(name, "nowhere")) for name in FILES],
    *[(f"{name} links to another step", LAST, link(name, f"../step-000002/{name}")) for name in ("state.json", MANIFEST)],
    ("weights are an endless device", LAST, link("weights.safetensors", "/dev/zero")),
    ("the manifest is an endless device", LAST, link(MANIFEST, "/dev/zero")),
    *[(f"{name} is missing", f"{LAST}", lambda path, name=name: (path / name).unlink()) for name in FILES],
    *[(f"{name.upper()}", f"{LAST}", lambda path, name=name: (path / name).rename(path / name.swapcase())) for name in FILES],
]  # fmt: skip

"""Tables of strangers for `minilm predict` and `minilm evaluate`: which cells are texts, and what is refused in one line."""

import json
from pathlib import Path

import pytest
import torch

from minilm.cli.main import main
from minilm.models.config import GPTConfig
from minilm.models.gpt import GPT
from minilm.tasks.labelled import load_labelled, load_texts
from minilm.tasks.pairs import load_conversations, load_pairs
from minilm.text.tokenizer import ByteTokenizer
from minilm.training.checkpoint import save_checkpoint

Capture = pytest.CaptureFixture[str]


def put(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, and a classifier and an adapter that were taught by the columns `body` and `verdict`."""
    room = tmp_path_factory.mktemp("room")
    torch.manual_seed(1)
    save_checkpoint(room / "base", GPT(GPTConfig(257, 48, d_model=24, n_layers=1, n_heads=3)), ByteTokenizer())
    rows = [f"some longer words {i},{'abcdefg'[i % 7]}{i}{'!' * (i % 2)},{('calm', 'glad')[i % 2]}" for i in range(80)]
    data = put(room, "reviews.csv", "text,body,verdict\n" + "\n".join(rows) + "\n")
    flags = ["--text-column", "body", "--label-column", "verdict", "--epochs", "1", "--device", "cpu", "--threads", "1"]
    for name, more in (("mood", []), ("adapter", ["--lora", "--rank", "2"])):
        command = ["finetune", str(room / "base"), "--data", str(data), "--out", str(room / name), "--json"]
        assert main([*command, *flags, *more]) == 0
    return room


def last_line(capsys: Capture) -> str:
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1, said
    return said[0]


# ---- which cells are texts


@pytest.mark.parametrize(
    ("name", "text", "texts", "said"),
    [
        ("a.csv", "text\nGood, yes\nplain\n", ["Good, yes", "plain"], "2 texts from column 'text'"),
        ("a.csv", 'text\n"Good, ""yes"""\n\nplain\n', ['Good, "yes"', "plain"], "'text'"),
        ("a.csv", '"text"\n"He said \\"hi\\", ok"\n', ['He said "hi", ok'], "'text'"),
        ("a.csv", "Good, yes\nBad, no\n", ["Good, yes", "Bad, no"], "column 1 of 1, the first row among them"),
        ("a.csv", "Good; so, yes\nplain\nBad, no\n", ["Good; so, yes", "plain", "Bad, no"], "column 1 of 1"),
        ("a.csv", "Good it is,1\nBad,0\n", ["Good it is", "Bad"], "column 1 of 2, the first row among them"),
        ("a.csv", "remark,other\nSo good,x\nSo bad,y\nWell it is,x\n", ["So good", "So bad", "Well it is"], "'remark'"),
        ("a.csv", "id,remark\n1,So good\n2,So bad\n", ["So good", "So bad"], "'remark'"),
        ("a.csv", "id,text\n1,So\n2,\n3,No\n", ["So", "No"], "2 texts from column 'text'; 1 without text dropped"),
        ("a.tsv", "So\t1\nNo, no\t0\n", ["So", "No, no"], "column 1 of 2"),
        ("a.jsonl", '{"text": "So"}\n{"text": null}\n', ["So"], "1 without text dropped"),
        ("a.ndjson", '{"remark": " So "}\n', ["So"], "'remark'"),
    ],
)
def test_the_texts_of_a_table(tmp_path: Path, name: str, text: str, texts: list[str], said: str) -> None:
    heard: list[str] = []
    assert load_texts(put(tmp_path, name, text), say=heard.append) == texts
    assert len(heard) == 1 and said in heard[0]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "id,label\n", "no row under it"),
        ("a.csv", "id,text\n", "no row under it"),
        ("a.csv", "text\n", "no row under it"),
        ("a.csv", "id,text\n1,\n2, \n", "no text in column 'text'"),
        ("a.csv", ",\n,\n", "holds no text"),
        ("a.csv", '""\n""\n', "holds no text"),
        ("a.csv", 'text,label\n"loose,0\nfine,1\n', "quotes that never close"),
        ("a.csv", 'text\nfine\n"loose\n', "after line 2 of .* quoted text does not end well"),
        ("a.csv", "Good,yes\nplain\n", "line 2 of .* has 1 cells"),
        ("a.jsonl", '{"text": "So"}\n{"text": 7}\n', "line 2 of .* int for a text"),
        ("a.jsonl", '{}\n{"text": "So"}\n', "line 1 of .* object without names"),
    ],
)
def test_tables_without_texts_are_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        load_texts(put(tmp_path, name, text))
    assert "\n" not in str(caught.value)


def test_columns_may_be_named_or_likely(tmp_path: Path) -> None:
    table = put(tmp_path, "a.csv", "Title,text,verdict\nOh,longer words,Ah\nNo,other words,So\n")
    assert load_texts(table) == ["longer words", "other words"]
    assert load_texts(table, "Title") == load_texts(table, likely=("Title", None)) == ["Oh", "No"]
    assert load_texts(table, "verdict", likely=("Title", None)) == ["Ah", "So"]
    assert load_texts(table, likely=("body", "mood")) == ["longer words", "other words"]
    with pytest.raises(ValueError, match="no column 'body': there are 'Title', 'text', 'verdict'"):
        load_texts(table, "body")
    pair = put(tmp_path, "b.csv", "Title,Remark\nshort,a longer one\nbrief,another one\n")
    assert load_texts(pair, label="Remark") == load_texts(pair, likely=(None, "Remark")) == ["short", "brief"]


@pytest.mark.parametrize("text", [",\n,\n", '""\n""\n', "\t\n;|\n"])
def test_a_table_of_empty_cells_is_one_line(room: Path, tmp_path: Path, capsys: Capture, text: str) -> None:
    path = str(put(tmp_path, "c.csv", text))
    for command in (
        ["finetune", str(room / "base"), "--out", str(tmp_path / "out")],
        ["predict", str(room / "mood")],
        ["evaluate", str(room / "mood"), "--text-column", "body"],
    ):
        assert main([*command, "--data", path]) == 2
        assert "c.csv' holds no text: give" in last_line(capsys)


def test_a_text_may_be_longer_than_a_field_of_csv(tmp_path: Path) -> None:
    long = "so it is " * 20_000
    rows = [(long.strip(), "a"), ("no", "b")]
    assert load_labelled(put(tmp_path, "a.csv", f'text,label\n"{long}",a\nno,b\n')) == rows
    assert load_texts(put(tmp_path, "b.csv", f"text\n{long}\n")) == [long.strip()]


def test_one_label_is_enough_to_judge(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", "text,label\nso,a\nno,a\n")
    assert load_labelled(path, least=1) == [("so", "a"), ("no", "a")]
    with pytest.raises(ValueError, match="one label only, 'a'"):
        load_labelled(path)


# ---- pairs as Alpaca has them


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_the_input_of_alpaca_stands_behind_its_instruction(tmp_path: Path, name: str) -> None:
    rows = [("Add.", "1 and 2", "3"), ("Say hi.", "", "Hi"), ("Say so.", " ", "So")]
    names = ("instruction", "input", "output")
    lines = [json.dumps(dict(zip(names, row, strict=True))) for row in rows]
    path = put(tmp_path, name, "\n".join(lines if name == "a.jsonl" else map(",".join, [names, *rows])))
    assert load_pairs(path) == [("Add.\n\n1 and 2", "3"), ("Say hi.", "Hi"), ("Say so.", "So")]
    said: list[str] = []
    assert load_conversations(path, say=said.append)[0][0] == {"role": "user", "content": "Add.\n\n1 and 2"}
    assert (
        "prompt from column 'instruction' and, where it is not empty, 'input', answer from column 'output'" in said[0]
    )
    assert load_pairs(path, "instruction", "output")[0] == ("Add.", "3")  # a column that was named is taken alone
    answers = put(tmp_path, "b.csv", "instruction,input\nSay hi.,Hi\n")
    assert load_pairs(answers) == [("Say hi.", "Hi")]
    null = put(tmp_path, "c.jsonl", '{"instruction": "Say hi.", "input": null, "output": "Hi"}')
    assert load_pairs(null) == [("Say hi.", "Hi")]


# ---- the verbs


def test_predict_reads_the_columns_of_fine_tuning(room: Path, tmp_path: Path, capsys: Capture) -> None:
    table = put(tmp_path, "a.ndjson", '{"text": "longer words", "body": "c!"}\n{"text": "more words", "body": null}\n')
    for flags, texts in (([], ["c!"]), (["--text-column", "text"], ["longer words", "more words"])):
        assert main(["predict", str(room / "mood"), "--json", "--data", str(table), *flags]) == 0
        said = capsys.readouterr()
        assert [json.loads(line)["text"] for line in said.out.splitlines()] == texts
    assert main(["predict", str(room / "mood"), "--json", "--data", str(put(tmp_path, "b.csv", "text\nSo, so\n"))]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == "So, so"
    lines = put(tmp_path, "c.txt", "So, so\nNo\n")
    for more in (["--data", str(lines)], ["a text"]):
        assert main(["predict", str(room / "mood"), "--text-column", "body", *more]) == 2
        assert "are for a table: give --data FILE" in last_line(capsys)


def test_evaluate_reads_the_columns_of_fine_tuning(room: Path, tmp_path: Path, capsys: Capture) -> None:
    table = put(tmp_path, "a.csv", "text,body,verdict\n" + "longer words,c!,glad\nmore words,c,calm\n" * 3)
    for flags, columns in (([], "'body'"), (["--text-column", "text"], "'text'")):
        assert main(["evaluate", str(room / "mood"), "--data", str(table), *flags]) == 0
        assert f"text from column {columns}, label from column 'verdict'" in capsys.readouterr().out
    assert main(["evaluate", str(room / "mood"), "--label-column", "mood", "--data", str(table)]) == 2
    assert "no column 'mood'" in last_line(capsys)
    for name, more in (("mood", []), ("base", ["--data", str(table)])):
        assert main(["evaluate", str(room / name), "--label-column", "verdict", *more]) == 2
        assert "of a model that labels texts: leave them out" in last_line(capsys)


def test_an_adapter_is_judged_where_its_base_has_moved(room: Path, capsys: Capture) -> None:
    (room / "base").rename(room / "moved")
    try:
        assert main(["evaluate", str(room / "adapter")]) == 2
        assert "--base" in last_line(capsys)
        assert main(["evaluate", str(room / "adapter"), "--base", str(room / "moved"), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["examples"] == 8
        assert main(["evaluate", str(room / "mood"), "--base", str(room / "moved")]) == 2
        assert "is no adapter" in last_line(capsys)
    finally:
        (room / "moved").rename(room / "base")

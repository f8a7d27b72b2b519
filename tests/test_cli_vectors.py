"""`minilm vectors` and `minilm train --model glove` as their users meet them."""

import json
from pathlib import Path

import numpy as np
import pytest

from minilm.classical.vector_file import read_vectors, write_vectors
from minilm.classical.vectors import WordVectors
from minilm.cli import predict, vectors
from minilm.cli.main import main
from minilm.cli.word_vectors import refuse_vectors, train_vectors
from minilm.models.config import GPTConfig
from minilm.models.gpt import GPT
from minilm.text.tokenizer import ByteTokenizer
from minilm.training.checkpoint import load_checkpoint, save_checkpoint

Capture = pytest.CaptureFixture[str]
TEXT = "".join(f"The {a} saw the {b}.\n" for a in ("fox", "owl", "bear") for b in ("moon", "sun", "sea")) * 5
SMALL = {"model": "glove", "dimensions": 4, "epochs": 3, "window": 3}


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text, a run, and a file of vectors that are right by construction."""
    room = tmp_path_factory.mktemp("room")
    (room / "text.txt").write_text(TEXT, encoding="utf-8")
    assert train_vectors({**SMALL, "data": str(room / "text.txt"), "out": str(room / "run")}, print, False) == 0
    words = ("man", "woman", "king", "queen", "%20cat")
    write_vectors(
        WordVectors(words, np.array([[1, 0, 1], [1, 1, 1], [9, 0, 1], [9, 9, 2], [0, 0, -1]])), room / "v.txt"
    )
    return room


def test_training(room: Path, tmp_path: Path, capsys: Capture) -> None:
    chosen = {**SMALL, "data": str(room / "text.txt"), "out": str(tmp_path / "run"), "seed": 0}
    said: list[str] = []
    assert train_vectors(chosen, said.append, True) == 0
    table = json.loads(capsys.readouterr().out)
    assert table["kind"] == "glove" and table["words"] == 8 and table["dimensions"] == 4 and table["objective"] > 0
    assert any("epoch 3 of 3" in line for line in said) and "minilm vectors" in said[-1]
    one, two = load_checkpoint(room / "run"), load_checkpoint(tmp_path / "run")
    assert one.model.words == two.model.words and one.model.words[:2] == ("the", "saw")
    np.testing.assert_array_equal(one.model.word_table, two.model.word_table)
    assert len(one.state["objective"]) == 3 and one.state["data"].endswith("text.txt")
    other = {**chosen, "out": str(tmp_path / "other"), "seed": 1}
    train_vectors(other, said.append, True)
    assert not np.allclose(load_checkpoint(tmp_path / "other").model.word_table, two.model.word_table)


def test_vectors_of_tokens(room: Path, tmp_path: Path, capsys: Capture) -> None:
    chosen = {**SMALL, "data": str(room / "text.txt"), "out": str(tmp_path / "run"), "tokenizer": "char"}
    train_vectors(chosen, print, False)
    checkpoint = load_checkpoint(tmp_path / "run")
    assert "%20" in checkpoint.model.words and checkpoint.tokenizer.kind == "char"
    capsys.readouterr()
    vectors.run([str(tmp_path / "run"), "--near", " "])
    assert "nearest to %20:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"minutes": 2.0}, "minutes is no option of word vectors"),
        ({"n_layers": 2}, "n_layers is no option of word vectors"),
        ({"device": "cuda"}, "trained on the CPU"),
        ({"dimensions": 0}, "dimensions is 0"),
        ({"dimensions": 2.5}, "dimensions is 2.5: it must be of type int"),
        ({"seed": -1}, "seed is -1"),
        ({"min_count": 10**6}, "no n-gram occurs 1000000 times"),
    ],
)
def test_training_that_cannot_be(room: Path, tmp_path: Path, changes: dict[str, object], message: str) -> None:
    chosen = {**SMALL, "data": str(room / "text.txt"), "out": str(tmp_path / "run"), **changes}
    with pytest.raises(ValueError, match=message):
        train_vectors(chosen, print, False)
    assert not (tmp_path / "run").exists()


def test_neighbours_and_analogies(room: Path, capsys: Capture) -> None:
    question = [str(room / "v.txt"), "--near", "King", "--analogy", "man", "woman", "king", "--top", "2"]
    assert vectors.run(question) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "nearest to king:" and lines[1].split() == ["0.781", "man"] and len(lines) == 6
    assert lines[3] == "man is to woman as king is to:" and lines[4].split()[1] == "queen"
    assert vectors.run([*question, "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table["words"] == 5 and table["near"][0]["found"][0][0] == "man"
    (answer,) = table["analogies"]
    assert answer["question"] == ["man", "woman", "king"]
    assert [word for word, _ in answer["found"]] == ["queen", "%20cat"]


def test_a_summary(room: Path, capsys: Capture) -> None:
    vectors.run([str(room / "run")])
    assert capsys.readouterr().out.startswith("8 words with 4 numbers each: the, saw, ")


def test_export_and_plot(room: Path, tmp_path: Path, capsys: Capture) -> None:
    out, picture = tmp_path / "v.txt.gz", tmp_path / "v.png"
    assert vectors.run([str(room / "run"), "--export", str(out), "--plot", str(picture)]) == 0
    assert "written" in capsys.readouterr().out
    model = load_checkpoint(room / "run").model
    assert read_vectors(out).words == model.words
    np.testing.assert_array_equal(read_vectors(out).matrix, model.vectors.matrix)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert vectors.run([str(out), "--plot", str(picture), "--words", "Fox", "owl", "fox"]) == 0


def test_similarity(room: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "pairs").write_text(
        "# people\nman woman 9\n\nman king\t7\nwoman king 5\nman zebra 1\n", encoding="utf-8"
    )
    vectors.run([str(room / "v.txt"), "--similarity", str(tmp_path / "pairs"), "--json"])
    assert json.loads(capsys.readouterr().out)["similarity"] == {"spearman": 1.0, "pairs": 3}
    (tmp_path / "bad").write_text("man woman 9\nman king\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 2 of .*bad is not WORD WORD SCORE"):
        vectors.run([str(room / "v.txt"), "--similarity", str(tmp_path / "bad")])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--near", "zebra"], "no vector for 'zebra' among 5 words"),
        (["--top", "0"], "--top is 0"),
        (["--plot", "v.jpg"], "ends in .png, .svg or .pdf"),
        (["--plot", "no/such/v.png"], "there is no folder no/such"),
        (["--export", "no/such/v.txt"], "there is no folder no/such"),
        (["--words", "man"], "give --plot FILE too"),
    ],
)
def test_questions_that_cannot_be_asked(room: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        vectors.run([str(room / "v.txt"), *arguments])


def test_a_picture_needs_two_words(room: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least two words"):
        vectors.run([str(room / "v.txt"), "--plot", str(tmp_path / "v.png"), "--words", "man"])


def test_other_checkpoints(room: Path, tmp_path: Path) -> None:
    model = GPT(GPTConfig(vocab_size=257, context_length=8, d_model=8, n_layers=1, n_heads=2))
    save_checkpoint(tmp_path, model, ByteTokenizer())
    with pytest.raises(ValueError, match="holds a model of kind gpt, no word vectors"):
        vectors.run([str(tmp_path)])
    refuse_vectors(str(tmp_path), model)
    with pytest.raises(ValueError, match=r"holds word vectors, which .* predict nothing: try minilm vectors"):
        refuse_vectors("x", load_checkpoint(room / "run").model)


def test_predict_says_that_vectors_predict_nothing(room: Path) -> None:
    """Not that minilm finetune could teach them to."""
    with pytest.raises(ValueError, match=r"holds word vectors, which .* predict nothing: try minilm vectors"):
        predict.run([str(room / "run"), "A book to remember."])


def trained_from(room: Path, out: Path, source: Path, *more: str) -> tuple[np.ndarray, GPT]:
    """The table of embeddings of a GPT that took one step of no length, and the model itself."""
    words = (
        f"train --data {room}/text.txt --out {out} --model gpt --n-layers 1 --n-heads 2 --context-length 8 --steps 1"
    )
    more = more or ("--vocab-size", "280")
    flags = ["--learning-rate", "0", "--vectors", str(source), "--threads", "1", *more]
    assert main([*words.split(), *flags]) == 0
    checkpoint = load_checkpoint(out)
    return checkpoint.model.embedding.weight.detach().numpy(), checkpoint


def test_a_model_starts_from_vectors_of_words_or_of_tokens(room: Path, tmp_path: Path, capsys: Capture) -> None:
    """Row by row what `start_with_vectors` promises, from a run and from a file; the width is that of the vectors."""
    table, checkpoint = trained_from(room, tmp_path / "one", room / "run")
    known, tokens = load_checkpoint(room / "run").model.vectors, checkpoint.tokenizer.token_bytes
    rows = [
        i for i, token in enumerate(tokens) if token.startswith(b" ") and token[1:].decode("latin-1") in known.index
    ]
    assert len(rows) >= 4 and table.shape == (280, 4)
    assert f"{len(rows)} of 280 tokens start with a vector" in capsys.readouterr().out
    given = known.matrix[[known.index[tokens[i][1:].decode()] for i in rows]].astype(np.float64)
    centred = given - given.mean(0)
    np.testing.assert_allclose(table[rows] / table[rows].std(), centred / centred.std(), atol=1e-5)

    letters = WordVectors(("%20", "a", "e"), np.array([[1.0, 2], [3, 5], [4, 1]]))
    write_vectors(letters, tmp_path / "letters.txt")
    table, checkpoint = trained_from(room, tmp_path / "two", tmp_path / "letters.txt", "--tokenizer", "byte")
    assert "3 of" in capsys.readouterr().out
    centred = letters.matrix - letters.matrix.mean(0)
    rows = [checkpoint.tokenizer.encode(text)[0] for text in (" ", "a", "e")]
    np.testing.assert_allclose(table[rows] / table[rows].std(), centred / centred.std(), atol=1e-5)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--model ngram", "--vectors is no option of model ngram"),
        ("--model hmm", "--vectors is no option of model hmm"),
        ("--model glove", "--vectors is no option of word vectors"),
        (
            "--model gpt --d-model 8 --n-heads 2 --n-layers 1",
            "run: the vectors have 4 numbers, the model's embeddings 8",
        ),
        ("--model gpt --n-heads 3", "multiple"),
        ("--model gpt --n-heads 2 --tokenizer char", "tokens have a vector"),
    ],
)
def test_vectors_that_do_not_fit(flags: str, said: str, room: Path, tmp_path: Path, capsys: Capture) -> None:
    words = f"train --data {room}/text.txt --out {tmp_path}/new --vectors {room}/run {flags}"
    more = "" if "ngram" in flags or "hmm" in flags or "glove" in flags else " --steps 1"
    assert main((words + more).split()) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()

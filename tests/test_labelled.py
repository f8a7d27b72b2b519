"""Labelled texts, tagged words and pairs from files as people have them; what is no such file is refused in one line."""

import csv
import gzip
import io
import json
import random

import pytest

from minilm.tasks.labelled import Labelled, load_labelled, load_parts
from minilm.tasks.pairs import Pair, load_conversations, load_pairs
from minilm.tasks.tagged import load_tagged

HARD = [
    Labelled('He said "no, never",\nand left; then\tsang | twice', "bad"),
    Labelled("Größe: naïve café 🦔, überall", "good"),
    Labelled("plain words of a longer kind", "bad"),
    Labelled('"quoted" from the start', "good"),
    Labelled("a \\ backslash\x85 and a \u2028 next line", "good"),
]


def put(folder, name, text, encoding="utf-8"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode(encoding)
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def refused(load, path, *arguments, **options):
    """The one line with which a file is refused."""
    with pytest.raises(ValueError) as caught:
        load(path, *arguments, **options)
    message = str(caught.value)
    assert "\n" not in message and path.name in message and ": " in message
    return message


# ---- tables


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("header", [("review", "sentiment"), ("Was gesagt wurde", "Urteil"), None])
@pytest.mark.parametrize("end", ["\r\n", "\n"])
@pytest.mark.parametrize("order", [1, -1])
def test_any_csv_of_two_columns_just_works(tmp_path, delimiter, header, end, order):
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator=end)
    writer.writerows(row[::order] for row in ([header] if header else []) + HARD)
    for name in ("a.csv", "a.csv.gz"):
        for mark in ("", "\ufeff"):
            assert load_labelled(put(tmp_path, name, mark + buffer.getvalue())) == HARD


def test_quotes_with_a_backslash_and_all_cells_quoted(tmp_path):
    path = put(tmp_path, "a.csv", '"He said \\"hi\\", ok","1"\n"no","0"\n"well, yes","1"\n')
    assert load_labelled(path) == [('He said "hi", ok', "1"), ("no", "0"), ("well, yes", "1")]


def test_lines_with_a_tab_as_the_uci_has_them_keep_their_loose_quotes(tmp_path):
    """The labelled sentences of the UCI: a reader that believes in quotes swallows a quarter of the IMDb's lines."""
    lines = ['"Great, but loud.  \t0', 'The "Lebowski" is great  \t1', 'So "bad"\t0', "good\x85 one  \t1"]
    rows = [("".join(line.split("\t")[0]).strip(), line[-1]) for line in lines]
    assert load_labelled(put(tmp_path, "imdb_labelled.txt", "\n".join(lines) + "\n")) == rows


def test_a_semicolon_wins_where_each_text_has_one_comma(tmp_path):
    path = put(tmp_path, "a.csv", "Good, yes;1\nBad, no;0\nFine, well;1\nPoor, so;0\n")
    assert load_labelled(path) == [("Good, yes", "1"), ("Bad, no", "0"), ("Fine, well", "1"), ("Poor, so", "0")]


def test_columns_are_named_guessed_and_said(tmp_path):
    text = (
        "id,Headline,Review,Sentiment,stars\n1,Oh,long words here,good,5\n2,Ah,other words there,bad,1\n3,Eh,,bad,2\n"
    )
    path, said = put(tmp_path, "a.csv", text), []
    assert load_labelled(path, say=said.append) == [("long words here", "good"), ("other words there", "bad")]
    assert len(said) == 1 and "'Review'" in said[0] and "'Sentiment'" in said[0]
    assert "2 examples (bad: 1, good: 1)" in said[0] and "1 without text dropped" in said[0]
    assert load_labelled(path, "Headline", "stars") == [("Oh", "5"), ("Ah", "1"), ("Eh", "2")]
    assert load_labelled(path, label="Headline")[1] == ("other words there", "Ah")
    assert refused(load_labelled, path, "text").endswith(
        "no column 'text': there are 'id', 'Headline', 'Review', 'Sentiment', 'stars'"
    )
    assert "both 'stars'" in refused(load_labelled, path, "stars", "stars")
    bare = put(tmp_path, "b.csv", "fine it is,1\nnot so,0\n")
    load_labelled(bare, say=said.append)
    assert "text from column 1 of 2, label from column 2 of 2" in said[1] and "dropped" not in said[1]


def test_columns_without_names_are_told_apart_by_what_stands_in_them(tmp_path):
    """Labels come again and again, more than one of them; texts are the longest of the rest, even if shorter than labels."""
    rows = [("so it is", "good"), ("well, well", "bad"), ("oh no", "bad"), ("ah", "good"), ("hm", "bad")]
    constant = put(tmp_path, "a.csv", "".join(f'train,"{text}",{label}\n' for text, label in rows))
    assert load_labelled(constant) == rows
    wordy = [(text, {"good": "very good indeed", "bad": "rather disappointing"}[label]) for text, label in rows]
    assert load_labelled(put(tmp_path, "b.csv", "".join(f'{label},"{text}"\n' for text, label in wordy))) == wordy


def test_the_header_may_be_said(tmp_path):
    path = put(tmp_path, "a.csv", "so so,fair\nis good,good\nis bad,bad\nis better,good\n")
    assert [len(load_labelled(path, header=header)) for header in (None, True, False)] == [3, 3, 4]
    numbers = put(tmp_path, "b.csv", "so so,2\nis good,1\nis bad,0\nis better,1\n")
    assert len(load_labelled(numbers)) == 4  # a number is no name


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.ndjson.gz"])
def test_json_lines_and_lists(tmp_path, name):
    rows = [{"text": "a\nb", "class": 0}, {"text": " é ", "class": 1.0}, {"text": "", "class": None}]
    for text in ("\n\n".join(map(json.dumps, rows)), "\ufeff" + json.dumps(rows, ensure_ascii=False, indent=1)):
        assert load_labelled(put(tmp_path, name, text)) == [("a\nb", "0"), ("é", "1")]


def test_a_line_of_json_ends_at_a_newline_only(tmp_path):
    rows = [{"text": "one\u2028two\x85", "label": "a"}, {"text": "three\x0cfour", "label": "b"}]
    text = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    assert load_labelled(put(tmp_path, "a.jsonl", text)) == [("one\u2028two", "a"), ("three\x0cfour", "b")]


# ---- folders


def test_folders_as_aclimdb(tmp_path):
    for part in ("train", "test"):
        put(tmp_path, f"{part}/pos/0_9.txt", f"fine {part}")
        put(tmp_path, f"{part}/neg/0_2.txt", f" dull<br />{part}\n")
        put(tmp_path, f"{part}/neg/1_1.txt.gz", f"bad {part}")
        put(tmp_path, f"{part}/neg/.hidden/x.txt", "no")
        put(tmp_path, f"{part}/.cache/x.txt", "no")
    put(tmp_path, "train/unsup/0_0.txt", "nobody knows")
    put(tmp_path, "train/neg/5_5.txt", "")
    put(tmp_path, "imdb.vocab", "the")
    train = [("dull<br />train", "neg"), ("bad train", "neg"), ("fine train", "pos")]
    test = [("dull<br />test", "neg"), ("bad test", "neg"), ("fine test", "pos")]
    assert load_labelled(tmp_path / "train") == train and load_labelled(tmp_path) == train + test
    assert load_parts(tmp_path) == (train, test) and load_parts(tmp_path / "train") is None
    assert "leave text and label" in refused(load_labelled, tmp_path, "text")
    put(tmp_path, "test/odd/0.txt", "neither")
    with pytest.raises(ValueError, match=r"label 'odd', of which .*train' has no example"):
        load_parts(tmp_path)
    (tmp_path / "train/empty").mkdir()
    with pytest.raises(ValueError, match=r"empty' holds no \.txt file"):
        load_labelled(tmp_path / "train")


def test_a_folder_without_labels(tmp_path):
    put(tmp_path, "a.txt", "words")
    assert "no folder of texts for each label" in refused(load_labelled, tmp_path)


# ---- what is refused

WORDS = "\n".join(f"some words {i},word{i}" for i in range(12))
BAD = [
    ("a.xlsx", "a,1\nb,0", "unknown format"),
    ("a", "a,1\nb,0", "unknown format"),
    ("a.csv", "", "is empty"),
    ("a.csv", " \n\n", "is empty"),
    ("a.csv", "text,label\n", "no row under it"),
    ("a.csv", "one column\nonly\n", "one column"),
    ("a.csv", "fine it is,1\ngood,1\n", "one label only, '1'"),
    ("a.csv", "fine it is,1\ngood,\nbad,0\n", "line 2 of .* a text and no label"),
    ("a.csv", 'text,label\n"two\nlines",1\n\nwell, it is,0\n', "line 5 of .* has 3 cells, the first row 2"),
    ("a.csv", "text,label\n" + "fine it is,1\n" * 300 + '"loose,0\n', "after line 301 of .* quoted"),
    ("a.csv", "text,label\nfine it is,1\nbad,good\n", "mixes labels that are numbers, as '1', and words, as 'good'"),
    ("a.csv", "text,label\nfine it is,Good\nbad,good\n", "'Good' and 'good', which differ in case"),
    ("a.csv", WORDS, "12 labels in 12 examples"),
    ("a.csv", "\n".join(f"some words {i},{i % 1001}" for i in range(2002)), "1001 labels in 2002 examples"),
    ("a.csv", "text,label\n,1\n ,0\n", "holds no text"),
    ("a.csv", "a\0b,1\nb,0", "zero bytes"),
    ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "b"\n', "line 2 of .* no valid JSON"),
    ("a.jsonl", '{"text": "a", "label": 1}\n\n{"text": "b"}\n', "line 3 of .* lacks 'label'"),
    ("a.jsonl", '{"text": "a", "label": 1}\n[1]\n', "line 2 of .* no JSON object but list"),
    ("a.json", '[{"text": "a", "label": 1}, {"text": 7, "label": 0}]', "item 2 of .* int for a text"),
    ("a.json", '[{"text": "a", "label": 1}, {"text": "b", "label": {}}]', "item 2 of .* dict for a label"),
    ("a.json", '[{"text": "a\\ud83d", "label": 1}]', "item 1 of .* surrogate"),
    ("a.json", '[{"text": "a"}]', "one column, 'text'"),
    ("a.json", "[]", "empty list"),
    ("a.json", "[" * 100_000, "no valid JSON"),
]


@pytest.mark.parametrize(("name", "text", "says"), BAD, ids=[says for _, _, says in BAD])
def test_each_error_is_one_line_that_names_the_file_and_the_row(tmp_path, name, text, says):
    refused(load_labelled, put(tmp_path, name, text))
    with pytest.raises(ValueError, match=says):
        load_labelled(tmp_path / name)


def test_other_encodings_and_damage_are_refused(tmp_path):
    message = refused(load_labelled, put(tmp_path, "a.csv", "so,1\n\ncafé,0\n", "latin-1"))
    assert "line 3 of" in message and "0xe9" in message
    assert "UTF-16" in refused(load_labelled, put(tmp_path, "b.csv", "so,1\nno,0\n", "utf-16"))
    (tmp_path / "c.csv.gz").write_bytes(b"so,1\nno,0\n")
    assert "gzip" in refused(load_labelled, tmp_path / "c.csv.gz")
    assert "No such file" in refused(load_labelled, tmp_path / "d.csv")


def test_a_thousand_labels_are_not_too_many(tmp_path):
    text = "\n".join(f"some more words {i},{i % 1000}" for i in range(2000))
    assert len(load_labelled(put(tmp_path, "a.csv", text))) == 2000


def test_random_tables_come_back(tmp_path):
    rng = random.Random(5)
    for trial in range(60):
        signs = 'ab \n,;|"\u00e9'
        texts = ["x" + "".join(rng.choice(signs) for _ in range(rng.randrange(3, 30))) + "y" for _ in range(12)]
        rows = [Labelled(text, rng.choice(["p", "n"])) for text in texts] + [
            Labelled("a p", "p"),
            Labelled("an n", "n"),
        ]
        buffer = io.StringIO()
        csv.writer(buffer, delimiter=",;\t|"[trial % 4]).writerows([("text", "label"), *rows])
        assert load_labelled(put(tmp_path, "a.csv", buffer.getvalue())) == rows


# ---- tagged words


def test_tagged_columns_and_json(tmp_path):
    text = "-DOCSTART- -X- O\n\nAda NNP B-PER\nmet VB O\n. . O\n\n\nBo NNP B-PER\n"
    expected = [(("Ada", " met", "."), ("B-PER", "O", "O")), (("Bo",), ("B-PER",))]
    assert load_tagged(put(tmp_path, "a.conll", text)) == expected
    assert load_tagged(put(tmp_path, "a.txt.gz", "\ufeff" + text.replace(" ", "\t").replace("\n", "\r\n"))) == expected
    rows = [{"words": ["Ada", "met", "."], "tags": ["B-PER", "O", "O"]}, {"words": ["Bo"], "tags": ["B-PER"]}]
    assert load_tagged(put(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)))) == expected
    kept = {"words": ["Ada", " met", "."], "tags": ["B", "O", "O"]}
    assert load_tagged(put(tmp_path, "b.jsonl", json.dumps(kept)))[0].text == "Ada met."
    assert load_tagged(put(tmp_path, "c.tsv", "New York\tB\nis\tO\n"))[0].words == ("New York", " is")


BAD_TAGS = [
    ("a.conll", "Ada B\nmet\n", "line 2 of .* not a word and a tag, but 'met'"),
    ("a.conll", "Ada O\nmet O\n", "1 different tags"),
    ("a.conll", "\n".join(f"a t{i}" for i in range(1001)), "1001 different tags"),
    ("a.pdf", "Ada B\nmet O\n", "unknown format"),
    ("a.jsonl", '{"words": ["a"], "tags": ["B", "O"]}', "line 1 of .* 1 words and 2 tags"),
    ("a.jsonl", '{"words": ["a", " "], "tags": ["B", "O"]}', "'words' is no list of strings"),
    ("a.jsonl", '{"words": ["a"], "tags": "B"}', "'tags' is no list of strings"),
    ("a.jsonl", '{"tokens": ["a"], "tags": ["B"]}', "has no 'words', but tokens, tags"),
]


@pytest.mark.parametrize(("name", "text", "says"), BAD_TAGS, ids=[says for _, _, says in BAD_TAGS])
def test_what_is_not_tagged_is_refused(tmp_path, name, text, says):
    refused(load_tagged, put(tmp_path, name, text))
    with pytest.raises(ValueError, match=says):
        load_tagged(tmp_path / name)


# ---- pairs

USER, ASSISTANT = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello", "weight": 1}
SYSTEM = {"role": "system", "content": "Be kind"}


def test_pairs_of_all_forms(tmp_path):
    expected = [Pair("Hi, you", "Hello"), Pair("So?", "Yes\nno")]
    for text in (
        'Response,Prompt\nHello,"Hi, you"\n"Yes\nno",So?\n',
        'prompt,what\n"Hi, you",Hello\nSo?,"Yes\nno"\n',
        'answer,what\nHello,"Hi, you"\n"Yes\nno",So?\n',
        'what,prompt\nHello,"Hi, you"\n"Yes\nno",So?\n',
        ' Answer ,  PROMPT\nHello,"Hi, you"\n"Yes\nno",So?\n',
        '"Hi, you",Hello\nSo?,"Yes\nno"\n',
    ):
        assert load_pairs(put(tmp_path, "a.csv", text)) == expected
    rows = [{"answer": pair.answer, "prompt": pair.prompt, "id": 1} for pair in expected]
    assert load_pairs(put(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)))) == expected
    named = put(tmp_path, "b.tsv", "x\ty\tz\nHi\tno\tHello\n")
    assert load_pairs(named, "x", "z") == [("Hi", "Hello")]
    assert "'x', 'y', 'z'" in refused(load_pairs, named, "text")
    assert "'x', 'y', 'z'" in refused(load_pairs, named, "x", "x")


def test_conversations(tmp_path):
    path = put(tmp_path, "a.jsonl", json.dumps({"messages": [USER, ASSISTANT]}))
    plain = {"role": "assistant", "content": "Hello"}
    assert load_pairs(path) == [("Hi", "Hello")] and load_conversations(path) == [[USER, plain]]
    longer = put(tmp_path, "b.jsonl", json.dumps({"messages": [SYSTEM, USER, ASSISTANT]}))
    assert load_conversations(longer) == [[SYSTEM, USER, plain]]
    assert "line 1 of" in refused(load_pairs, longer) and "3 messages" in refused(load_pairs, longer)
    assert load_conversations(put(tmp_path, "c.csv", "Hi,Hello\n")) == [[USER, plain]]


BAD_PAIRS = [
    ("a.csv", "prompt,answer\nHi,\n", "line 2 of .* no text for its answer"),
    ("a.csv", "prompt,answer\n", "no row under it"),
    ("a.csv", "a,b,c\n", "call two of them prompt and answer, in the first row"),
    ("a.jsonl", '{"prompt": "Hi", "answer": 3}', "line 1 of .* no text for its answer"),
    ("a.jsonl", '{"messages": []}', "no list of messages"),
    ("a.jsonl", '{"messages": [{"role": "user"}]}', "a message is .*write"),
    ("a.jsonl", json.dumps({"messages": [USER | {"role": "bot"}]}), "role 'bot' is unknown"),
    ("a.jsonl", json.dumps({"messages": [USER | {"content": " "}]}), "message of the user is empty"),
    ("a.jsonl", json.dumps({"messages": [USER]}), "not the assistant's"),
]


@pytest.mark.parametrize(("name", "text", "says"), BAD_PAIRS, ids=[says for _, _, says in BAD_PAIRS])
def test_what_is_no_pair_is_refused(tmp_path, name, text, says):
    refused(load_pairs, put(tmp_path, name, text))
    with pytest.raises(ValueError, match=says):
        load_pairs(tmp_path / name)

"""The bench of decoding: both sides have the same weights and do the same work, and the limit is that of the memory."""

import json

import pytest
import torch

from minilm.bench import decoding
from minilm.bench.decoding import (
    SIDES,
    WITHOUT_CACHE,
    bandwidth,
    both,
    bytes_read,
    decode,
    decoding_row,
    peer_decode,
    prefill_row,
    random_ids,
    table,
)
from minilm.bench.table import Request
from minilm.cli.main import main
from minilm.decoding.quantize import QuantizedLinear
from minilm.models.config import gpt2_config, llama_config
from minilm.models.gpt import GPT

TINY = gpt2_config(vocab_size=61, context_length=48, d_model=24, n_layers=2, n_heads=3)
TINY_LLAMA = llama_config(
    vocab_size=61, context_length=48, d_model=24, n_layers=2, n_heads=3, n_kv_heads=1, tie_embeddings=True
)


@pytest.mark.parametrize("config", [TINY, TINY_LLAMA], ids=["GPT-2", "Llama"])
@pytest.mark.parametrize("side", [SIDES["plain"], SIDES["fast"], WITHOUT_CACHE], ids=["plain", "fast", "no cache"])
@torch.inference_mode()
def test_both_sides_write_the_same_text(side, config):
    model, peer = both(config, side, seed=3)
    prompts = random_ids(config, 3, 9, seed=3)
    theirs = peer_decode(peer, prompts, 7)
    assert decode(model, prompts, 7, side.use_cache) == theirs
    assert decode(model, prompts[:1], 7, side.use_cache) == theirs[:1]
    assert [len(row) for row in theirs] == [7, 7, 7]


def test_sides_are_prepared_as_they_are_named():
    for name, dtype in (("bfloat16", torch.bfloat16), ("int8", torch.int8)):
        model, peer = both(TINY, SIDES[name], seed=3)
        assert isinstance(model.lm_head, QuantizedLinear) and model.lm_head.numbers.dtype is dtype
        assert peer.dtype is (torch.bfloat16 if name == "bfloat16" else torch.float32)
    assert type(both(TINY, SIDES["plain"], seed=3)[0].hidden) is type(GPT(TINY).hidden)
    assert type(both(TINY, SIDES["fast"], seed=3)[0].hidden) is not type(GPT(TINY).hidden)


def test_bytes_read_are_those_of_a_step():
    """Of GPT-2's shape 494 MB: all 124,439,808 weights but the 1,024 positions, 4 bytes each."""
    weights = 61 * 24 + 2 * (12 * 24 * 24 + 13 * 24) + 2 * 24
    assert bytes_read(GPT(TINY)) == 4 * weights
    int8 = bytes_read(both(TINY, SIDES["int8"], seed=3)[0])
    matrices = 61 * 24 + 2 * 12 * 24 * 24
    scales = 61 + 2 * (24 * 4 + 96 + 24 * 2)  # a group of 64 for each output, two where there are 96 inputs
    assert int8 == matrices + 4 * scales + 4 * (weights - matrices)


def test_a_row_counts_tokens_of_all_rows(monkeypatch):
    monkeypatch.setattr(decoding, "compare", lambda ours, peer, runs: {"ours_s": 2.0, "peer_s": 8.0, "ratio": 0.25})
    monkeypatch.setattr(decoding, "bandwidth", lambda: 1000.0 * bytes_read(GPT(TINY)))
    row = decoding_row(TINY, SIDES["plain"], 4, 10, Request())
    assert row["tokens_s"] == 4 * 10 / 2
    assert row["peer_tokens_s"] == 4 * 10 / 8
    assert row["times the peer"] == 4
    assert row["% of its limit"] == pytest.approx(0.5)  # 5 steps a second of 1,000
    row = prefill_row(TINY, SIDES["plain"], 30, Request())
    assert (row["tokens_s"], row["peer_tokens_s"], row["times the peer"]) == (15, 3.75, 4)


def test_rows_are_measured_in_turn():
    before = torch.get_num_threads()
    row = decoding_row(TINY, SIDES["int8"], 2, 3, Request(runs=1))
    assert all(value > 0 for value in row.values())
    assert row["times the peer"] == pytest.approx(row["tokens_s"] / row["peer_tokens_s"])
    row = prefill_row(TINY, SIDES["bfloat16"], 30, Request(runs=1))
    assert row["times the peer"] == pytest.approx(row["tokens_s"] / row["peer_tokens_s"])
    assert torch.get_num_threads() == before


def test_bandwidth_reads_the_whole_array():
    assert 1e6 < bandwidth(2**16, 2) < 1e13


def test_the_table_names_shapes_batches_sides_and_peers():
    names = [job.name for job in table(Request()) if "llama.cpp" not in job.name]
    assert len(names) == len(set(names)) == 3 * (1 + 3 * 4 + 4)
    for name in (
        "124M, batch 1, no cache / transformers float32",
        "124M, batch 32, bfloat16 / transformers bfloat16",
        "10M, batch 8, int8 / transformers float32",
        "10M, prompt of 512, fast / transformers float32",
        "135M Llama, batch 8, fast / transformers float32",
    ):
        assert name in names
    assert all(job.seconds > 0 for job in table(Request()))


@pytest.mark.parametrize(
    "asked", [{"data": "x"}, {"seconds": (1.0,)}, {"steps": 3}, {"tune": True}, {"changes": {"a": 1}}]
)
def test_what_only_trainings_heed_is_refused(asked):
    with pytest.raises(ValueError, match="decoding trains nothing"):
        table(Request(**asked))


def test_the_verb_prints_rows(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(decoding, "SHAPES", {"tiny": TINY})
    monkeypatch.setattr(decoding, "BATCHES", (1,))
    monkeypatch.setattr(decoding, "NEW", 2)
    monkeypatch.setattr(decoding, "SUMMED", 2**12)
    out = tmp_path / "rows.jsonl"
    arguments = ["bench", "decoding", "--runs", "1", "--only", "batch 1, fast", "--out", str(out), "--json"]
    assert main(arguments) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["row"] == "tiny, batch 1, fast / transformers float32"
    assert row["tokens_s"] > 0
    assert json.loads(out.read_text(encoding="utf-8")) == row

"""llama.cpp as a peer: it is given our weights, under its names and in its order, and is asked as we are."""

import ctypes
import itertools
import sys
import types

import gguf
import numpy as np
import pytest
import torch

from minilm.bench import decoding
from minilm.bench.decoding import SIDES, decode, llama_cpp_row, random_ids, table
from minilm.bench.llama_cpp import KINDS, LlamaCpp, gguf_name, write_gguf
from minilm.bench.table import Request
from minilm.models.config import gpt2_config, llama_config
from minilm.models.gpt import GPT
from minilm.runtime import set_seed

TINY = llama_config(
    vocab_size=64, context_length=48, d_model=64, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=96, tie_embeddings=True
)
ROUNDING = {"F32": 0, "F16": 1e-3, "Q8_0": 1e-2}  # of a number, relative to the largest one


@pytest.fixture
def model():
    set_seed(5)
    model = GPT(TINY).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) / 16)  # no norm is all ones, no two rows are the same
    return model


def their_rows(array, d_head):
    """Row 2 i of each head is our row i, row 2 i + 1 our row i + K / 2, said row by row."""
    order = [i + half * d_head // 2 for i in range(d_head // 2) for half in (0, 1)]
    heads = [array[start : start + d_head][order] for start in range(0, len(array), d_head)]
    return np.concatenate(heads)


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_holds_every_weight(model, kind, tmp_path):
    write_gguf(model, tmp_path / "model.gguf", kind)
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    assert set(tensors) == {gguf_name(name) for name, _ in model.named_parameters()}
    for name, weight in model.named_parameters():
        tensor, wanted = tensors[gguf_name(name)], weight.detach().numpy()
        if ".attention.q." in name or ".attention.k." in name:
            wanted = their_rows(wanted, TINY.d_head)
        assert tensor.tensor_type.name == (kind if weight.dim() == 2 else "F32")
        found = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=ROUNDING[kind] * np.abs(wanted).max(), err_msg=name)


def test_the_file_says_its_shape(model, tmp_path):
    write_gguf(model, tmp_path / "model.gguf", "F32")
    fields = gguf.GGUFReader(tmp_path / "model.gguf").fields
    said = {
        name.removeprefix("llama."): field.contents() for name, field in fields.items() if name.startswith("llama.")
    }
    assert said == {
        "vocab_size": 64,
        "context_length": 48,
        "embedding_length": 64,
        "block_count": 2,
        "feed_forward_length": 96,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
        "attention.layer_norm_rms_epsilon": pytest.approx(TINY.norm_eps),
        "rope.dimension_count": 16,
        "rope.freq_base": pytest.approx(TINY.rope_theta),
    }


def test_other_models_are_refused(tmp_path):
    with pytest.raises(ValueError, match="only models of llama_config are written"):
        write_gguf(GPT(gpt2_config(vocab_size=64, n_layers=1)), tmp_path / "model.gguf", "F32")
    assert not list(tmp_path.iterdir())


def test_names_are_theirs():
    assert gguf_name("blocks.3.mlp.up.weight") == "blk.3.ffn_up.weight"
    assert gguf_name("lm_head.weight") == "output.weight"


class StandIn(types.SimpleNamespace):
    """The functions of llama_cpp that we call, which let a model of ours compute. It refuses what the real one would."""

    def __init__(self, model):
        self.seen, self.calls, self.freed = [], [], []
        self.llama_token = ctypes.c_int32

        def load(path, params):
            return model if gguf.GGUFReader(path.decode()).tensors else None

        def read(context, batch):
            self.seen += batch
            self.calls.append(len(batch))
            return 1 if len(self.seen) > context.n_ctx else 0

        def logits(context, row):
            assert row == -1
            with torch.inference_mode():
                self.last = model(torch.tensor([self.seen]))[0, -1].numpy().astype(np.float32)
            return self.last.ctypes.data_as(ctypes.POINTER(ctypes.c_float))

        super().__init__(
            llama_backend_init=lambda: None,
            llama_model_default_params=lambda: None,
            llama_model_load_from_file=load,
            llama_context_default_params=types.SimpleNamespace,
            llama_init_from_model=lambda model, settings: settings,
            llama_model_get_vocab=lambda model: model,
            llama_vocab_n_tokens=lambda model: model.config.vocab_size,
            llama_batch_get_one=lambda tokens, n: list(tokens[:n]),
            llama_decode=read,
            llama_get_logits_ith=logits,
            llama_get_memory=lambda context: context,
            llama_memory_clear=lambda memory, data: self.seen.clear(),
            llama_free=self.freed.append,
            llama_model_free=self.freed.append,
        )


@pytest.fixture
def stand_in(model, monkeypatch):
    library = StandIn(model)
    monkeypatch.setitem(sys.modules, "llama_cpp", library)
    return library


def test_it_reads_the_prompt_once_and_then_a_token_at_a_time(model, stand_in, tmp_path):
    write_gguf(model, tmp_path / "model.gguf", "F32")
    peer = LlamaCpp(tmp_path / "model.gguf", 20, 2)
    prompt = random_ids(TINY, 1, 9, seed=3)
    ours = decode(model, prompt, 7, True)[0]
    assert [peer.decode(prompt[0].tolist(), 7) for _ in range(2)] == [ours, ours]  # the second from an empty cache
    assert stand_in.calls == [9, *[1] * 6] * 2
    with pytest.raises(ValueError, match="could not read 1 tokens"):
        peer.decode(prompt[0].tolist(), 20)
    peer.close()
    assert len(stand_in.freed) == 2


def test_a_file_that_it_does_not_read(model, stand_in, tmp_path, monkeypatch):
    monkeypatch.setattr(stand_in, "llama_model_load_from_file", lambda path, params: None)
    with pytest.raises(ValueError, match=r"bad.gguf: llama.cpp does not read it"):
        LlamaCpp(tmp_path / "bad.gguf", 20, 2)


def test_a_row_has_the_same_weights_on_both_sides(stand_in, monkeypatch):
    said = []

    def both_sides(ours, peer, runs):
        said.extend((ours(), peer()))
        return {"ours_s": 2.0, "peer_s": 1.0, "ratio": 2.0}

    set_seed(7)
    twin = GPT(TINY).eval()  # what the row makes of its seed
    monkeypatch.setattr(stand_in, "llama_get_logits_ith", logits_of(twin, stand_in))
    monkeypatch.setattr(decoding, "compare", both_sides)
    row = llama_cpp_row(TINY, SIDES["fast"], "F32", 5, Request(seeds=(7,)))
    assert said[0] == [said[1]] and len(said[1]) == 5
    assert (row["tokens_s"], row["peer_tokens_s"], row["times the peer"]) == (2.5, 5.0, 0.5)


def logits_of(model, library):
    def logits(context, row):
        with torch.inference_mode():
            library.last = model(torch.tensor([library.seen]))[0, -1].numpy()
        return library.last.ctypes.data_as(ctypes.POINTER(ctypes.c_float))

    return logits


def test_rows_beside_it_where_it_is_installed(monkeypatch, caplog):
    for there, n in ((False, 0), (True, 3)):
        monkeypatch.setattr(decoding.importlib.util, "find_spec", lambda name, there=there: there)
        names = [job.name for job in table(Request()) if "llama.cpp" in job.name]
        assert len(names) == n
        assert ("it is not installed" in caplog.text) is not there
        caplog.clear()
    assert names == [
        f"135M Llama, batch 1, {ours} / llama.cpp {kind}"
        for ours, kind in (("fast", "F32"), ("bfloat16", "F16"), ("int8", "Q8_0"))
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_the_real_one_says_what_we_say(model, kind, tmp_path):
    """Its cache holds float16, so logits agree to three digits and not to the last."""
    pytest.importorskip("llama_cpp")
    write_gguf(model, tmp_path / "model.gguf", kind)
    peer = LlamaCpp(tmp_path / "model.gguf", 40, 1)
    ids = random_ids(TINY, 1, 30, seed=3)
    with torch.inference_mode():
        wanted = model(ids)[0].numpy()
    tolerance = {"F32": 5e-3, "F16": 5e-3, "Q8_0": 0.05}[kind] * np.abs(wanted).max()
    for start, end in itertools.pairwise((0, 20, 21, 22, 30)):
        found = peer.read(ids[0, start:end].tolist())
        np.testing.assert_allclose(found, wanted[end - 1], rtol=0, atol=tolerance)
    peer.close()

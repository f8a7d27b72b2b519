"""Bugs that training code of this kind really had, each with the test that would have caught it.

They are known from the issue trackers of public projects. TABLE says each in words and names its test: where it fits an
existing file it stands there, else here. Two of them cannot happen in this house and are guarded at the door: loss scaling
(clipped before it was undone, or lost at a restart) belongs to float16, which no config accepts.
"""

import ast
import itertools
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from minilm.byhand import basic as byhand
from minilm.cli.main import main
from minilm.evaluation.evaluate import evaluate, text_ids
from minilm.layers.basic import Embedding
from minilm.models.config import SpeedrunConfig, gpt2_config, llama_config
from minilm.models.gpt import GPT
from minilm.models.speedrun_gpt import SpeedrunGPT
from minilm.runtime import pick_dtype
from minilm.text.bpe import BPETokenizer
from minilm.text.corpus import load_corpus
from minilm.text.stories import stories
from minilm.text.token_file import encode_corpus
from minilm.text.tokenizer import ByteTokenizer
from minilm.training import loop
from minilm.training.batches import Batches
from minilm.training.checkpoint import load_checkpoint
from minilm.training.config import TrainConfig
from minilm.training.loop import train
from minilm.training.loss import IGNORE
from minilm.training.muon import build_optimizer
from minilm.training.prepare import prepare

HERE = Path(__file__)
# the bug -> the test, in this file unless another is named
TABLE = {
    "the mean of the means of small batches, where they count different numbers of tokens": (
        "test_small_batches_are_one_big_batch_for_plain_gradient_descent",
        "test_loop.py::test_accumulation_with_unequal_labels_is_one_big_batch",
    ),
    "a last, partial window of small batches divided by the full number": (
        "test_small_batches_are_one_big_batch_for_plain_gradient_descent",
        "test_loop.py::test_training_is_gradient_descent_written_out",
    ),
    "a loss not divided at all: Adam does not notice, gradient descent and clipping do": (
        "test_small_batches_are_one_big_batch_for_plain_gradient_descent",
        "test_loop.py::test_training_is_gradient_descent_written_out",
    ),
    "not a number where all labels of a batch are ignored": (
        "test_loss.py::test_nothing_counted_is_zero_with_zero_gradients",
        "test_loop.py::test_accumulation_with_nothing_to_learn",
        "test_fast_cross_entropy.py::test_nothing_counted_is_zero_with_zero_gradients",
    ),
    "negative labels other than the ignored one accepted": (
        "test_loss.py::test_labels_outside_the_vocabulary_are_refused",
        "test_fast_cross_entropy.py::test_a_bad_label_is_the_error_of_the_plain_loss",
    ),
    "bytes counted in the decoded text, where half a character became a three-byte replacement": (
        "test_bytes_of_tokens_are_the_bytes_of_ten_thousand_texts",
        "test_evaluate.py::test_bytes_are_those_of_the_original",
    ),
    "a token scored by the logits that have already seen it": (
        "test_evaluate.py::test_a_uniform_model_needs_log2_V_bits",
        "test_evaluate.py::test_a_model_that_copies_its_input_is_not_rewarded",
    ),
    "a document cut to the context, but divided by its full length": (
        "test_evaluate.py::test_windows_equal_the_plain_loop",
        "test_evaluate.py::test_every_token_is_scored_once_with_enough_context",
    ),
    "the first token predicted from a wrong token, or an empty text with a score": (
        "test_evaluate.py::test_a_model_that_copies_its_input_is_not_rewarded",
        "test_evaluate.py::test_bad_data_are_one_line",
        "test_metrics.py::test_a_text_without_bytes_has_no_measure",
    ),
    "token losses of different vocabularies in one table": (
        "test_evaluate.py::test_ladder_table_fits_and_names_its_units",
    ),
    "documents of the validation text in the training text": (
        "test_corpus.py::test_the_split_by_document_over_many_seeds",
        "test_clean.py::test_leaking_documents_are_counted",
        "test_no_token_of_the_validation_text_is_learned_from",
    ),
    "one side shuffled before it was cut, the other not": (
        "test_corpus.py::test_the_split_by_document_over_many_seeds",
        "test_corpus.py::test_the_split_does_not_depend_on_names_or_order",
    ),
    "documents repeated first and split then": ("test_corpus.py::test_equal_documents_stay_together",),
    "another part of the validation text at each look": ("test_two_looks_at_the_validation_text_are_the_same",),
    "an eps too small for the type: not a number after a gradient of zero": (
        "test_optim.py::test_zero_gradients_stay_finite_and_small_steps_add_up",
        "test_optim.py::test_half_precision_is_a_float32_run_rounded",
    ),
    "half-precision weights that never move, because each step is too small for them": (
        "test_almost_all_half_precision_weights_have_moved",
        "test_optim.py::test_half_precision_is_a_float32_run_rounded",
    ),
    "norms and biases that decay": (
        "test_only_matrices_decay_in_every_model_under_every_optimizer",
        "test_optim.py::test_without_learning_rate_nothing_moves_and_without_gradient_only_matrices_decay",
    ),
    "a scaled gradient clipped before the scale is undone": ("test_no_scaled_losses",),
    "the scale of the losses missing in a checkpoint": ("test_no_scaled_losses",),
    "a step that is not a number written into weights or checkpoint": (
        "test_loop.py::test_a_loss_or_gradient_that_is_no_number_stops_before_the_weights_are_touched",
        "test_a_failed_run_is_exit_code_3_and_its_last_checkpoint_is_whole",
    ),
    "a first step with a learning rate of zero, or a warm-up longer than the run": (
        "test_schedule.py::test_table",
        "test_schedule.py::test_it_rises_then_never_rises_again_and_is_never_zero",
    ),
    "a schedule one step off after a restart": (
        "test_loop.py::test_the_learning_rates_are_the_schedule_whatever_step_it_resumes_at",
        "test_checkpoint.py::test_resuming_at_any_step_is_the_uninterrupted_run",
    ),
    "parameters that start too wide, or that nobody has initialised": (
        "test_every_parameter_starts_as_specified_and_the_same_from_the_same_seed",
    ),
    "a gradient of a table that a repeated id overwrites": (
        "test_repeated_ids_add_up_in_the_gradient_of_a_table",
        "test_byhand.py::test_the_usual_mistakes_show",
    ),
    "the same random numbers for each seed and epoch": (
        "test_no_two_seeds_and_epochs_begin_alike",
        "test_batches.py::test_epochs_and_seeds_differ_and_the_same_seed_repeats",
    ),
}


@pytest.mark.parametrize("tests", TABLE.values(), ids=TABLE)
def test_each_bug_has_its_test(tests: tuple[str, ...]) -> None:
    assert tests
    for test in tests:
        file, _, name = test.rpartition("::")
        tree = ast.parse((HERE.parent / (file or HERE.name)).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, test


SHAPE: dict[str, Any] = {"vocab_size": 31, "context_length": 7, "d_model": 12, "n_layers": 2, "n_heads": 2}


def small_gpt(**changes: Any) -> GPT:
    torch.manual_seed(2)
    return GPT(gpt2_config(**{**SHAPE, "dropout": 0.0, **changes})).double()


# ---- the loss of many small batches


@pytest.mark.parametrize("clip", [0.0, 0.1])
@pytest.mark.parametrize("k", [1, 2, 3, 5, 8])
def test_small_batches_are_one_big_batch_for_plain_gradient_descent(k: int, clip: float) -> None:
    """Two full windows of k batches and a partial one of k // 2, with between none and most labels ignored."""
    generator = torch.Generator().manual_seed(k)
    batches = []
    for i in range(2 * k + k // 2):
        x, y = torch.randint(31, (2, 3, 7), generator=generator)
        y[torch.rand(y.shape, generator=generator) < (0.0, 0.8, 0.4)[i % 3]] = IGNORE
        batches.append((x, y))
    ours, theirs = small_gpt(), small_gpt()
    config = TrainConfig(
        steps=3, accumulation=k, clip=clip, optimizer="sgd", momentum=0.0, learning_rate=0.5, weight_decay=0.0,
        warmup=0, warmdown=0.0, dtype="float32", eval_every=0,
    )  # fmt: skip
    history = train(ours, batches, config, progress=False)
    windows = [batches[:k], batches[k : 2 * k], *([batches[2 * k :]] if k > 1 else [])]
    assert len(history) == len(windows)
    norms = []
    for record, window in zip(history, windows, strict=True):
        x, y = (torch.cat(part) for part in zip(*window, strict=True))
        theirs.zero_grad()
        loss = F.cross_entropy(theirs(x).reshape(-1, 31), y.reshape(-1), ignore_index=IGNORE)
        loss.backward()
        norms.append(nn.utils.get_total_norm([p.grad for p in theirs.parameters()]).item())
        with torch.no_grad():
            for p in theirs.parameters():
                p -= 0.5 * p.grad * (min(1.0, clip / norms[-1]) if clip else 1.0)
        assert record["loss"] == pytest.approx(loss.item(), abs=1e-12)
        assert record["gradient_norm"] == pytest.approx(norms[-1], rel=1e-10)
        assert record["tokens"] == (y != IGNORE).sum()
    assert min(norms) > 0.1  # where there is a clip, it was active
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-12)


# ---- bits per byte, and the two sides of the text


def test_bytes_of_tokens_are_the_bytes_of_ten_thousand_texts() -> None:
    """Random characters of one to four bytes, whose tokens often end within one."""
    tokenizer = BPETokenizer.train(["cafés, naïve 世界 🌍🚀 " * 20, *stories(20, seed=1)], vocab_size=320)
    rng = random.Random(0)
    letters = "ab \né世😀\x00\u00a0\u0301\uffff\U0010ffff"
    texts = ["".join(rng.choices(letters, k=rng.randint(1, 30))) for _ in range(10_000)]
    split = 0
    for text in texts:
        ids = tokenizer.encode(text)
        assert text_ids(np.array([tokenizer.end_of_text, *ids]), tokenizer)[1] == len(text.encode())
        split += sum(len(tokenizer.decode([i]).encode()) for i in ids) != len(text.encode())
    assert split > 5_000  # texts whose bytes, counted by decoding each token, would be wrong
    assert encode_corpus(texts, tokenizer).n_bytes == sum(len(text.encode()) for text in texts)


def test_no_token_of_the_validation_text_is_learned_from(tmp_path: Path) -> None:
    """Through the files that training reads: the documents of both sides, and the part that mixing is fitted on."""
    path, tokenizer = tmp_path / "texts", ByteTokenizer()
    path.mkdir()
    for i, story in enumerate(stories(60, seed=4)):
        (path / f"{i}.txt").write_text(f"{i}. {story}\n", encoding="utf-8")
    prepared = prepare(load_corpus(path), tokenizer, tmp_path / "ids")

    def documents(ids: np.ndarray) -> list[str]:
        cuts = np.flatnonzero(ids == tokenizer.end_of_text)
        return [
            tokenizer.decode(part[part != tokenizer.end_of_text].tolist()) for part in np.split(ids, cuts) if len(part)
        ]

    learned, validation = documents(prepared.train.ids), documents(prepared.validation.ids)
    assert len(learned) + len(validation) == 60
    assert not set(learned) & set(validation)
    assert len(prepared.learned) + len(prepared.held_out) - 1 == len(prepared.train.ids)
    assert np.array_equal(prepared.train.ids[len(prepared.learned) :], prepared.held_out[1:])
    text = tokenizer.decode(prepared.learned[prepared.learned != tokenizer.end_of_text].tolist())
    assert not any(document in text for document in validation)


def test_two_looks_at_the_validation_text_are_the_same() -> None:
    """In the middle of training, with dropout on in training: bit for bit, and training goes on as if nobody had looked."""
    tokenizer = ByteTokenizer()
    texts = list(stories(40, seed=5))
    ids, validation = (encode_corpus(part, tokenizer) for part in (texts[:30], texts[30:]))
    config = TrainConfig(steps=4, warmup=0, dtype="float32", eval_every=1)
    pairs, losses = [], []
    for looks in (0, 2):

        def look(model: nn.Module, looks: int = looks) -> float:
            bits = [evaluate(model, validation, tokenizer, max_bytes=700).bits_per_byte for _ in range(looks)]
            pairs.extend([tuple(bits)] if bits else [])
            return 0.0

        model = small_gpt(vocab_size=257, dropout=0.3).float()
        torch.manual_seed(8)
        history = train(model, Batches(ids.ids, 2, 7), config, evaluate=look, progress=False)
        losses.append([record["loss"] for record in history])
    assert len(pairs) == 4
    assert all(first == second for first, second in pairs)
    assert len(set(pairs)) == 4
    assert losses[0] == losses[1]


# ---- weights and how they move


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "muon", "sgd"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_almost_all_half_precision_weights_have_moved(optimizer: str, dtype: torch.dtype) -> None:
    """A hundred steps of six ten-thousandths of a weight: one alone is a tenth of the spacing of bfloat16 at 1."""
    layer = nn.Module()
    layer.weight = nn.Parameter(torch.ones(8, 5, dtype=dtype))
    config = TrainConfig(optimizer=optimizer, learning_rate=6e-4, matrix_learning_rate=6e-3, momentum=0.5)
    steps = build_optimizer(layer, config)
    for _ in range(100):
        layer.weight.grad = torch.ones_like(layer.weight)
        steps.step()
    assert (layer.weight != 1).float().mean() >= 0.95
    assert ((layer.weight < 0.97) & (layer.weight > 0.3)).all()


def models() -> list[nn.Module]:
    torch.manual_seed(11)
    return [GPT(gpt2_config(**SHAPE)), GPT(llama_config(**SHAPE)), SpeedrunGPT(SpeedrunConfig(**SHAPE))]


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "muon", "sgd"])
def test_only_matrices_decay_in_every_model_under_every_optimizer(optimizer: str) -> None:
    """With gradients of zero nothing moves but what decays; with a learning rate of zero nothing at all."""
    for model in models():
        with torch.no_grad():
            for p in model.parameters():
                p.fill_(1.0)
        for rate in (0.0, 0.1):
            config = TrainConfig(optimizer=optimizer, learning_rate=rate, matrix_learning_rate=rate, weight_decay=0.5)
            steps = build_optimizer(model, config)
            decays = {name for group in steps.groups for name in group["names"] if group["weight_decay"]}
            assert decays == {name for name, p in model.named_parameters() if p.ndim >= 2}
            for p in model.parameters():
                p.grad = torch.zeros_like(p)
            steps.step()
            moved = {name for name, p in model.named_parameters() if not torch.equal(p, torch.ones_like(p))}
            assert moved == (decays if rate else set())


def test_no_scaled_losses() -> None:
    """bfloat16 has the range of float32: no loss is scaled, so no scale can be forgotten."""
    with pytest.raises(ValueError, match="dtype is 'float16': choose one of auto, float32, bfloat16"):
        TrainConfig(dtype="float16")
    for device, dtype in itertools.product(("cpu", "cuda"), ("auto", "float32", "bfloat16")):
        if device == "cpu" or torch.cuda.is_available():
            assert pick_dtype(dtype, torch.device(device)) in (torch.float32, torch.bfloat16)


def test_a_failed_run_is_exit_code_3_and_its_last_checkpoint_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text("".join(stories(40, seed=6)), encoding="utf-8")
    clip, norms = loop.clip_grad_norm, []

    def clip_until_it_fails(*arguments: Any) -> float:
        norms.append(clip(*arguments))
        return norms[-1] if len(norms) < 4 else math.nan

    monkeypatch.setattr(loop, "clip_grad_norm", clip_until_it_fails)
    shape = "--tokenizer byte --context-length 8 --d-model 8 --n-layers 1 --n-heads 2 --batch-size 2 --threads 1"
    run = f"train --data {tmp_path}/text.txt --out {tmp_path}/run --steps 6 --save-every 1 {shape}"
    assert main(run.split()) == 3
    says = [line for line in capsys.readouterr().err.splitlines() if line.startswith("minilm:")]
    assert len(says) == 1
    assert "step 4" in says[0] and says[0].endswith("is untouched")
    last = load_checkpoint(tmp_path / "run", prefer="last")
    assert last.step == 3
    assert all(p.isfinite().all() for p in last.model.parameters())


def test_every_parameter_starts_as_specified_and_the_same_from_the_same_seed() -> None:
    shape: dict[str, Any] = {**SHAPE, "vocab_size": 301, "context_length": 128, "d_model": 128}
    D, into_stream = 128, 0.02 / math.sqrt(2 * 2)

    def spread(name: str, speedrun: bool) -> tuple[float, float]:
        """(mean, standard deviation) that the parameter is to have."""
        last = name.split(".")[-2:]
        if speedrun:
            if name == "embeddings.0.weight":
                return 0.0, 1.0
            return 0.0, 0.5 / math.sqrt(D) if last[0] in ("qkv", "up") else 0.0
        if "norm" in last[0]:
            return (1.0, 0.0) if last[1] == "weight" else (0.0, 0.0)
        if last[1] == "bias":
            return 0.0, 0.0
        return 0.0, {"positions": 0.01, "out": into_stream, "down": into_stream}.get(last[0], 0.02)

    for make in (lambda: GPT(gpt2_config(**shape)), lambda: GPT(llama_config(**shape)),
                 lambda: SpeedrunGPT(SpeedrunConfig(**shape))):  # fmt: skip
        twins = []
        for _ in range(2):
            torch.manual_seed(12)
            twins.append(make())
        for (name, p), q in zip(twins[0].named_parameters(), twins[1].parameters(), strict=True):
            mean, std = spread(name, isinstance(twins[0], SpeedrunGPT))
            assert torch.equal(p, q), name
            assert p.mean().item() == pytest.approx(mean, abs=4 * std / math.sqrt(p.numel())), name
            assert (p.std().item() if p.numel() > 1 else 0.0) == pytest.approx(std, rel=0.05), name


def test_repeated_ids_add_up_in_the_gradient_of_a_table() -> None:
    ids = torch.tensor([[2, 2, 0], [2, 4, 0]])
    dout = torch.randn(2, 3, 3, dtype=torch.float64)
    expected = torch.zeros(5, 3, dtype=torch.float64)
    for row, column in itertools.product(range(2), range(3)):
        expected[ids[row, column]] += dout[row, column]
    table = Embedding(5, 3).double()
    table(ids).backward(dout)
    assert table.weight.grad is not None
    torch.testing.assert_close(table.weight.grad, expected, rtol=0, atol=1e-14)
    _, cache = byhand.embedding(ids.numpy(), table.weight.detach().numpy())
    np.testing.assert_allclose(byhand.embedding_backward(dout.numpy(), cache), expected.numpy(), rtol=0, atol=1e-14)


def test_no_two_seeds_and_epochs_begin_alike() -> None:
    """Four seeds, as four processes would have, and three epochs each: the first hundred windows, pairwise."""
    begins = []
    for seed in range(4):
        batches = Batches(np.arange(3001), batch_size=1, context_length=10, seed=seed)
        for epoch in range(3):
            windows = []
            while batches.epoch == epoch:
                windows.append(next(batches)[0][0, 0].item())
            begins.append(tuple(windows[:100]))
    assert {len(begin) for begin in begins} == {100}
    assert len(set(begins)) == 12

"""Adapter checkpoints: what is in them, which base they find and which they refuse, and that the rest of the house can use them."""

import copy
import dataclasses
import functools
import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from minilm.classical.config import NgramConfig
from minilm.classical.ngram import NgramLM
from minilm.decoding.batch import generate_batch
from minilm.decoding.config import SampleConfig
from minilm.decoding.generate import generate
from minilm.decoding.sampling import Sampler
from minilm.evaluation.evaluate import evaluate
from minilm.fast.attention import scaled_dot_product_attention as fused_attention
from minilm.finetuning.adapters import AdaptedModel, adapt, fingerprint
from minilm.finetuning.batches import PAD, RaggedBatches
from minilm.finetuning.freezing import count_parameters
from minilm.finetuning.heads import SequenceClassifier
from minilm.finetuning.lora import lora_arrays, merge_lora, unmerge_lora
from minilm.finetuning.lora_config import LoRAConfig
from minilm.finetuning.losses import label_loss
from minilm.finetuning.predict import predict
from minilm.models.config import GPTConfig, SpeedrunConfig, llama_config
from minilm.models.counted import CountedLM
from minilm.models.gpt import GPT
from minilm.models.speedrun_gpt import SpeedrunGPT
from minilm.text.tokenizer import CharTokenizer
from minilm.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from minilm.training.config import TrainConfig
from minilm.training.loop import train
from minilm.training.muon import build_optimizer

TOKENIZER = CharTokenizer.train(["abcdefgh "])
V, CONTEXT = TOKENIZER.vocab_size, 12
SIZES = {"vocab_size": V, "context_length": CONTEXT, "d_model": 12, "n_layers": 2, "n_heads": 3}
LORA = LoRAConfig(rank=2, alpha=5.0, targets=("q", "v", "down"))
LABELS = ("bad", "fair", "good")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shaken(model: nn.Module, seed: int = 1) -> nn.Module:
    """Every weight random."""
    generator = seeded(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
    return model.eval()


def gpt(seed: int = 1) -> GPT:
    return shaken(GPT(GPTConfig(**SIZES, d_ff=20)), seed)


def llama(seed: int = 1) -> GPT:
    return shaken(GPT(llama_config(**SIZES, n_kv_heads=1, d_ff=20)), seed)


def saved(folder: Path, model: nn.Module) -> Checkpoint:
    return load_checkpoint(save_checkpoint(folder, model, TOKENIZER, step=3))


@pytest.fixture
def base(tmp_path: Path) -> Checkpoint:
    return saved(tmp_path / "base", gpt())


with_head = functools.partial(SequenceClassifier.from_backbone, labels=LABELS, generator=seeded(8))


def stirred(model: AdaptedModel, seed: int = 4) -> AdaptedModel:
    """As after training: B is not zero, and the head is another."""
    generator = seeded(seed)
    for name, tensor in model.arrays().items():
        if not name.endswith(".A"):
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.5)
    return model.eval()


def ids(batch: int = 3, length: int = CONTEXT, seed: int = 5) -> Tensor:
    return torch.randint(0, V, (batch, length), generator=seeded(seed))


def padded() -> Tensor:
    x = ids()
    x[0, 7:] = x[2, 3:] = PAD
    return x


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def assert_same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


# ---- a new adapter


def test_step_0_is_the_base_exactly_and_the_base_is_left_alone(base: Checkpoint) -> None:
    before = weights(base.model)
    adapted = adapt(base, LORA, seeded(2)).eval()
    assert torch.equal(adapted(ids()), base.model.eval()(ids()))
    stirred(adapted)
    merge_lora(adapted.model)
    assert not torch.equal(adapted(ids()), base.model(ids()))
    assert_same_bits(weights(base.model), before)
    assert all(p.requires_grad for p in base.model.parameters())


def test_step_0_with_a_head_is_the_model_with_that_head(base: Checkpoint) -> None:
    adapted = adapt(base, LORA, seeded(2), functools.partial(with_head, generator=seeded(8)))
    plain = with_head(base.model, generator=seeded(8))
    assert torch.equal(adapted(padded()), plain(padded()))
    assert hasattr(base.model, "lm_head")


def test_the_base_shares_its_memory_with_the_adapted_model(base: Checkpoint) -> None:
    adapted = adapt(base, LORA, seeded(2))
    assert adapted.model.embedding.weight.data_ptr() == base.model.embedding.weight.data_ptr()
    assert adapted.model.lm_head.weight is adapted.model.embedding.weight  # still tied
    assert (
        adapted.model.blocks[0].attention.q.linear.weight.data_ptr()
        == base.model.blocks[0].attention.q.weight.data_ptr()
    )


def test_config_answers_what_the_house_asks(base: Checkpoint) -> None:
    config = adapt(base, LORA, seeded(2)).config
    assert (config.vocab_size, config.context_length, config.labels) == (V, CONTEXT, ())
    assert (config.base, config.base_kind, config.head) == (str(base.path.resolve()), "gpt", None)
    assert adapt(base, LORA, seeded(2), with_head).config.labels == LABELS


def test_only_adapter_and_head_learn(base: Checkpoint) -> None:
    """By hand: q, v 2 (12 + 12), down 2 (12 + 20), in 2 blocks; the head 3 · 12 + 3."""
    adapted = adapt(base, LORA, seeded(2), with_head)
    assert count_parameters(adapted).trainable == 2 * (2 * 48 + 64) + 39
    label_loss()(adapted, padded(), torch.tensor([0, 2, 1])).backward()
    gradients = {name for name, p in adapted.named_parameters() if p.grad is not None}
    assert gradients == {f"model.{name}" for name in adapted.arrays()}
    assert {"model.score.weight", "model.score.bias"} < gradients
    assert len(gradients) == 2 * 2 * 3 + 2


# ---- checkpoints


@pytest.mark.parametrize("build", [gpt, llama, lambda: shaken(SpeedrunGPT(SpeedrunConfig(**{**SIZES, "n_heads": 2})))])
def test_there_and_back(tmp_path: Path, build) -> None:
    """A few kB, no array of the base, the same bits of output."""
    checkpoint = saved(tmp_path / "base", build())
    adapted = stirred(adapt(checkpoint, LoRAConfig(2, 5.0, dropout=0.25), seeded(2)))
    path = save_checkpoint(tmp_path / "adapter", adapted, TOKENIZER, step=7)
    arrays = safetensors.torch.load_file(path / "weights.safetensors")
    assert set(arrays) == set(lora_arrays(adapted.model))
    size = (path / "weights.safetensors").stat().st_size
    numbers = 4 * sum(array.numel() for array in arrays.values())
    assert numbers < size < numbers + 150 * len(arrays)
    again = load_checkpoint(path)
    assert type(again.model) is AdaptedModel
    assert again.step == 7
    assert again.model.config == adapted.config
    assert torch.equal(again.model.eval()(ids()), adapted(ids()))
    assert_same_bits(again.model.arrays(), adapted.arrays())
    assert count_parameters(again.model) == count_parameters(adapted)
    assert torch.equal(again.model.train()(ids()), again.model.eval()(ids())) is False  # dropout came back too


def test_there_and_back_with_a_head(tmp_path: Path, base: Checkpoint) -> None:
    adapted = stirred(adapt(base, LORA, seeded(2), with_head))
    path = save_checkpoint(tmp_path / "adapter", adapted, TOKENIZER)
    again = load_checkpoint(path).model.eval()
    assert type(again.model) is SequenceClassifier
    assert again.config.labels == LABELS
    assert torch.equal(again(padded()), adapted(padded()))
    assert count_parameters(again) == count_parameters(adapted)
    names = set(safetensors.torch.load_file(path / "weights.safetensors"))
    assert {name for name in names if not name.startswith("backbone.")} == {"score.weight", "score.bias"}
    assert not any(".linear." in name for name in names)


def test_a_merged_model_saves_the_same_adapter(tmp_path: Path, base: Checkpoint) -> None:
    adapted = stirred(adapt(base, LORA, seeded(2)))
    expected = adapted(ids())
    merge_lora(adapted.model)
    again = load_checkpoint(save_checkpoint(tmp_path / "adapter", adapted, TOKENIZER)).model.eval()
    assert torch.equal(again(ids()), expected)


def test_training_goes_on_bit_for_bit(tmp_path: Path, base: Checkpoint) -> None:
    config = TrainConfig(steps=6, learning_rate=0.03, warmup=0, dtype="float32")
    data = RaggedBatches([[i % V, (i * i) % V, 3][: 1 + i % 3] for i in range(20)], [i % 3 for i in range(20)], 4)
    adapted, loss = adapt(base, LORA, seeded(2), functools.partial(with_head, generator=seeded(8))), label_loss()
    optimizer = build_optimizer(adapted, config)
    kept = []

    def keep(step: int, model: nn.Module, record: dict) -> None:
        if step == 3:
            kept.append(
                save_checkpoint(tmp_path / "run", model, TOKENIZER, step=step, optimizer=optimizer, batches=data)
            )

    before = weights(base.model)
    train(adapted, data, config, optimizer=optimizer, loss_function=loss, on_step=keep, progress=False)
    half = load_checkpoint(kept[0])
    again = build_optimizer(half.model, config)
    other = RaggedBatches(data.inputs, data.targets, 4)
    half.resume(again, other)
    train(half.model, other, config, optimizer=again, loss_function=loss, progress=False, start=3)
    assert_same_bits(half.model.arrays(), adapted.arrays())
    assert_same_bits(weights(base.model), before)
    assert_same_bits(weights(load_checkpoint(base.path).model), before)


# ---- the right base, and no other


def test_another_base_is_refused_in_one_line(tmp_path: Path, base: Checkpoint) -> None:
    path = save_checkpoint(tmp_path / "adapter", stirred(adapt(base, LORA, seeded(2))), TOKENIZER)
    other = saved(tmp_path / "other", gpt(seed=9))
    one_bit = copy.deepcopy(base.model)
    one_bit.blocks[1].mlp.up.bias.data[3] = torch.nextafter(one_bit.blocks[1].mlp.up.bias[3], torch.tensor(9.0))
    for wrong in (other.path, str(other.path), other.model, one_bit):
        with pytest.raises(ValueError, match="is not the base of this adapter: the SHA-256") as caught:
            load_checkpoint(path, base=wrong)
        assert "\n" not in str(caught.value)
        assert fingerprint(base.model)[:12] in str(caught.value)
    with pytest.raises(ValueError, match="other/step-000003 is not the base"):
        load_checkpoint(path, base=other.path)


def test_a_base_that_moved(tmp_path: Path, base: Checkpoint) -> None:
    adapted = stirred(adapt(base, LORA, seeded(2)))
    path = save_checkpoint(tmp_path / "adapter", adapted, TOKENIZER)
    shutil.move(tmp_path / "base", tmp_path / "elsewhere")
    with pytest.raises(
        ValueError, match=r"needs its base model .*base/step-000003 is no folder.*name the folder where it lies now"
    ) as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    for place in (tmp_path / "elsewhere", str(tmp_path / "elsewhere" / "step-000003"), base.model):
        assert torch.equal(load_checkpoint(path, base=place).model.eval()(ids()), adapted(ids()))
    weights_file = tmp_path / "elsewhere" / "step-000003" / "weights.safetensors"
    weights_file.write_bytes(weights_file.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=r"needs its base model .*was changed after it was saved"):
        load_checkpoint(path, base=tmp_path / "elsewhere")


def test_the_path_does_not_depend_on_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = load_checkpoint(save_checkpoint("base", gpt(), TOKENIZER))
    path = save_checkpoint("adapter", adapt(checkpoint, LORA, seeded(2)), TOKENIZER).resolve()
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert load_checkpoint(path).model.config.base == str(tmp_path.resolve() / "base" / "step-000000")


def test_several_adapters_share_one_base(tmp_path: Path, base: Checkpoint) -> None:
    """Each answers as if it were alone, whichever is merged; the base stays as it was."""
    models = {}
    for seed, (lora, head) in enumerate([(LORA, None), (LoRAConfig(4, 3.0), None), (LORA, with_head)]):
        adapted = stirred(adapt(base, lora, seeded(seed), head), seed + 20)
        save_checkpoint(tmp_path / f"adapter{seed}", adapted, TOKENIZER)
        models[seed] = adapted(ids())
    plain, before = base.model.eval()(ids()), weights(base.model)
    shared = {seed: load_checkpoint(tmp_path / f"adapter{seed}", base=base.model).model.eval() for seed in models}
    for turn in range(2):
        for seed, expected in models.items():
            torch.testing.assert_close(shared[seed](ids()), expected, rtol=0, atol=2e-5 * turn)
        assert torch.equal(base.model(ids()), plain)
        merge_lora(shared[turn].model)
    for turn in range(2):
        unmerge_lora(shared[turn].model)
        assert torch.equal(shared[turn](ids()), models[turn])
    assert_same_bits(weights(base.model), before)


def test_fingerprint_sees_every_bit_name_shape_and_type() -> None:
    class Holder:
        def __init__(self, **arrays: object) -> None:
            self.arrays = lambda: arrays

    a = torch.arange(6.0)
    holders = [
        Holder(a=a), Holder(b=a), Holder(a=a.reshape(2, 3)), Holder(a=a.reshape(3, 2)), Holder(a=a.double()),
        Holder(a=a.to(torch.bfloat16)), Holder(a=a, b=a), Holder(a=-a), Holder(a=a.view(torch.int32)), Holder(a=a[0]),
    ]  # fmt: skip
    assert len({fingerprint(holder) for holder in holders}) == len(holders)
    assert fingerprint(Holder(b=a, a=a)) == fingerprint(Holder(a=a.clone(), b=np.arange(6, dtype=np.float32)))
    assert fingerprint(Holder(a=a.reshape(2, 3))) == fingerprint(Holder(a=a.reshape(2, 3).T.contiguous().T))
    assert fingerprint(gpt()) == fingerprint(gpt())


def test_bases_that_cannot_be_adapted(tmp_path: Path, base: Checkpoint) -> None:
    counted = CountedLM(NgramLM(NgramConfig(V, 2)).fit(np.array([0, 1, 2, 0, 1]), 0))
    for model in (adapt(base, LORA, seeded(2)), with_head(base.model), counted):
        with pytest.raises(ValueError, match=f"is of kind {model.kind}: the base of an adapter is a plain"):
            adapt(dataclasses.replace(base, model=model), LORA, seeded(2))
    with pytest.raises(ValueError, match="without a backbone"):
        adapt(base, LORA, seeded(2), head=lambda model: model)


def test_parts_go_to_the_base(tmp_path: Path, base: Checkpoint) -> None:
    adapted = stirred(adapt(base, LORA, seeded(2)))
    path = save_checkpoint(tmp_path / "adapter", adapted, TOKENIZER)
    fused = load_checkpoint(path, attention=fused_attention).model.eval()
    assert fused.model.blocks[1].attention.attention is fused_attention
    torch.testing.assert_close(fused(ids()), adapted(ids()), rtol=0, atol=1e-5)


def test_arrays_that_do_not_fit(base: Checkpoint) -> None:
    adapted = stirred(adapt(base, LORA, seeded(2)))
    arrays = {name: array.clone() for name, array in adapted.arrays().items()}
    first = next(iter(arrays))
    with pytest.raises(ValueError, match="do not fit this model"):
        AdaptedModel.from_arrays(adapted.config, {k: v for k, v in arrays.items() if k != first}, base.model)
    with pytest.raises(ValueError, match="has shape"):
        AdaptedModel.from_arrays(adapted.config, arrays | {first: torch.zeros(1)}, base.model)


# ---- used like the model itself


def test_merged_is_a_plain_model(tmp_path: Path, base: Checkpoint) -> None:
    for head, x in ((None, ids()), (with_head, padded())):
        adapted = stirred(adapt(base, LORA, seeded(2), head))
        expected = adapted(x)
        plain = adapted.merged()
        assert type(plain) is (GPT if head is None else SequenceClassifier)
        assert all(p.requires_grad for p in plain.parameters())
        again = load_checkpoint(save_checkpoint(tmp_path / plain.kind, plain, TOKENIZER)).model.eval()
        torch.testing.assert_close(again(x), expected, rtol=0, atol=1e-5)
        assert torch.equal(adapted(x), expected)


def test_generate_with_and_without_a_cache(base: Checkpoint) -> None:
    adapted = stirred(adapt(base, LoRAConfig(4, 30.0), seeded(2)).double())
    config = SampleConfig()
    rows = {
        cached: list(generate(adapted, [1, 2], Sampler(config, seeded(3)), 9, use_cache=cached))
        for cached in (True, False)
    }
    assert rows[True] == rows[False]
    merged = adapted.merged()
    assert list(generate(merged, [1, 2], Sampler(config, seeded(3)), 9)) == rows[True]
    batch = generate_batch(adapted, [[1, 2], [4]], config, 9, seeds=[3, 4])
    assert batch[0] == rows[True] or list(getattr(batch[0], "ids", [])) == rows[True]
    other = list(generate(base.model.double(), [1, 2], Sampler(config, seeded(3)), 9))
    assert other != rows[True]


def test_evaluate(base: Checkpoint) -> None:
    adapted = stirred(adapt(base, LORA, seeded(2)))
    text = np.array([TOKENIZER.end_of_text, *TOKENIZER.encode("abc def gha bcd efg hab cde")])
    found, merged, plain = (
        evaluate(m, text, TOKENIZER).nats_per_token for m in (adapted, adapted.merged(), base.model)
    )
    assert found == pytest.approx(merged, abs=1e-6)
    assert abs(found - plain) > 1e-3


def test_predict(base: Checkpoint) -> None:
    adapted = stirred(adapt(base, LORA, seeded(2), with_head))
    texts = ["abc", "h", "", "fed cab fed cab fed cab"]
    found, merged = predict(adapted, TOKENIZER, texts), predict(adapted.merged(), TOKENIZER, texts)
    assert [guess.label for guess in found] == [guess.label for guess in merged]
    for one, other in zip(found, merged, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)


def test_an_adapter_learns_to_classify_on_a_base_that_rests(base: Checkpoint) -> None:
    """Whether an `a` is in the text, which the random base alone with a head does not tell as well."""
    texts = ["".join(letters) for letters in itertools.product("abc", repeat=4)]
    rows = [[TOKENIZER.end_of_text, *TOKENIZER.encode(text)] for text in texts]
    targets = [int("a" in text) for text in texts]
    config = TrainConfig(steps=60, learning_rate=0.02, weight_decay=0.0, warmup=0, dtype="float32")
    head = functools.partial(SequenceClassifier.from_backbone, labels=("no", "yes"), generator=seeded(8))
    adapted = adapt(base, LoRAConfig(4, 6.0), seeded(2), head)
    before = weights(base.model)
    history = train(
        adapted, RaggedBatches(rows, targets, 27), config, loss_function=label_loss(), progress=False
    )  # fmt: skip
    assert history[-1]["loss"] < 0.3 * history[0]["loss"]
    right = [
        guess.label == ("yes" if t else "no")
        for guess, t in zip(predict(adapted, TOKENIZER, texts), targets, strict=True)
    ]
    assert sum(right) >= 75  # of 81, where 65 have an `a`
    assert_same_bits(weights(base.model), before)

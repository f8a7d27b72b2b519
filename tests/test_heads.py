"""Heads on backbones: against transformers, blind to padding, saved whole, and able to learn."""

import doctest
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from decoding_models import V, build, randomise
from torch import Tensor, nn

from minilm.finetuning import heads as module
from minilm.finetuning.batches import PAD, RaggedBatches
from minilm.finetuning.config import POOLINGS, HeadConfig
from minilm.finetuning.heads import Head, SequenceClassifier, SpanExtractor, TokenClassifier, pool
from minilm.finetuning.losses import label_loss, span_loss
from minilm.models.config import GPTConfig, SpeedrunConfig, gpt2_config
from minilm.models.gpt import GPT
from minilm.models.registry import build_model
from minilm.models.speedrun_gpt import SpeedrunGPT
from minilm.pretrained.huggingface import arrays_to_huggingface, config_to_huggingface
from minilm.text.tokenizer import ByteTokenizer
from minilm.training.checkpoint import load_checkpoint, save_checkpoint
from minilm.training.config import TrainConfig
from minilm.training.loop import train

LABELS = ("bad", "fair", "good")
BACKBONES = ["learned", "rotary", "speedrun"]
HEADS: list[type[Head]] = [SequenceClassifier, TokenClassifier, SpanExtractor]
GPT2 = gpt2_config(vocab_size=31, context_length=17, d_model=20, n_layers=2, n_heads=5, d_ff=28)
every_backbone = pytest.mark.parametrize("backbone", BACKBONES)
every_head = pytest.mark.parametrize("head", HEADS)


def head_on(head: type[Head], backbone: Any, pooling: str = "last") -> Any:
    """A head of large random weights, float64."""
    labels = ("start", "end") if head is SpanExtractor else LABELS
    model = head.from_backbone(backbone, labels, pooling)
    randomise(model.score, seed=9)
    return model


def ragged(lengths: list[int], vocab_size: int = V, width: int | None = None) -> Tensor:
    """Random rows of these lengths, padded on the right."""
    ids = torch.randint(0, vocab_size, (len(lengths), width or max(lengths)))
    for row, length in zip(ids, lengths, strict=True):
        row[length:] = PAD
    return ids


def test_doctests() -> None:
    assert doctest.testmod(module) == (0, 2)


# ---- against transformers


def reference(kind: str, pad: int) -> Any:
    """Their GPT-2 with a head of three labels, float64, all weights random; and the padding that it knows."""
    settings = config_to_huggingface(GPT2)
    del settings["model_type"], settings["architectures"]
    config = transformers.GPT2Config(**settings, num_labels=3, pad_token_id=pad)
    model = getattr(transformers, f"GPT2For{kind}")(config).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def ours_of(theirs: Any, head: type[Head]) -> Any:
    """Our model with the weights of theirs: GPT-2 keeps its matrices (I, O), and q, k and v in one."""
    model = head.from_backbone(GPT(GPT2).double(), LABELS).eval()
    state = theirs.state_dict()
    layer = state.pop("score.weight", None)
    model.score.weight.data = state.pop("classifier.weight") if layer is None else layer
    model.score.bias.data = state.pop("classifier.bias", torch.zeros(3).double())
    for name, parameter in model.backbone.named_parameters():
        ((foreign, value),) = [(key, state[key]) for key in arrays_to_huggingface({name: parameter}, GPT2_UNTIED)]
        value = value.T if ".h." in foreign and value.ndim == 2 else value
        part = name.split(".")[-2]
        parameter.data = value.chunk(3)["qkv".index(part)] if part in ("q", "k", "v") else value
    return model


GPT2_UNTIED = GPTConfig(**(vars(GPT2) | {"tie_embeddings": False}))  # for the translation, which then adds no lm_head


def assert_same_gradients(ours: Any, theirs: Any) -> None:
    gradients = {name: p.grad for name, p in ours.backbone.named_parameters()}
    assert all(gradient is not None for gradient in gradients.values())
    expected = dict(theirs.transformer.named_parameters())
    translated = arrays_to_huggingface(gradients, GPT2_UNTIED)
    assert {name.removeprefix("transformer.") for name in translated} == expected.keys()
    for name, gradient in translated.items():
        torch.testing.assert_close(gradient, expected[name.removeprefix("transformer.")].grad, rtol=1e-10, atol=1e-10)


def test_sequence_classifier_equals_transformers_logits_and_gradients() -> None:
    pad = 30
    theirs = reference("SequenceClassification", pad)
    ours = ours_of(theirs, SequenceClassifier)
    ids, labels = ragged([17, 3, 1, 11], vocab_size=pad), torch.tensor([2, 0, 1, 0])  # no text holds their padding
    expected = theirs(ids.where(ids != PAD, pad), labels=labels)
    logits = ours(ids)
    assert logits.std() > 0.2
    torch.testing.assert_close(logits, expected.logits, rtol=1e-10, atol=1e-10)
    loss = label_loss()(ours, ids, labels)
    torch.testing.assert_close(loss, expected.loss, rtol=1e-10, atol=1e-10)
    loss.backward()
    expected.loss.backward()
    torch.testing.assert_close(ours.score.weight.grad, theirs.score.weight.grad, rtol=1e-10, atol=1e-10)
    assert_same_gradients(ours, theirs)


def test_a_text_may_end_with_any_token_where_theirs_mistakes_it_for_padding() -> None:
    """The reason for PAD = -1: with a token as padding, the text 5, 7, 30 is judged as if it were 5, 7."""
    theirs = reference("SequenceClassification", pad=30)
    ours = ours_of(theirs, SequenceClassifier)
    ids = torch.tensor([[5, 7, 30], [5, 7, PAD]])
    confused = theirs(torch.tensor([[5, 7, 30], [5, 7, 30]])).logits
    torch.testing.assert_close(confused[0], confused[1])
    torch.testing.assert_close(ours(ids)[1], confused[1], rtol=1e-10, atol=1e-10)
    assert (ours(ids)[0] - ours(ids)[1]).abs().max() > 0.1
    alone = theirs.score(theirs.transformer(torch.tensor([[5, 7, 30]])).last_hidden_state[:, -1])
    torch.testing.assert_close(ours(ids)[:1], alone, rtol=1e-10, atol=1e-10)


def test_token_classifier_equals_transformers_logits_and_gradients() -> None:
    theirs = reference("TokenClassification", pad=30)
    ours = ours_of(theirs, TokenClassifier)
    ids = ragged([17, 3, 1, 11], vocab_size=31)
    mask = ids != PAD
    labels = torch.randint(0, 3, ids.shape).where(mask, -100)
    labels[0, 4:9] = -100
    expected = theirs(ids.where(mask, 30), labels=labels)
    torch.testing.assert_close(ours(ids)[mask], expected.logits[mask], rtol=1e-10, atol=1e-10)
    loss = label_loss()(ours, ids, labels)
    torch.testing.assert_close(loss, expected.loss, rtol=1e-10, atol=1e-10)
    loss.backward()
    expected.loss.backward()
    torch.testing.assert_close(ours.score.weight.grad, theirs.classifier.weight.grad, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(ours.score.bias.grad, theirs.classifier.bias.grad, rtol=1e-10, atol=1e-10)
    assert_same_gradients(ours, theirs)


# ---- by definition


@every_backbone
@torch.no_grad()
def test_each_pooling_by_definition(backbone: str) -> None:
    base = build(backbone)
    ids, lengths = ragged([11, 4, 1]), [11, 4, 1]
    for pooling in POOLINGS:
        model = head_on(SequenceClassifier, base, pooling)
        for row, length, logits in zip(ids, lengths, model(ids), strict=True):
            h = base.hidden(row[None, :length])[0]  # of the text alone, by the backbone that has its own head still
            pooled = {"last": h[-1], "mean": sum(h) / length, "first": h[0]}[pooling]
            expected = [float(w @ pooled) + float(b) for w, b in zip(model.score.weight, model.score.bias, strict=True)]
            assert logits.tolist() == pytest.approx(expected, rel=1e-10, abs=1e-10)


def test_first_pooling_of_a_causal_model_reads_one_token_only() -> None:
    model = head_on(SequenceClassifier, build("learned"), "first")
    a, b = model(torch.tensor([[3, 5, 6], [3, 1, 9]]))
    assert torch.equal(a, b)


@every_backbone
@torch.no_grad()
def test_scores_of_spans_by_definition(backbone: str) -> None:
    base = build(backbone)
    model = head_on(SpanExtractor, base)
    ids, answers = ragged([7, 11, 4]), [(2, 5), (0, 10), (3, 3)]
    scores = model(ids)
    total = 0.0
    for row, length, (start, end), found in zip(ids, [7, 11, 4], answers, scores, strict=True):
        h = base.hidden(row[None, :length])[0]
        for side, place in ((0, start), (1, end)):
            own = [float(model.score.weight[side] @ vector) + float(model.score.bias[side]) for vector in h]
            assert found[:length, side].tolist() == pytest.approx(own, rel=1e-10, abs=1e-10)
            assert bool((found[length:, side] == float("-inf")).all())
            total += math.log(sum(math.exp(score) for score in own)) - own[place]
    assert span_loss(model, ids, torch.tensor(answers)).item() == pytest.approx(total / 6, rel=1e-10)


# ---- padding


@every_backbone
@pytest.mark.parametrize("pooling", POOLINGS)
def test_pitfall_32_a_text_is_judged_as_if_it_were_alone(backbone: str, pooling: str) -> None:
    """0 to 32 places of padding, with neighbours of other lengths: logits, loss and gradient of a row do not move."""
    base = build(backbone, context=40)
    heads = HEADS if pooling == "last" else [SequenceClassifier]  # the others pool nothing
    models = [head_on(head, base, pooling) for head in heads]
    text = ragged([8])
    alone = [model(text)[0] for model in models]
    for padding in range(33):
        batch = ragged([8 + padding, 8, max(1, padding // 2)], width=8 + padding)
        batch[1, :8] = text
        for model, expected in zip(models, alone, strict=True):
            ours = model(batch)[1]
            torch.testing.assert_close(ours[: len(expected)], expected, rtol=1e-10, atol=1e-10)
            assert not isinstance(model, SpanExtractor) or bool((ours[8:] == float("-inf")).all())


TARGETS = {SequenceClassifier: torch.tensor([2]), TokenClassifier: torch.tensor([[1, -100, 0, 2, 1]])}
TARGETS[SpanExtractor] = torch.tensor([[1, 3]])


@every_backbone
@every_head
@pytest.mark.parametrize("padding", [1, 3, 32])
def test_padding_changes_no_loss_and_no_gradient(backbone: str, head: type[Head], padding: int) -> None:
    model = head_on(head, build(backbone, context=40), "mean")
    text, targets = ragged([5]), TARGETS[head]
    filled = torch.cat([text, torch.full((1, padding), PAD)], 1)
    padded_targets = targets
    if head is TokenClassifier:
        padded_targets = torch.cat([targets, torch.full((1, padding), -100)], 1)
    loss = span_loss if head is SpanExtractor else label_loss(0.1)
    gradients = []
    for x, y in ((text, targets), (filled, padded_targets)):
        model.zero_grad()
        value = loss(model, x, y)
        value.backward()
        gradients.append([value, *(p.grad.to_dense().clone() for p in model.parameters())])
    assert all(bool(g.isfinite().all()) for g in gradients[1])
    for ours, expected in zip(gradients[1], gradients[0], strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)


@every_head
def test_padding_on_the_left_or_of_another_id_is_refused(head: type[Head]) -> None:
    model = head_on(head, build("learned"))
    with pytest.raises(ValueError, match="a token stands behind padding: pad rows on the right"):
        model(torch.tensor([[1, 2, 3], [PAD, 2, 3]]))
    with pytest.raises(ValueError, match="id -100 is no token"):
        model(torch.tensor([[1, 2, -100]]))
    with pytest.raises(ValueError, match="12 tokens do not fit into context_length 11"):
        model(ragged([12]))


def test_a_row_of_padding_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="a row is all padding: encode an empty text"):
        head_on(SequenceClassifier, build("learned"))(torch.tensor([[1, 2], [PAD, PAD]]))
    with pytest.raises(ValueError, match="pooling is 'max': choose one of last, mean, first"):
        pool(torch.zeros(1, 1, 2), torch.ones(1, 1).bool(), "max")


# ---- how they are made


@every_backbone
@every_head
def test_a_head_leaves_the_backbone_it_came_from_alone(backbone: str, head: type[Head]) -> None:
    base = build(backbone)
    before = {name: array.clone() for name, array in base.arrays().items()}
    model = head_on(head, base)
    model.backbone.blocks[0].requires_grad_(False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert base.arrays().keys() == before.keys()
    assert all(torch.equal(array, before[name]) for name, array in base.arrays().items())
    assert base(ragged([3])).shape == (1, 3, V)
    assert not any("lm_head" in name for name, _ in model.named_parameters())
    assert not any("lm_head" in name for name in model.arrays())
    assert model.config.vocab_size == V and model.config.context_length == 11
    assert model.config.backbone_kind == base.kind and model.kind == head.kind


def test_the_new_layer_comes_from_its_generator_alone() -> None:
    base = GPT(GPT2).double().train()
    models = [
        SequenceClassifier.from_backbone(base, LABELS, generator=torch.Generator().manual_seed(seed))
        for seed in (5, 5, 6)
    ]
    weights = [model.score.weight for model in models]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert weights[0].dtype == torch.float64 and weights[0].std().item() == pytest.approx(0.02, rel=0.3)
    assert models[0].training and not SequenceClassifier.from_backbone(base.eval(), LABELS).training


@every_head
@pytest.mark.parametrize("kind", ["gpt", "speedrun"])
def test_fresh_models_come_from_the_config_and_take_parts(head: type[Head], kind: str) -> None:
    config = {"vocab_size": 19, "context_length": 13, "d_model": 12, "n_layers": 1, "n_heads": 3}
    calls = []

    def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        calls.append(q.shape)
        return v

    labels = ["start", "end"]
    model = build_model(head.kind, {"backbone_kind": kind, "backbone": config, "labels": labels}, attention=attention)
    assert isinstance(model, head) and isinstance(model.backbone, GPT if kind == "gpt" else SpeedrunGPT)
    assert model.config.labels == ("start", "end")
    model(ragged([5, 2], vocab_size=19))
    assert calls == [(2, 3, 5, 4)]


@every_backbone
@every_head
def test_checkpoints_hold_all_of_a_head(backbone: str, head: type[Head], tmp_path: Path) -> None:
    model = head_on(head, build(backbone).float(), "mean")
    save_checkpoint(tmp_path, model, ByteTokenizer(), step=3)
    again = load_checkpoint(tmp_path).model.eval()
    assert type(again) is head and again.config == model.config
    ids = ragged([9, 2, 5])
    assert torch.equal(again(ids), model(ids))
    assert again.arrays().keys() == model.arrays().keys()


def test_weights_that_do_not_fit_are_refused() -> None:
    model = head_on(SequenceClassifier, build("learned"))
    arrays = model.arrays()
    four = HeadConfig(**(vars(model.config) | {"labels": ("a", "b", "c", "d")}))
    with pytest.raises(ValueError, match=r"score.weight has shape \(3, 24\), the model needs \(4, 24\)"):
        SequenceClassifier.from_arrays(four, arrays)
    del arrays["score.bias"]
    with pytest.raises(ValueError, match=r"missing or unknown score\.bias"):
        SequenceClassifier.from_arrays(model.config, arrays)


FULL = {"vocab_size": 9, "context_length": 8, "d_model": 4}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"labels": ()}, "must be at least two"),
    ({"labels": ("a",)}, "must be at least two"),
    ({"labels": ("a", "a")}, "all different"),
    ({"labels": ("a", "")}, "texts of at least one character"),
    ({"labels": ("a", 1)}, "texts of at least one character"),
    ({"pooling": "max"}, "pooling is 'max': choose one of last, mean, first"),
    ({"backbone": {"vocab_size": 9, "d_model": 4}}, "lacks context_length"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_configs_that_cannot_be(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"backbone_kind": "gpt", "backbone": FULL, "labels": LABELS}
    with pytest.raises(ValueError, match=message) as error:
        HeadConfig(**(given | change))
    assert "\n" not in str(error.value)


def test_backbones_without_hidden_states_are_refused() -> None:
    with pytest.raises(ValueError, match="a model of kind ngram has no hidden states"):
        SequenceClassifier.from_backbone(build("ngram"), LABELS)
    with pytest.raises(ValueError, match="a span has the two labels start and end, not bad, fair, good"):
        SpanExtractor.from_backbone(build("learned"), LABELS)


# ---- learning


def small(kind: str) -> Any:
    shape: dict[str, Any] = {"vocab_size": 12, "context_length": 16, "d_model": 16, "n_layers": 2, "n_heads": 2}
    return GPT(GPTConfig(**shape)) if kind == "gpt" else SpeedrunGPT(SpeedrunConfig(**shape))


def accuracy(model: nn.Module, batches: RaggedBatches) -> float:
    right = counted = 0
    for _ in range(batches.n_batches):
        x, y = next(batches)
        guess = model(x).argmax(1 if y.ndim == 2 and isinstance(model, SpanExtractor) else -1)
        right += int((guess == y)[y != -100].sum())
        counted += int((y != -100).sum())
    return right / counted


@pytest.mark.parametrize(("head", "kind"), [*((head, "gpt") for head in HEADS), (SequenceClassifier, "speedrun")])
def test_each_head_learns_a_task_from_nothing(head: type[Head], kind: str) -> None:
    """Texts of 3 to 14 tokens. Does 0 or 1 stand in it? Is the token before this one odd? Where are 10 and 11?"""
    generator = torch.Generator().manual_seed(1)
    inputs, targets = [], []
    for length in torch.randint(3, 15, (500,), generator=generator).tolist():
        text = torch.randint(2, 10, (length,), generator=generator).tolist()
        if head is SequenceClassifier:
            targets.append(len(inputs) // 3 % 2)
            text[len(inputs) % length] = targets[-1]
        elif head is TokenClassifier:
            targets.append([int(i > 0 and text[i - 1] % 2) for i in range(length)])
        else:
            start, end = sorted(torch.randperm(length, generator=generator)[:2].tolist())
            text[start], text[end] = 10, 11
            targets.append([start, end])
        inputs.append(text)
    labels = ("start", "end") if head is SpanExtractor else ("no", "yes")
    model = head.from_backbone(small(kind), labels, generator=generator)
    batches = RaggedBatches(inputs[:400], targets[:400], 16)
    config = TrainConfig(steps=150, learning_rate=1e-2, warmup=10, weight_decay=0.0, threads=1, dtype="float32")
    loss = span_loss if head is SpanExtractor else label_loss()
    before = accuracy(model, RaggedBatches(inputs[400:], targets[400:], 16))
    history = train(model, batches, config, loss_function=loss, progress=False)
    assert history[-1]["loss"] < 0.1 * history[0]["loss"]
    assert before < 0.8 and accuracy(model, RaggedBatches(inputs[400:], targets[400:], 16)) > 0.97

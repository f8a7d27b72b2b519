"""Encoder, decoder and additive attention; the tasks they are shown on; how far gradients reach; their pictures."""

import doctest
import itertools
import math

import numpy as np
import pytest
import torch

from minilm.analysis.gradient_flow import gradient_by_distance
from minilm.layers.additive_attention import AdditiveAttention, LastPlace, additive_attention
from minilm.layers.recurrent import GRULayer, LSTMLayer, RNNLayer
from minilm.models.recurrent_seq2seq import RecurrentSeq2Seq
from minilm.models.rnn_config import Seq2SeqConfig
from minilm.plots.recurrent import plot_alignment, plot_gradient_flow
from minilm.tasks import copying, spelling
from minilm.tasks.copying import CopyBatches, copied
from minilm.tasks.spelling import END, PAD, SpellingBatches, accuracy, answers, batch_of, decoder_inputs, spelling_loss
from minilm.training.config import TrainConfig
from minilm.training.loop import train
from minilm.training.loss import IGNORE

B, S, Q, M, A = 3, 5, 4, 6, 7


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


# ---- attention


def attention_by_loops(query, memory, mask, weight_query, weight_memory, v):
    """The formula, one number at a time."""
    contexts, all_weights = [], []
    for b in range(len(query)):
        scores = []
        for s in range(memory.shape[1]):
            total = 0.0
            for a in range(len(v)):
                inside = sum(float(weight_query[a, i] * query[b, i]) for i in range(query.shape[1]))
                inside += sum(float(weight_memory[a, i] * memory[b, s, i]) for i in range(memory.shape[2]))
                total += float(v[a]) * math.tanh(inside)
            scores.append(total if mask is None or mask[b, s] else -math.inf)
        total = sum(math.exp(score) for score in scores)
        weights = [math.exp(score) / total if total else 0.0 for score in scores]
        all_weights.append(weights)
        contexts.append(
            [sum(w * float(memory[b, s, i]) for s, w in enumerate(weights)) for i in range(memory.shape[2])]
        )
    return torch.tensor(contexts).double(), torch.tensor(all_weights).double()


@pytest.mark.parametrize("masked", [False, True])
def test_additive_attention_is_its_formula(masked):
    arguments = (random(A, Q), random(A, M), random(A))
    query, memory, mask = random(B, Q), random(B, S, M), None
    if masked:
        mask = torch.tensor(
            [[True] * 5, [True, False, True, False, False], [False] * 5]
        )  # the last row may look nowhere
    context, weights = additive_attention(query, memory, mask, *arguments)
    wanted_context, wanted_weights = attention_by_loops(query, memory, mask, *arguments)
    torch.testing.assert_close(weights, wanted_weights, rtol=0, atol=1e-7)
    torch.testing.assert_close(context, wanted_context, rtol=0, atol=1e-6)
    assert weights[0].std() > 0.05
    if masked:  # pitfall 27: zeros, forward and backward
        assert (weights[2] == 0).all() and (context[2] == 0).all()
        leaf = query.clone().requires_grad_()
        additive_attention(leaf, memory, mask, *arguments)[0].square().sum().backward()
        assert leaf.grad.isfinite().all()


def test_huge_scores_choose_one_place():
    weights = additive_attention(random(B, Q), random(B, S, M), None, random(A, Q), random(A, M), 1e4 * random(A))[1]
    torch.testing.assert_close(weights.sum(-1), torch.ones(B).double())
    assert weights.max(-1).values.min() > 0.99


def test_the_last_place_is_that_of_each_row():
    memory = random(B, S, M)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False], [True] + [False] * 4])
    context, weights = LastPlace(M)(random(B, M), memory, mask)
    assert weights.tolist() == [[0, 0, 0, 0, 1], [0, 1, 0, 0, 0], [1, 0, 0, 0, 0]]
    assert torch.equal(context, torch.stack([memory[0, 4], memory[1, 1], memory[2, 0]]))
    assert LastPlace(M)(random(B, M), memory, None)[1][:, -1].tolist() == [1, 1, 1]


# ---- encoder and decoder


def make(cell: str = "gru", look=AdditiveAttention, d_model: int = 10) -> RecurrentSeq2Seq:
    torch.manual_seed(3)
    return RecurrentSeq2Seq(Seq2SeqConfig(source_size=11, target_size=9, d_model=d_model, cell=cell), look).double()


@pytest.fixture
def sides() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    source, inputs = torch.randint(1, 11, (4, 7), generator=generator), torch.randint(1, 9, (4, 5), generator=generator)
    for row, n in enumerate((7, 3, 1, 6)):
        source[row, n:] = PAD
    return source, inputs


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("look", [AdditiveAttention, LastPlace])
def test_padding_changes_nothing(cell, look, sides):
    source, inputs = sides
    model = make(cell, look)
    together = model(source, inputs)
    assert together.std() > 0.1
    for row, n in enumerate((7, 3, 1, 6)):
        alone = model(source[row : row + 1, :n], inputs[row : row + 1])
        torch.testing.assert_close(together[row], alone[0], rtol=0, atol=1e-12)
    weights = model.step(inputs[:, 0], *model.encode(source))[1]
    assert (weights[source == PAD] == 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(4).double())


def test_the_decoder_sees_all_of_the_source_and_none_of_the_future(sides):
    source, inputs = sides
    model = make()
    inputs, source = inputs % 8, source[:1] % 10 + (source[:1] == 10) * 1
    inputs[0, 3:] = 8  # from place 3 on only
    table = model.target_embedding.weight
    (gradient,) = torch.autograd.grad(model(source, inputs[:1])[0, 2].square().sum(), table)
    assert (gradient[8] == 0).all()
    memory, mask, state = model.encode(source)
    logits, _, _ = model.step(inputs[:1, 0], memory, mask, tuple(one.detach() for one in state))
    (gradient,) = torch.autograd.grad(logits.square().sum(), memory)
    assert (gradient != 0).any(-1).all()
    bottleneck = make(look=LastPlace)
    memory, mask, state = bottleneck.encode(source)
    logits, _, _ = bottleneck.step(inputs[:1, 0], memory, mask, tuple(one.detach() for one in state))
    (gradient,) = torch.autograd.grad(logits.square().sum(), memory)
    assert (gradient[:, :-1] == 0).all()


def test_translation_is_the_likeliest_token_each_time(sides):
    source, _ = sides
    model = make("lstm")
    rows, looks = model.translate(source, END, max_length=6)
    for row in range(4):
        text: list[int] = []
        for _ in range(6):
            logits = model(source[row : row + 1], torch.tensor([[END, *text]]))[0, -1]
            token = int(logits.argmax())
            if token == END:
                break
            text.append(token)
        assert rows[row] == text
    assert looks.shape[0] == 4 and looks.shape[2] == 7
    assert looks.shape[1] <= 6
    torch.testing.assert_close(looks.sum(-1), torch.ones(looks.shape[:2]).double())


def test_bad_sources():
    model = make()
    for source in ([[0, 0, 0]], [[1, 0, 2]]):
        with pytest.raises(ValueError, match="a source is empty, or a token stands behind padding"):
            model.encode(torch.tensor(source))


# ---- the task


def number_of(words: str) -> int:
    """Read a number's words by a rule of their own: an independent way back."""
    values = {word: n for n, word in enumerate(spelling.ONES)}
    values |= {word: 10 * n for n, word in enumerate(spelling.TENS, start=2)}
    total = part = 0
    for word in words.split():
        if word == "hundred":
            part *= 100
        elif word == "thousand":
            total, part = total + 1000 * part, 0
        elif word != "and":
            part += values[word]
    return total + part


def test_every_number_and_its_words():
    words = [spelling.number_words(n) for n in range(10_000)]
    assert [number_of(each) for each in words] == list(range(10_000))
    assert len(set(words)) == 10_000
    assert words[1101] == "one thousand one hundred and one"
    assert words[9040] == "nine thousand and forty"
    assert not any("zero" in each for each in words[1:])
    assert {letter for each in words for letter in each} <= set(spelling.LETTERS)
    for wrong in (-1, 10_000):
        with pytest.raises(ValueError, match="has no words here"):
            spelling.number_words(wrong)
    assert doctest.testmod(spelling).failed == 0


def test_the_sides_are_disjoint_and_the_seed_decides():
    """Pitfalls 11 and 12."""
    learn, test = spelling.spelled_numbers(1000, seed=3)
    assert len(test) == 1000
    assert len(learn) == 9000
    assert not {pair.digits for pair in learn} & {pair.digits for pair in test}
    assert {int(pair.digits) for pair in learn + test} == set(range(10_000))
    assert all(number_of(pair.words) == int(pair.digits) for pair in learn + test)
    assert spelling.spelled_numbers(1000, seed=3)[1] == test
    assert spelling.spelled_numbers(1000, seed=4)[1] != test
    for wrong in (0, 10_000):
        with pytest.raises(ValueError, match="n_test is"):
            spelling.spelled_numbers(wrong)


def test_ids_of_both_sides():
    pairs = [spelling.Spelled("ninety", "90"), spelling.Spelled("one", "1")]
    sources, targets = batch_of(pairs)
    assert targets.tolist() == [[11, 2, END], [3, END, IGNORE]]
    assert decoder_inputs(targets).tolist() == [[END, 11, 2], [END, 3, END]]
    letters = " abcdefghijklmnopqrstuvwxyz"
    assert "".join(letters[token - 2] for token in sources[0].tolist()) == "ninety"
    assert sources[1].tolist()[3:] == [PAD] * 3
    assert spelling.decode_digits([11, 2]) == "90"
    assert spelling.decode_digits([PAD, END]) == "??"
    with pytest.raises(ValueError, match="'One' holds 'O'"):
        spelling.encode_words("One")
    assert spelling.SOURCE_SIZE == 29 and spelling.TARGET_SIZE == 12


def test_the_loss_counts_real_targets_only():
    torch.manual_seed(0)
    model = RecurrentSeq2Seq(Seq2SeqConfig(spelling.SOURCE_SIZE, spelling.TARGET_SIZE, 10)).double()
    pairs = [spelling.Spelled("nine hundred and six", "906"), spelling.Spelled("two", "2")]
    joint = spelling_loss(model, *batch_of(pairs)).item()
    alone = [spelling_loss(model, *batch_of([pair])).item() for pair in pairs]
    assert joint == pytest.approx((4 * alone[0] + 2 * alone[1]) / 6, abs=1e-12)


def test_it_learns_the_numbers_below_a_hundred():
    """The overfit gate: exact answers for what it has read, and an attention that has moved off uniform."""
    torch.manual_seed(1)
    pairs = [spelling.Spelled(spelling.number_words(n), str(n)) for n in range(0, 100, 4)]
    model = RecurrentSeq2Seq(Seq2SeqConfig(spelling.SOURCE_SIZE, spelling.TARGET_SIZE, 32))
    config = TrainConfig(steps=150, learning_rate=0.01, warmup=5, weight_decay=0.0, dtype="float32", threads=1)
    train(model, SpellingBatches(pairs, 25), config, loss_function=spelling_loss, progress=False)
    assert accuracy(model, pairs) >= 0.95
    wrong = [spelling.Spelled(pair.words, "7") for pair in pairs]
    assert accuracy(model, wrong) == 0.0
    assert len(list(answers(model, pairs, batch_size=7))) == 25


# ---- the copy task


def test_the_copy_task_is_as_described():
    batches = CopyBatches(5, n_symbols=3, delay=7, alphabet=6, seed=2)
    seen = set()
    for inputs, targets in itertools.islice(batches, 20):
        assert inputs.shape == targets.shape == (5, 13)
        assert torch.equal(targets[:, 10:], inputs[:, :3])
        assert (targets[:, :10] == IGNORE).all()
        assert (inputs[:, 10] == 7).all()
        assert (inputs[:, 3:10] == 0).all() and (inputs[:, 11:] == 0).all()
        seen |= set(inputs[:, :3].flatten().tolist())
    assert seen == set(range(1, 7))
    first, second = (next(CopyBatches(5, 3, 7, seed=seed))[0] for seed in (1, 2))
    assert not torch.equal(first, second)
    with pytest.raises(ValueError, match="delay -1"):
        CopyBatches(5, 3, -1)
    assert copying.__doc__


def test_copied_counts_the_right_symbols():
    def knows_all(inputs):
        logits = torch.zeros(*inputs.shape, 10)
        symbols = inputs[:, :3].clone()
        symbols[:, 2] = 0  # and gets the last one wrong
        logits[:, 10:].scatter_(-1, symbols[..., None], 1.0)
        return logits

    assert copied(knows_all, CopyBatches(50, 3, 7)) == pytest.approx(2 / 3)


# ---- how far a gradient reaches


@pytest.mark.parametrize("kind", [RNNLayer, GRULayer, LSTMLayer])
def test_the_gradient_at_a_distance(kind):
    """Of an RNN: the product of the Jacobians diag(1 - h²) W, worked out in numpy; of all: central differences."""
    torch.manual_seed(0)
    layer = kind(4, 6).double()
    x = random(2, 8, 4)
    norms = gradient_by_distance(layer, x, torch.Generator().manual_seed(1))
    assert len(norms) == 8
    assert all(parameter.grad is None for parameter in layer.parameters())
    w = torch.randn(2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    w = w / w.norm(dim=1, keepdim=True)
    states = [tuple(one.detach() for one in state) for state in layer.steps(x)]
    if kind is RNNLayer:
        W = layer.recurrent.weight.detach().numpy()
        h = np.stack([state[0].numpy() for state in states])  # (T, B, H)
        gradient = w.numpy()
        for distance in range(8):
            assert norms[distance] == pytest.approx(np.sqrt((gradient**2).sum() / 2), rel=1e-12)
            gradient = (gradient * (1 - h[7 - distance] ** 2)) @ W
        assert norms[0] == pytest.approx(1.0)
    at, step = 4, 1e-6  # the state after token 5 of 8: distance 3
    total = 0.0
    for s, tensor in enumerate(states[at]):
        for place in np.ndindex(*tensor.shape):
            ends = []
            for sign in (1, -1):
                moved = [one.clone() for one in states[at]]
                moved[s][place] += sign * step
                ends.append(float((w * layer(x[:, at + 1 :], tuple(moved))[0][:, -1]).sum().detach()))
            total += ((ends[0] - ends[1]) / (2 * step)) ** 2
    assert norms[3] == pytest.approx(math.sqrt(total / 2), rel=1e-6)


# ---- pictures


def test_pictures():
    picture = plot_gradient_flow({"RNN": [1.0, 0.1, 0.0], "LSTM": [1.0, 0.9, 0.8]})
    axes = picture.axes[0]
    assert axes.get_yscale() == "log"
    assert [list(line.get_ydata()) for line in axes.lines] == [[1.0, 0.1, 1e-12], [1.0, 0.9, 0.8]]
    with pytest.raises(ValueError, match=r"the curves have \[2, 3\] distances"):
        plot_gradient_flow({"a": [1.0, 1.0], "b": [1.0, 1.0, 1.0]})
    weights = np.array([[0.25, 0.75, 0.0], [0.0, 0.5, 0.5]])
    axes = plot_alignment(weights, ["a", " ", "$"], ["9", "."]).axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), weights)
    shades = axes.images[0].norm([0.0, 0.04, 0.25, 1.0])
    np.testing.assert_allclose(
        shades, [0.0, 0.2, 0.5, 1.0], rtol=1e-12
    )  # small weights are seen, and the scale says it
    assert axes.images[0].colorbar.ax.get_ylabel() == "weight"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "␣", r"\$"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["9", "."]
    with pytest.raises(ValueError, match=r"weights \(2, 3\) do not fit 2 target and 4 source tokens"):
        plot_alignment(weights, "abcd", "xy")

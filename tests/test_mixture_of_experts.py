"""The mixture of experts against a loop that asks every expert about every token, and in a GPT that trains with it."""

import copy
import functools
import gc
import math
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from minilm.layers.attention import scaled_dot_product_attention as attend
from minilm.layers.basic import gelu
from minilm.layers.blocks import MLP, SwiGLU
from minilm.layers.mixture_of_experts import (
    MixtureOfExperts,
    Route,
    balance_loss,
    mixture_of_experts,
    route,
    route_by_probability,
    with_balance,
)
from minilm.layers.wirings import parallel
from minilm.models.config import GPTConfig, gpt2_config, llama_config
from minilm.models.expert_block import expert_block
from minilm.models.gpt import GPT
from minilm.text.stories import stories
from minilm.text.tokenizer import CharTokenizer
from minilm.training.batches import Batches
from minilm.training.budget import step_seconds
from minilm.training.config import TrainConfig
from minilm.training.loop import accumulate_gradients, train
from minilm.training.loss import cross_entropy, next_token_loss

D, WIDE, E = 5, 4, 4
GPT2 = gpt2_config(vocab_size=29, context_length=13, d_model=20, n_layers=3, n_heads=5, d_ff=28)
LLAMA = llama_config(vocab_size=29, context_length=13, d_model=24, n_layers=2, n_heads=6, n_kv_heads=2, d_ff=28)
both = pytest.mark.parametrize("config", [GPT2, LLAMA], ids=["gpt2", "llama"])
routes = pytest.mark.parametrize("how", [route, route_by_probability], ids=["mixtral", "switch"])
some_experts = functools.partial(expert_block, n_experts=4, k=2)


def mixture(k: int, how: Route = route, n_experts: int = E) -> MixtureOfExperts:
    """Float64 experts of both kinds with large random weights."""
    experts = [SwiGLU(D, WIDE, bias=True) if i % 2 else MLP(D, WIDE + i, gelu) for i in range(n_experts)]
    model = MixtureOfExperts(experts, D, k, how).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.6)
    return model


def chosen_by_sorting(scores: list[float], k: int) -> list[int]:
    """The k largest, the first of equals first."""
    return sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:k]


def by_loops(model: MixtureOfExperts, x: Tensor, k: int, normalised: bool) -> tuple[Tensor, Tensor]:
    """Output and balance loss, token by token, with every expert asked: those not chosen have the weight 0."""
    n_experts, tokens = len(model.experts), x.reshape(-1, D)
    counts, means = [0] * n_experts, [torch.zeros((), dtype=x.dtype) for _ in range(n_experts)]
    answers = []
    for token in tokens:
        scores = [(row * token).sum() for row in model.router.weight]
        chosen = chosen_by_sorting([score.item() for score in scores], k)
        exponentials = [torch.exp(score) for score in scores]
        whole = sum(exponentials)
        below = sum(exponentials[i] for i in chosen) if normalised else whole
        answer = torch.zeros(D, dtype=x.dtype)
        for i, expert in enumerate(model.experts):
            answer = answer + (exponentials[i] / below if i in chosen else 0.0) * expert(token)
            counts[i] += i in chosen
            means[i] = means[i] + exponentials[i] / whole / len(tokens)
        answers.append(answer)
    balance = sum(
        (count / (k * len(tokens)) * mean for count, mean in zip(counts, means, strict=True)), torch.tensor(0.0)
    )
    return torch.stack(answers).reshape(x.shape), n_experts * balance


def assert_close(ours: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(ours, expected, rtol=1e-11, atol=1e-12)


def central_differences(f: Callable[[], Tensor], x: Tensor, h: float = 1e-6) -> Tensor:
    """The gradient of f() by x, one number at a time."""
    gradient, flat = torch.zeros_like(x), x.detach().reshape(-1)
    for i in range(flat.numel()):
        kept = flat[i].item()
        values = []
        for moved in (kept + h, kept - h):
            flat[i] = moved
            values.append(f().item())
        flat[i] = kept
        gradient.reshape(-1)[i] = (values[0] - values[1]) / (2 * h)
    return gradient


# ---- the layer against the loop


@routes
@pytest.mark.parametrize("k", range(1, E + 1))
def test_output_balance_and_gradients(k: int, how: Route) -> None:
    """Three ways to the gradients of all inputs, the router included: our graph, the loop's graph, and differences."""
    model = mixture(k, how)
    x = torch.randn(3, 2, D, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(3, 2, D, dtype=torch.float64)

    def loss() -> Tensor:
        return (model(x) * upstream).sum() + 3.0 * model.take_balance()

    out, (expected, balance) = model(x), by_loops(model, x, k, normalised=how is route)
    assert out.shape == x.shape and model.balance is not None
    assert_close(out, expected)
    assert_close(model.balance, balance)
    inputs = [x, *model.parameters()]
    ours = torch.autograd.grad(loss(), inputs, materialize_grads=True)
    loops = torch.autograd.grad((expected * upstream).sum() + 3.0 * balance, inputs)
    assert max(gradient.abs().max() for gradient in ours) > 0.1
    with torch.no_grad():
        for gradient, true, place in zip(ours, loops, inputs, strict=True):
            assert_close(gradient, true)
            torch.testing.assert_close(gradient, central_differences(loss, place), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("shape", [(D,), (1, D), (11, D), (2, 3, 2, D), (0, D), (2, 0, D)])
def test_any_number_of_axes(shape: tuple[int, ...]) -> None:
    model, x = mixture(2), torch.randn(shape, dtype=torch.float64)
    out = model(x)
    assert out.shape == x.shape
    if x.numel():
        assert_close(out, by_loops(model, x, 2, normalised=True)[0])


@routes
def test_all_experts_are_a_dense_mixture(how: Route) -> None:
    model, x = mixture(E, how), torch.randn(7, D, dtype=torch.float64)
    gates = torch.softmax(x @ model.router.weight.T, -1)
    dense = torch.einsum("ne,end->nd", gates, torch.stack([expert(x) for expert in model.experts]))
    assert_close(model(x), dense)
    assert model.balance is not None
    assert_close(model.balance, torch.ones((), dtype=torch.float64))  # each expert is chosen by all


def test_one_expert_is_the_mlp_itself() -> None:
    model, x = mixture(1, n_experts=1), torch.randn(2, 7, D, dtype=torch.float64)
    assert torch.equal(model(x), model.experts[0](x))


def test_tokens_are_on_their_own() -> None:
    """Shuffled tokens give shuffled answers, and the answer to a token alone is the same."""
    model, x = mixture(2), torch.randn(17, D, dtype=torch.float64)
    out, order = model(x), torch.randperm(17)
    assert_close(model(x[order]), out[order])
    for n in range(17):
        assert_close(model(x[n]), out[n])


def test_experts_compute_their_own_tokens_only() -> None:
    """Each expert is called once, with the tokens that chose it; one that nobody chose is not, and has no gradient."""
    model = mixture(2)
    with torch.no_grad():
        model.router.weight[3] = 0.0
        model.router.weight[:, 0] += torch.tensor([1.0, 1.0, 1.0, -50.0])  # x[..., 0] > 0: never number 3
    x = torch.randn(19, D, dtype=torch.float64).abs()
    read: list[tuple[int, Tensor]] = []
    for number, expert in enumerate(model.experts):
        expert.register_forward_pre_hook(lambda _module, inputs, number=number: read.append((number, inputs[0])))
    model(x).square().sum().backward()
    expected: dict[int, list[int]] = {}
    for n, scores in enumerate((x @ model.router.weight.T).tolist()):
        for number in chosen_by_sorting(scores, 2):
            expected.setdefault(number, []).append(n)
    assert [number for number, _ in read] == sorted(expected)
    for number, tokens in read:
        assert torch.equal(tokens, x[expected[number]])
    assert sum(len(tokens) for _, tokens in read) == 2 * 19
    assert 3 not in expected
    for number, expert in enumerate(model.experts):
        for parameter in expert.parameters():
            assert (parameter.grad is not None) == (number in expected)


def test_experts_are_any_functions() -> None:
    """Two tokens, on paper: 0.5 * 10 * 2 + 0.5 * (-2) = 9, and 0.25 * 10 * 4 + 0.75 * 4² = 22."""
    answers = mixture_of_experts(
        torch.tensor([[2.0], [4.0]]),
        torch.tensor([[0.5, 0.5], [0.25, 0.75]]),
        torch.tensor([[0, 1], [0, 3]]),
        [lambda x: 10 * x, lambda x: -x, lambda x: 1 / 0, lambda x: x * x],
    )
    assert answers.tolist() == [[9.0], [22.0]]


# ---- the route


def test_ties_go_to_the_lower_number() -> None:
    logits = torch.tensor([[1.0, 3.0, 3.0, 3.0, 0.0], [2.0, 2.0, 2.0, 2.0, 2.0], [0.0, -math.inf, 5.0, 0.0, 0.0]])
    for how in (route, route_by_probability):
        assert how(logits, 2)[1].tolist() == [[1, 2], [0, 1], [2, 0]]
        assert how(logits.repeat(9, 1), 3)[1].tolist() == [[1, 2, 3], [0, 1, 2], [2, 0, 3]] * 9
    weights, _ = route(logits, 3)
    assert weights[:2].numpy() == pytest.approx(np.full((2, 3), 1 / 3))


def test_weights_on_paper() -> None:
    """Probabilities 1/2, 1/8, 3/8: the best two are 4/7 and 3/7 of their sum, or 1/2 and 3/8 of all."""
    logits = torch.tensor([4.0, 1.0, 3.0]).log()
    weights, chosen = route(logits, 2)
    assert chosen.tolist() == [0, 2] and weights.tolist() == pytest.approx([4 / 7, 3 / 7])
    weights, chosen = route_by_probability(logits, 2)
    assert chosen.tolist() == [0, 2] and weights.tolist() == pytest.approx([1 / 2, 3 / 8])
    assert route(1000 * logits, 3)[0].isfinite().all()


@pytest.mark.parametrize(("how", "learns"), [(route, False), (route_by_probability, True)])
def test_a_router_of_one_expert_learns_by_probability_only(how: Route, learns: bool) -> None:
    model = mixture(1, how)
    model(torch.randn(7, D, dtype=torch.float64)).square().sum().backward()
    gradient = model.router.weight.grad
    assert gradient is not None
    assert (gradient.abs().max() > 1e-3) == learns
    if not learns:
        assert not gradient.any()


@pytest.mark.parametrize("k", [0, -1, E + 1])
def test_impossible_numbers_of_experts(k: int) -> None:
    with pytest.raises(ValueError, match=f"k is {k}: each token is sent to 1 to {E} experts"):
        route(torch.zeros(2, E), k)
    with pytest.raises(ValueError, match=f"k is {k}: each token is sent to 1 to {E} experts"):
        mixture(k)
    with pytest.raises(ValueError, match="n_experts is 0"):
        expert_block(GPT2, lambda q, k, v, mask: q, n_experts=0, k=1)


# ---- the balance loss


def test_balance_is_1_when_all_are_chosen_equally_often() -> None:
    probabilities = torch.rand(6, 3, dtype=torch.float64).log_softmax(-1).exp()
    evenly = torch.tensor([[0, 1], [1, 2], [2, 0], [0, 1], [2, 1], [0, 2]])
    assert balance_loss(probabilities, evenly).item() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_balance_is_at_most_experts_over_k(k: int) -> None:
    logits = torch.randn(400, 1, 3, dtype=torch.float64) * 10.0 ** torch.linspace(-2, 2, 400)[:, None, None]
    for row in logits + torch.randn(400, 7, 3, dtype=torch.float64):
        assert 0 < balance_loss(row.softmax(-1), route(row, k)[1]) <= 3 / k + 1e-12
    agreed = torch.tensor([[1.0] * k + [0.0] * (3 - k)] * 5) / k
    assert balance_loss(agreed, torch.arange(k).expand(5, k)).item() == pytest.approx(3 / k)


def test_balance_can_be_below_1_but_not_where_probabilities_are_the_shares() -> None:
    undecided = torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0.0, 1.0]])
    assert balance_loss(undecided, torch.tensor([[0], [0], [0], [1]])).item() == 0.875
    for _ in range(50):
        chosen = torch.randint(0, 4, (8, 1))
        assert balance_loss(nn.functional.one_hot(chosen[:, 0], 4).double(), chosen) >= 1.0


def test_balance_makes_the_busy_less_likely() -> None:
    """Down its gradient alone, a router that sends all tokens to one expert ends with all experts equally busy."""
    x = torch.randn(64, D, dtype=torch.float64)
    x[:, 0] = 1.0
    router = torch.zeros(4, D, dtype=torch.float64)
    router[2, 0] = 2.0
    values = []
    for _ in range(300):
        router = router.detach().requires_grad_()
        logits = x @ router.T
        values.append(balance_loss(logits.softmax(-1), route(logits, 1)[1]))
        (gradient,) = torch.autograd.grad(values[-1], router)
        router = router - 0.1 * gradient
    assert values[0] > 2.5
    assert sum(values[-20:]) / 20 < 1.2


# ---- in a GPT


def small_gpt(config: GPTConfig = GPT2) -> GPT:
    """A float64 GPT with experts and large random weights."""
    model = GPT(config, block=some_experts).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


@both
@torch.no_grad()
def test_cached_is_uncached(config: GPTConfig) -> None:
    model, ids = small_gpt(config), torch.randint(0, 29, (3, 13))
    whole = model(ids)
    assert whole.std() > 0.1
    for ends in ([1, 2, 3, 4, 5], [6, 7], [4, 9, 10, 11, 12]):
        cache = model.new_cache(3)
        pieces = [model(ids[:, start:end], cache) for start, end in zip([0, *ends], [*ends, 13], strict=True)]
        torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=0, atol=1e-10)


@both
@torch.no_grad()
def test_arrays_there_and_back(config: GPTConfig) -> None:
    model, ids = small_gpt(config), torch.randint(0, 29, (2, 9))
    arrays = {name: array.numpy() for name, array in model.arrays().items()}
    again = GPT.from_arrays(config, arrays, block=some_experts)
    assert not torch.equal(again(ids), GPT(config, block=some_experts)(ids))
    torch.testing.assert_close(again.double()(ids), model(ids), rtol=0, atol=1e-3)  # through float32
    with pytest.raises(ValueError, match=r"missing or unknown blocks\.0\.mlp\.down.*, blocks\.0\.mlp\.experts"):
        GPT.from_arrays(config, arrays)


@both
def test_experts_are_mlps_of_the_config_and_differ(config: GPTConfig) -> None:
    model, plain = GPT(config, block=some_experts), GPT(config)
    router = 4 * config.d_model
    mlp = sum(parameter.numel() for parameter in plain.blocks[0].mlp.parameters())
    extra = config.n_layers * (3 * mlp + router)
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in plain.parameters()) + extra
    experts = model.blocks[1].mlp.experts
    assert [type(expert) for expert in experts] == [type(plain.blocks[0].mlp)] * 4
    assert not torch.equal(experts[0].up.weight, experts[3].up.weight)


@torch.no_grad()
def test_a_block_takes_its_route_and_its_wiring() -> None:
    """On paper: with k = 1 the block adds the best expert's answer, by probability times that probability."""
    block = expert_block(GPT2, attend, n_experts=3, k=1, route=route_by_probability, wiring=parallel).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.4)
    x = torch.randn(2, 7, 20, dtype=torch.float64)
    read = block.mlp_norm(x)
    gates = torch.softmax(read @ block.mlp.router.weight.T, -1)
    answers = torch.stack([expert(read) for expert in block.mlp.experts], -2)  # (2, 7, 3, 20)
    best = gates.argmax(-1)
    said = torch.stack([gates[b, t, best[b, t]] * answers[b, t, best[b, t]] for b in range(2) for t in range(7)])
    expected = x + block.attention(block.attention_norm(x), None) + said.reshape(2, 7, 20)
    assert_close(block(x, None), expected)


def batch(seed: int, n_ignored: int) -> tuple[Tensor, Tensor]:
    """Random ids, of whose targets the first few do not count."""
    ids = torch.randint(0, 29, (3, 12), generator=torch.Generator().manual_seed(seed))
    inputs, targets = ids[:, :-1], ids[:, 1:].clone()
    targets.flatten()[:n_ignored] = -100
    return inputs, targets


def test_the_balance_of_each_accumulated_batch_counts() -> None:
    """Gradients of two batches together against those of each alone, each weighted by its share of the targets."""
    model, batches = small_gpt(), [batch(1, 0), batch(2, 20)]
    loss, n_targets = accumulate_gradients(model, batches, with_balance(next_token_loss, 0.3), torch.device("cpu"))
    assert n_targets == 33 + 13
    expected = []
    for (inputs, targets), share in zip(batches, (33 / 46, 13 / 46), strict=True):
        logits = model(inputs)
        balance = torch.zeros(())
        for block in model.blocks:
            assert block.mlp.balance is not None
            balance = balance + block.mlp.balance
        expected.append(share * (cross_entropy(logits, targets) + 0.3 * balance))
    assert loss == pytest.approx(sum(expected).item(), abs=1e-12)
    wanted = dict(model.named_parameters())
    gradients = torch.autograd.grad(sum(expected), list(wanted.values()), materialize_grads=True)
    for name, gradient in zip(wanted, gradients, strict=True):
        given = wanted[name].grad
        assert_close(torch.zeros_like(gradient) if given is None else given, gradient)


def test_a_balance_is_taken_once() -> None:
    model, (inputs, targets) = small_gpt(), batch(1, 0)
    assert with_balance(next_token_loss, 0.0)(model, inputs, targets).item() == pytest.approx(
        next_token_loss(model, inputs, targets).item(), abs=1e-12
    )
    value = with_balance(next_token_loss)(model, inputs, targets)
    more = with_balance(next_token_loss, 1.0)(model, inputs, targets) - next_token_loss(model, inputs, targets)
    assert value.item() == pytest.approx((next_token_loss(model, inputs, targets) + 0.01 * more).item(), abs=1e-12)
    model.blocks[1].mlp.take_balance()
    with pytest.raises(ValueError, match="no balance loss: run the model first"):
        model.blocks[1].mlp.take_balance()
    with pytest.raises(ValueError, match="the model has no MixtureOfExperts"):
        with_balance(next_token_loss)(GPT(GPT2), inputs, targets)


class Kept:
    """A tensor that a graph keeps for the backward pass."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def test_no_graph_outlives_its_loss() -> None:
    """All that the graph kept is gone with the loss, with a backward pass or without."""
    model = small_gpt()
    for backward in (False, True):
        kept: weakref.WeakSet[Kept] = weakref.WeakSet()

        def keep(tensor: Tensor, kept: weakref.WeakSet[Kept] = kept) -> Kept:
            box = Kept(tensor.detach())  # a tensor with its graph would keep itself
            kept.add(box)
            return box

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda box: box.tensor):
            loss = with_balance(next_token_loss)(model, *batch(1, 0))
        assert len(kept) > 100
        if backward:
            loss.backward()
        del loss
        gc.collect()
        assert len(kept) == 0


def test_a_model_that_has_just_run_can_be_copied() -> None:
    """As minilm.training.budget does; the copy trains on its own."""
    model, (inputs, targets) = small_gpt(), batch(1, 0)
    model(inputs)
    twin = copy.deepcopy(model)
    balance = model.blocks[2].mlp.balance
    assert balance is not None and balance.requires_grad and twin.blocks[2].mlp.balance is None
    with_balance(next_token_loss)(twin, inputs, targets).backward()
    assert model.blocks[2].mlp.balance is balance
    assert all(parameter.grad is None for parameter in model.parameters())
    assert twin.blocks[0].mlp.router.weight.grad.abs().max() > 0
    assert torch.equal(twin(inputs), model(inputs))
    settings = TrainConfig(threads=1, warmup=1)
    batches = Batches(np.arange(400) % 29, batch_size=2, context_length=7)
    assert step_seconds(model, batches, settings, with_balance(next_token_loss), n_steps=2) > 0


def test_half_precision_keeps_the_type_of_the_stream() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        model = GPT(GPT2, block=some_experts)
        loss = with_balance(next_token_loss)(model, *batch(1, 0))
        assert model.blocks[0].mlp(torch.zeros(2, 3, 20)).dtype == torch.float32
    loss.backward()
    assert loss.item() == pytest.approx(math.log(29) + 0.03, abs=0.1)
    assert model.blocks[0].mlp.router.weight.grad.isfinite().all()
    half = MixtureOfExperts([MLP(D, WIDE, gelu), MLP(D, WIDE, gelu)], D, 2).bfloat16()
    assert half(torch.randn(7, D).bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("read", "kept", "autocast"),
    [
        (torch.float32, torch.float32, True),
        (torch.bfloat16, torch.float32, True),
        (torch.bfloat16, torch.bfloat16, True),
        (torch.bfloat16, torch.bfloat16, False),
    ],
)
@torch.no_grad()
def test_half_precision_does_not_blur_the_scores(read: torch.dtype, kept: torch.dtype, autocast: bool) -> None:
    """Whatever the types of x and of the weights, the scores are those of float64 up to the rounding of float32."""
    scores: list[Tensor] = []

    def watched(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
        scores.append(logits)
        return route(logits, k)

    model = MixtureOfExperts([MLP(20, WIDE, gelu) for _ in range(7)], 20, 3, watched).to(kept)
    x = torch.randn(3, 101, 20).to(read)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = model(x)
    assert out.dtype == read and out.shape == x.shape
    expected = x.reshape(-1, 20).double().numpy() @ model.router.weight.double().numpy().T
    (found,) = scores
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=2e-7)
    assert (
        np.abs(expected - (x.bfloat16().reshape(-1, 20) @ model.router.weight.bfloat16().T).float().numpy()).max()
        > 1e-4
    )


def evenness(model: GPT, ids: np.ndarray) -> list[float]:
    """E * sum of the squared shares of the choices, for each layer: 1 if all experts are equally busy, E / k at worst."""
    shares: list[np.ndarray] = []

    def count(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        logits = inputs[0].reshape(-1, 32) @ layer.router.weight.T
        chosen = np.argsort(-logits.numpy(), axis=-1)[:, :2]
        shares.append(np.bincount(chosen.ravel(), minlength=6) / chosen.size)

    hooks = [block.mlp.register_forward_pre_hook(count) for block in model.blocks]
    with torch.no_grad():
        model(torch.from_numpy(ids[: 20 * 32].astype(np.int64)).reshape(20, 32))
    for hook in hooks:
        hook.remove()
    return [6 * float(share @ share) for share in shares]


def test_training_lowers_the_loss_and_the_balance_loss_keeps_the_load_even() -> None:
    """Characters of stories, six experts of which two are used. Left alone, two soon do all the work."""
    text = "\n".join(stories(60, seed=1))
    tokenizer = CharTokenizer.train([text])
    ids = np.array(tokenizer.encode(text))
    sizes = dict(vocab_size=tokenizer.vocab_size, context_length=32, d_model=32, n_layers=2, n_heads=4, d_ff=48)
    block = functools.partial(expert_block, n_experts=6, k=2)
    settings = TrainConfig(steps=60, warmup=10, learning_rate=0.01, threads=1)
    uneven = []
    for loss_function in (next_token_loss, with_balance(next_token_loss, 0.1)):
        torch.manual_seed(1)
        model = GPT(gpt2_config(**sizes), block=block)
        batches = Batches(ids[4000:], batch_size=8, context_length=32, seed=3)
        history = train(model, batches, settings, loss_function=loss_function, progress=False)
        assert history[0]["loss"] > 3.9 and history[-1]["loss"] < 3.3
        uneven.append(evenness(model, ids[:4000]))
    assert min(uneven[0]) > 2.5  # 3 at worst
    assert sum(uneven[1]) < sum(uneven[0]) - 1.5

"""Products for few rows: equal to torch's for every type and odd size; built once, or not at all; and a model that uses them."""

import copy
import ctypes.util
import re
import subprocess
import sys

import pytest
import torch

from minilm.decoding.batch import generate_batch
from minilm.decoding.config import SampleConfig
from minilm.decoding.generate import generate
from minilm.decoding.quantize import Rounded, quantize, restore, to_bfloat16, to_int8
from minilm.decoding.sampling import Sampler
from minilm.fast import decode, matvec
from minilm.fast.decode import use_kernels
from minilm.fast.matvec import FastLinear, Matrix, NoKernel, kernel_product, product, torch_product, use_matvec
from minilm.fast.step import Step
from minilm.layers.basic import Linear
from minilm.layers.wirings import parallel
from minilm.models.config import SpeedrunConfig, gpt2_config, llama_config
from minilm.models.gpt import GPT, build_block
from minilm.models.speedrun_gpt import SpeedrunGPT

STORED = {"float32": Rounded, "bfloat16": to_bfloat16, "int8 by 8": lambda w: to_int8(w, 8), "int8 by 5": lambda w: to_int8(w, 5),
          "int8 by row": lambda w: to_int8(w, None)}  # fmt: skip
QUICK = tuple("-O0" if flag == "-O3" else flag for flag in matvec.FLAGS)
GREEDY = SampleConfig(temperature=0)
SHAPE = {"vocab_size": 37, "context_length": 24, "d_model": 24, "n_layers": 2, "n_heads": 3}
CONFIGS = {
    "gpt2": gpt2_config(**SHAPE),
    "gpt2 without biases, exact gelu": gpt2_config(**SHAPE, bias=False, mlp="gelu", tie_embeddings=False),
    "llama": llama_config(**SHAPE),
    "llama, grouped": llama_config(**SHAPE, n_kv_heads=1, tie_embeddings=True),
    "llama, two groups, odd sizes": llama_config(**SHAPE | {"d_model": 40, "n_heads": 4}, n_kv_heads=2, d_ff=53),
    "gpt2, odd sizes": gpt2_config(**SHAPE | {"d_model": 33}, d_ff=50),
}


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A home of its own, in which nothing has been built, and nothing remembered. What is built there, is built quickly."""
    monkeypatch.setenv("MINILM_HOME", str(tmp_path))
    monkeypatch.setattr(matvec, "FLAGS", QUICK)
    monkeypatch.setattr(matvec, "_measured", {})
    matvec.kernels.cache_clear()
    yield tmp_path
    matvec.kernels.cache_clear()


def exact(x, matrix, bias):
    """In float64, a row and an output at a time."""
    weight = restore(*matrix).double()
    rows = x.reshape(-1, x.shape[-1]).double()
    y = torch.tensor([[float((row * out).sum()) for out in weight] for row in rows], dtype=torch.float64)
    return (y if bias is None else y + bias.double()).reshape(*x.shape[:-1], len(weight))


def assert_close(found, expected, x, matrix):
    """Within 1e-6 of the sum of the sizes of what is added up: rounding, and nothing else."""
    sizes = x.abs().double().reshape(-1, x.shape[-1]) @ restore(*matrix).abs().double().mT + 1
    assert found.dtype is torch.float32 and found.shape == expected.shape
    assert float(((found - expected).abs().reshape(sizes.shape) / sizes).max()) < 1e-6


@pytest.mark.parametrize("stored", STORED.values(), ids=STORED)
@pytest.mark.parametrize("n_out, n_in", [(1, 1), (2, 7), (3, 8), (4, 9), (5, 16), (7, 31), (6, 67)])
def test_kernel_equals_the_sum_of_products(stored, n_out, n_in):
    assert matvec.why_not() is None
    matrix, bias = stored(torch.randn(n_out, n_in)), torch.randn(n_out)
    for rows in (1, 2, 3, 4, 5, 7, 9):
        x = torch.randn(rows, n_in)
        for given in (bias, None):
            found = kernel_product(x, *padded(matrix), given)
            assert_close(found, exact(x, matrix, given), x, matrix)


def padded(matrix):
    return matrix.numbers, matrix.scales


@pytest.mark.parametrize("stored", STORED.values(), ids=STORED)
@pytest.mark.parametrize("function", [kernel_product, torch_product, product])
def test_any_leading_shape(stored, function):
    matrix, bias = stored(torch.randn(5, 13)), torch.randn(5)
    for shape in ((13,), (2, 13), (2, 3, 13), (2, 0, 13)):
        x = torch.randn(shape)
        if x.numel():
            assert_close(function(x, *matrix, bias), exact(x, matrix, bias), x, matrix)
        else:
            assert function(x, *matrix, bias).shape == (2, 0, 5)


def test_x_may_lie_anyhow_the_matrix_may_not():
    weight, x = torch.randn(6, 10), torch.randn(10, 4).mT
    assert not x.is_contiguous()
    assert_close(kernel_product(x, weight), exact(x, Rounded(weight), None), x, Rounded(weight))
    assert_close(kernel_product(x[::2], weight), exact(x[::2], Rounded(weight), None), x[::2], Rounded(weight))
    turned = torch.randn(10, 6).mT
    with pytest.raises(ValueError, match="contiguous matrix"):
        kernel_product(x, turned)
    assert_close(product(x, turned), exact(x, Rounded(turned), None), x, Rounded(turned))


@pytest.mark.parametrize(
    "x, numbers, scales, bias",
    [
        (torch.ones(2, 4).double(), torch.ones(3, 4), None, None),
        (torch.ones(2, 4), torch.ones(3, 4).double(), None, None),
        (torch.ones(2, 4), torch.ones(3, 4), None, torch.ones(3).double()),
        (torch.ones(2, 4), torch.ones(3, 4).to(torch.int8), None, None),
        (torch.ones(2, 4), torch.ones(3, 4), torch.ones(3, 1), None),
        (torch.ones(2, 4), torch.ones(3, 4).to(torch.int8), torch.ones(3, 1).double(), None),
        (torch.ones(2, 5), torch.ones(3, 4), None, None),
        (torch.ones(2, 4).requires_grad_(), torch.ones(3, 4), None, None),
        (torch.ones(2, 4), torch.ones(3, 4).requires_grad_(), None, None),
    ],
)
def test_what_the_kernel_cannot_compute_is_refused(x, numbers, scales, bias):
    with pytest.raises(ValueError, match="the kernel multiplies"):
        kernel_product(x, numbers, scales, bias)


def test_shapes_that_do_not_match_never_reach_the_kernel(monkeypatch):
    """They would read or leave memory that is not theirs; torch says what is wrong."""
    monkeypatch.setattr(matvec, "kernel_wins", lambda *_: True)
    numbers, scales = torch.ones(6, 10, dtype=torch.int8), torch.ones(6, 5)
    with torch.inference_mode():
        assert product(torch.ones(2, 10), numbers, scales, torch.ones(6)).shape == (2, 6)
        for x, matrix in (
            (torch.ones(2, 5), (torch.ones(6, 10),)),
            (torch.ones(2, 20), (numbers, scales)),
            (torch.ones(2, 10), (torch.ones(6, 10), None, torch.ones(4))),
        ):
            with pytest.raises(RuntimeError, match=r"shape|size"):
                product(x, *matrix)
        for wrong in (torch.ones(6, 6), torch.ones(5, 5), torch.ones(7, 5)):
            with pytest.raises(ValueError, match="the kernel multiplies"):
                kernel_product(torch.ones(2, 10), numbers, wrong)


def test_product_leaves_gradients_and_other_types_to_torch():
    x, weight = torch.randn(2, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    product(x, weight).sum().backward()
    assert torch.allclose(x.grad, weight.detach().sum(0).expand(2, 4))
    assert product(x.detach().double(), weight.detach().double()).dtype is torch.float64


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_number_of_threads_gives_the_same_numbers(threads):
    x, weight = torch.randn(5, 70), torch.randn(41, 70)
    alone = kernel_product(x, weight)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        assert torch.equal(kernel_product(x, weight), alone)
        assert torch.equal(Matrix(weight, None, None)(x), product(x, weight))
    finally:
        torch.set_num_threads(before)


# ---- which one multiplies


@pytest.mark.parametrize("ours_s, torch_s", [(1.0, 2.0), (2.0, 1.0)])
def test_the_faster_one_is_measured_once_for_each_kind(monkeypatch, ours_s, torch_s):
    asked = []
    monkeypatch.setattr(matvec, "_measured", {})
    monkeypatch.setattr(
        matvec, "fastest", lambda function, **_: (asked.append(function), [torch_s, ours_s][len(asked) % 2])[1]
    )
    calls = []
    for name in ("call", "torch_product"):
        real = getattr(matvec, name)
        monkeypatch.setattr(matvec, name, lambda *given, name=name, real=real: (calls.append(name), real(*given))[1])
    weight = torch.randn(6, 10)
    for rows in (5, 8, 6):
        product(torch.randn(rows, 10), weight)
    assert len(asked) == 2
    assert calls == ["call" if ours_s < torch_s else "torch_product"] * 3
    product(torch.randn(9, 10), weight)
    assert len(asked) == 4
    product(torch.randn(matvec.MOST_ROWS + 1, 10), weight)
    assert len(asked) == 4 and calls[-1] == "torch_product"


@pytest.mark.parametrize("stored", STORED.values(), ids=STORED)
@pytest.mark.parametrize("wins", [True, False])
def test_a_matrix_is_the_product(stored, wins, monkeypatch):
    monkeypatch.setattr(matvec, "kernel_wins", lambda *_: wins)
    numbers, scales = stored(torch.randn(11, 21))
    bias = torch.randn(11)
    one = Matrix(numbers, scales, bias)
    side = kernel_product if wins else torch_product
    for rows in (1, 3, matvec.MOST_ROWS + 1):
        x = torch.randn(21, rows).mT
        expected = (side if rows <= matvec.MOST_ROWS else torch_product)(x, numbers, scales, bias)
        assert torch.equal(one(x), expected)
    bias += 1  # in place: the addresses stay
    torch.testing.assert_close(one(x), expected + 1)


# ---- building


def test_built_once_and_whole(fresh, monkeypatch):
    assert matvec.why_not() is None
    (library,) = (fresh / "build").iterdir()  # and nothing unfinished beside it
    stamp = library.stat().st_mtime_ns
    matvec.kernels.cache_clear()
    monkeypatch.setattr(matvec, "run", lambda command: pytest.fail("compiled a second time"))
    assert matvec.why_not() is None
    assert library.stat().st_mtime_ns == stamp


def test_other_text_or_flags_or_processor_have_another_name(fresh, monkeypatch, tmp_path):
    names = set()

    def note(command):
        if "-shared" in command:
            (fresh / "build").mkdir(exist_ok=True)
            open(command[-1], "w").close()

    monkeypatch.setattr(matvec, "run", note)
    names.add(matvec.build().name)
    assert matvec.build().name in names
    monkeypatch.setattr(matvec, "processor", lambda: "another")
    names.add(matvec.build().name)
    monkeypatch.setattr(matvec, "FLAGS", (*matvec.FLAGS, "-g"))
    names.add(matvec.build().name)
    other = tmp_path / "other.cpp"
    other.write_text("int x;")
    monkeypatch.setattr(matvec, "SOURCE", other)
    names.add(matvec.build().name)
    assert len(names) == 4


def no_compiler(monkeypatch, fresh):
    monkeypatch.setattr(matvec.shutil, "which", lambda name: None)


def broken_source(monkeypatch, fresh):
    source = fresh / "broken.cpp"
    source.write_text("this is no C++")
    monkeypatch.setattr(matvec, "SOURCE", source)


def no_place(monkeypatch, fresh):
    (fresh / "build").write_text("a file in the way")


def no_library(monkeypatch, fresh):
    monkeypatch.setattr(matvec, "build", lambda: fresh / "missing.so")


def foreign_library(monkeypatch, fresh):
    monkeypatch.setattr(matvec, "build", lambda: ctypes.util.find_library("c") or "libc.so.6")


@pytest.mark.parametrize(
    "trouble, says",
    [
        (no_compiler, "no compiler: none of g++"),
        (broken_source, "failed: "),
        (no_place, "could not be written"),
        (no_library, "does not load"),
        (foreign_library, "does not load"),
    ],
)
def test_without_a_kernel_torch_multiplies_and_it_is_said_why(fresh, monkeypatch, trouble, says):
    monkeypatch.delenv("CXX", raising=False)
    trouble(monkeypatch, fresh)
    assert says in matvec.why_not()
    assert not list(fresh.glob("build/*.so")) and not list(fresh.glob("build/.*"))
    matrix = to_int8(torch.randn(5, 9))
    x, bias = torch.randn(2, 9), torch.randn(5)
    assert torch.equal(product(x, *matrix, bias), torch_product(x, *matrix, bias))
    assert torch.equal(Matrix(*matrix, bias)(x), torch_product(x, *matrix, bias))
    with pytest.raises(NoKernel, match=re.escape(says)):
        kernel_product(x, *matrix, bias)
    model = random_gpt(CONFIGS["gpt2"])
    ids = list(generate(model, [1, 2], Sampler(GREEDY), 5))
    assert list(generate(use_kernels(model), [1, 2], Sampler(GREEDY), 5)) == ids


def test_a_build_that_breaks_off_leaves_nothing(fresh, monkeypatch):
    def half(command):
        with open(command[-1], "w") as file:
            file.write("half")
        if "-shared" in command:
            raise NoKernel("killed")

    monkeypatch.setattr(matvec, "run", half)
    assert matvec.why_not() == "killed"
    assert list((fresh / "build").iterdir()) == []


def test_the_named_compiler_is_taken(fresh, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "no-such-compiler" in matvec.why_not()


def test_two_processes_build_at_once(fresh, subprocess_env):
    """Each writes a file of its own, and either may be the one that stays."""
    code = f"import torch\nfrom minilm.fast import matvec\nmatvec.FLAGS = {QUICK}\n"
    code += "print(matvec.kernel_product(torch.ones(1, 3), torch.ones(2, 3)))"
    environment = {**subprocess_env, "MINILM_HOME": str(fresh)}
    command = [sys.executable, "-c", code]
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0].strip() for process in both] == ["tensor([[3., 3.]])"] * 2
    assert len(list((fresh / "build").iterdir())) == 1


def test_the_source_can_be_read_in_one_sitting():
    assert len(matvec.SOURCE.read_text(encoding="utf-8").splitlines()) <= 150


# ---- models


def random_gpt(config, **parts):
    torch.manual_seed(7)
    model = GPT(config, **parts).eval()
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model


def sure(model, ids):
    """Whether at each place the likeliest token leads by more than rounding can change."""
    with torch.inference_mode():
        best = model(torch.tensor([ids])).topk(2, dim=-1).values
    return bool(((best[..., 0] - best[..., 1]) > 1e-3).all())


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("rounding", [None, to_int8, to_bfloat16], ids=["float32", "int8", "bfloat16"])
@pytest.mark.parametrize("wins", [True, False], ids=["kernel", "torch"])
@torch.inference_mode()
def test_fused_steps_equal_the_readable_ones(config, rounding, wins, monkeypatch):
    monkeypatch.setattr(matvec, "kernel_wins", lambda *_: wins)
    plain = random_gpt(config)
    if rounding:
        quantize(plain, rounding)
    fast = use_kernels(quantize(random_gpt(config), rounding, product) if rounding else random_gpt(config))
    monkeypatch.setattr(decode, "through_layers", noting(decode.through_layers, fused := []))
    monkeypatch.setattr(Step, "__call__", noting(Step.__call__, steps := []))
    if not wins:
        monkeypatch.setattr(Step, "takes", lambda *_: False)
    ids = torch.randint(37, (3, 20))
    ours, theirs = fast.new_cache(3), plain.new_cache(3)
    for start, end in ((0, 7), (7, 8), (8, 9), (9, 13)):  # a prompt, single tokens, several behind a cache
        found, expected = fast(ids[:, start:end], ours), plain(ids[:, start:end], theirs)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        assert torch.equal(ours.lengths, theirs.lengths)
    assert len(fused) + len(steps) == 4
    assert len(steps) == (2 if wins and config.mlp != "gelu" else 0)  # one token a row, without the exact GELU
    for layer in range(2):
        torch.testing.assert_close(ours.keys[layer], theirs.keys[layer], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours.values[layer], theirs.values[layer], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("rows", [1, 4, 6])
@torch.inference_mode()
def test_steps_through_a_whole_context_by_any_number_of_threads(config, rows):
    """Also behind a selection of rows, and with scores and activations of any size."""
    plain = random_gpt(config)
    for name, parameter in plain.named_parameters():
        if "up.weight" in name or "q.weight" in name:
            parameter *= 8
    fast = use_kernels(copy.deepcopy(plain))
    ids, before = torch.randint(37, (rows, 24)), torch.get_num_threads()
    caches = [fast.new_cache(rows), fast.new_cache(rows), plain.new_cache(rows)]
    try:
        for place in range(24):
            found = []
            for threads, model, cache in zip((1, 3, 1), (fast, fast, plain), caches, strict=True):
                torch.set_num_threads(threads)
                if place == 9:
                    cache.select(torch.arange(rows).flip(0))
                found.append(model.hidden(ids[:, place : place + 1], cache))
            if config.mlp != "gelu":  # which is torch's
                assert torch.equal(found[0], found[1])
            torch.testing.assert_close(found[0], found[2], rtol=1e-4, atol=1e-4)
    finally:
        torch.set_num_threads(before)


@torch.inference_mode()
def test_a_step_leaves_what_it_does_not_know_to_torch():
    model = use_kernels(random_gpt(CONFIGS["gpt2"]))
    step, cache = model.hidden.args[1], model.new_cache(2)
    assert step.takes(torch.ones(2, 24), cache)
    assert not step.takes(torch.ones(2, 24).double(), cache)
    assert not step.takes(torch.ones(matvec.MOST_ROWS + 1, 24), cache)
    cache.values[1] = cache.values[1].mT.contiguous().mT
    assert not step.takes(torch.ones(2, 24), cache)
    assert (
        not use_kernels(random_gpt(CONFIGS["gpt2"]).double())
        .hidden.args[1]
        .takes(torch.ones(2, 24), model.new_cache(2))
    )


@torch.inference_mode()
def test_what_is_not_a_number_stays_none():
    model = use_kernels(random_gpt(CONFIGS["gpt2"]))
    model.blocks[0].attention.q.weight[0, 0] = torch.nan
    assert bool(model.hidden(torch.tensor([[1]]), model.new_cache(1)).isnan().all())


def noting(function, calls):
    return lambda *given: (calls.append(given), function(*given))[1]


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_generation_is_that_of_the_plain_model(config):
    plain = random_gpt(config)
    prompts = [[1, 2, 3], [4], [5, 6, 7, 8, 9]]
    texts = [prompt + list(generate(plain, prompt, Sampler(GREEDY), 12)) for prompt in prompts]
    assert all(sure(plain, text) for text in texts)
    fast = use_kernels(copy.deepcopy(plain))
    alone = [prompt + list(generate(fast, prompt, Sampler(GREEDY), 12)) for prompt in prompts]
    together = [p + row.ids for p, row in zip(prompts, generate_batch(fast, prompts, GREEDY, 12), strict=True)]
    assert alone == texts and together == texts  # rows of different lengths: by the readable way
    assert list(generate(fast, [1] * 20, Sampler(GREEDY), 9, overflow="slide")) == list(
        generate(plain, [1] * 20, Sampler(GREEDY), 9, overflow="slide")
    )


def test_use_matvec_takes_any_model_and_keeps_its_weights():
    torch.manual_seed(3)
    model = SpeedrunGPT(SpeedrunConfig(vocab_size=19, context_length=12, d_model=24, n_layers=2, n_heads=2)).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    twin = copy.deepcopy(model)
    assert use_matvec(twin) is twin
    assert not any(type(part) is Linear for part in twin.modules())
    assert any(type(part) is FastLinear for part in twin.modules())
    assert list(twin.state_dict()) == list(model.state_dict())
    ids = torch.randint(19, (1, 9))
    with torch.inference_mode():
        torch.testing.assert_close(twin(ids), model(ids), rtol=1e-5, atol=1e-5)
    loss = twin(ids).square().mean()
    loss.backward()
    assert all(parameter.grad is not None for parameter in twin.blocks.parameters())


def test_use_kernels_stores_nothing_twice_and_weights_may_change_in_place():
    model = random_gpt(CONFIGS["gpt2"])
    names, before = list(model.state_dict()), {name: array.clone() for name, array in model.arrays().items()}
    fast = use_kernels(model)
    assert fast is model and list(fast.state_dict()) == names
    assert all(torch.equal(array, before[name]) for name, array in fast.arrays().items())
    attention = fast.blocks[0].attention
    assert attention.q.weight.untyped_storage().data_ptr() == attention.v.weight.untyped_storage().data_ptr()
    with torch.inference_mode():
        for name, array in fast.arrays().items():
            array.copy_(before[name] * 0.9 + 0.01)
        ids = torch.tensor([[1, 2, 3]])
        torch.testing.assert_close(fast(ids, fast.new_cache(1)), fast(ids), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cached", [False, True])
def test_gradients_flow_after_use_kernels_with_and_without_a_cache(cached):
    model = use_kernels(random_gpt(CONFIGS["gpt2"]))
    model(torch.tensor([[1, 2, 3]]), model.new_cache(1) if cached else None).square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_model_of_other_blocks_and_a_copy_are_refused():
    other = GPT(gpt2_config(**SHAPE), block=lambda config, attention: build_block(config, attention, parallel))
    with pytest.raises(ValueError, match="use_matvec"):
        use_kernels(other)
    with pytest.raises(ValueError, match="use_matvec"):
        use_kernels(random_gpt(CONFIGS["gpt2"], attention=lambda q, k, v, mask=None: v))
    with pytest.raises(ValueError, match="use_matvec"):
        use_kernels(torch.nn.ModuleList())
    with pytest.raises(ValueError, match="before use_kernels"):
        copy.deepcopy(use_kernels(random_gpt(CONFIGS["gpt2"])))


def test_what_does_not_fit_is_said_by_the_readable_way():
    model = use_kernels(random_gpt(CONFIGS["gpt2"]))
    with torch.inference_mode(), pytest.raises(ValueError, match="context_length 24"):
        model(torch.zeros(1, 25, dtype=torch.long), model.new_cache(1))
    with torch.inference_mode(), pytest.raises(ValueError, match="holds 4 tokens"):
        model(torch.zeros(1, 5, dtype=torch.long), model.new_cache(1, 4))

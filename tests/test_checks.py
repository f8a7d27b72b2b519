"""The checks cannot be fooled: references and other right solutions pass, every mistake is rejected with its own hint."""

import inspect
import math
import random
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from minilm.checks.card import Card, CheckFailed
from minilm.checks.compare import Exercise, Mistake, judge, judge_gradient, smooth
from minilm.checks.exercises import EXERCISES, SOLUTIONS, check, examine, reveal, solution
from minilm.checks.results import read_results, results_folder
from minilm.checks.values import describe
from minilm.layers.alibi import alibi_slopes
from minilm.metrics import f1

MISTAKES = [(name, mistake) for name, exercise in EXERCISES.items() for mistake in exercise.mistakes]
ALTERNATIVES = [(name, i) for name, exercise in EXERCISES.items() for i in range(len(exercise.alternatives))]
HEADS = EXERCISES["split_heads"]


def right_heads(x, n_heads):
    return HEADS.alternatives[0](x, n_heads)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MINILM_HOME", str(tmp_path))


# ---- every exercise


def test_the_course_has_enough():
    assert len(EXERCISES) >= 12 and len(MISTAKES) >= 70 and list(EXERCISES) != sorted(EXERCISES)
    assert set(EXERCISES) == set(SOLUTIONS)


@pytest.mark.parametrize("name", EXERCISES)
def test_the_library_passes_and_is_short(name):
    verdict = judge(EXERCISES[name], solution(name))
    assert verdict.passed, verdict
    lines = {line for *_, line in solution(name).__code__.co_lines() if line is not None}
    assert max(lines) - min(lines) <= 40 and solution(name).__doc__
    assert len(EXERCISES[name].mistakes) >= 4 and len(EXERCISES[name].alternatives) >= 3
    assert len(EXERCISES[name].start) > 20


@pytest.mark.parametrize(("name", "mistake"), MISTAKES, ids=[f"{name}-{mistake.name}" for name, mistake in MISTAKES])
def test_every_mistake_is_rejected_with_its_own_hint(name, mistake):
    verdict = judge(EXERCISES[name], mistake.function)
    assert (verdict.status, verdict.mistake, verdict.hint) == ("wrong", mistake.name, mistake.hint)
    assert "\n" not in verdict.message


@pytest.mark.parametrize(("name", "number"), ALTERNATIVES)
def test_other_right_solutions_are_accepted(name, number):
    verdict = judge(EXERCISES[name], EXERCISES[name].alternatives[number])
    assert verdict.passed, verdict


@pytest.mark.parametrize("name", EXERCISES)
def test_hints_are_different_and_names_too(name):
    mistakes = EXERCISES[name].mistakes
    assert len({mistake.hint for mistake in mistakes}) == len({mistake.name for mistake in mistakes}) == len(mistakes)


@pytest.mark.parametrize("name", EXERCISES)
def test_inputs_are_many_and_differ_from_seed_to_seed_and_not_from_call_to_call(name):
    inputs = EXERCISES[name].inputs
    assert len(inputs(1)) >= 2 and repr(inputs(1)) == repr(inputs(1))


def stub(*arguments):
    raise NotImplementedError


def stub_of(name):
    """A stub with the first line of the library's function."""

    def not_written(*arguments):
        raise NotImplementedError

    not_written.__signature__ = inspect.signature(solution(name))
    return not_written


@pytest.mark.parametrize("name", EXERCISES)
def test_a_stub_is_not_started(name, capsys):
    assert check(name, stub_of(name)) is solution(name)
    assert "not started" in capsys.readouterr().out
    assert read_results() == {}


# ---- what the examiner sees, whatever the exercise


def overwrites(x, n_heads):
    x *= 2.0
    return right_heads(x / 2.0, n_heads)


def draws_torch(x, n_heads):
    torch.rand(1)
    return right_heads(x, n_heads)


def draws_numpy(x, n_heads):
    np.random.random()
    return right_heads(x, n_heads)


def draws_python(x, n_heads):
    random.random()
    return right_heads(x, n_heads)


def crashes(x, n_heads):
    return x.view(7, 7, 7)


def not_started_inside(x, n_heads):
    return stub(x)


def exits(x, n_heads):
    raise SystemExit(0)


CALLS = []


def right_once(x, n_heads):
    CALLS.append(1)
    return right_heads(x, n_heads) + len(CALLS) % 2  # the first call only looks who is called


def wraps(x, n_heads):
    return solution("split_heads")(x, n_heads)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (overwrites, "changes its arguments"),
        (draws_torch, "random numbers"),
        (draws_numpy, "random numbers"),
        (draws_python, "random numbers"),
        (crashes, "(return x.view(7, 7, 7)): RuntimeError"),
        (not_started_inside, "NotImplementedError"),
        (exits, "SystemExit"),
        (right_once, "a second time"),
        (wraps, "calls the library's version"),
        (lambda x, n_heads: x.numpy(), "a ndarray, not a tensor"),
        (lambda x, n_heads: None, "the answer is None, not a tensor"),
        (lambda x, n_heads: right_heads(x, n_heads).float() + 1, "dtype"),
        (lambda x, n_heads: x, "shape"),
        (lambda x, n: right_heads(x, n), "(x, n), they should be (x, n_heads)"),
        (lambda x, n_heads: right_heads(x, n_heads) * float("nan"), "nan"),
        (lambda x, n_heads: right_heads(x, n_heads) + 1e-6, "it should be"),
    ],
)
def test_what_a_careful_examiner_sees(function, said):
    CALLS.clear()
    verdict = judge(HEADS, function, solution("split_heads"))
    assert verdict.status == "wrong" and said in verdict.message, verdict
    assert "\n" not in verdict.message and "Traceback" not in verdict.message


def test_the_library_handed_in_is_not_a_pass(capsys):
    """Running the check cell a second time gives it the library's function, which the first run returned."""
    handed_out = check("causal_mask", stub_of("causal_mask"))
    assert check("causal_mask", handed_out) is handed_out
    assert "the library's version" in capsys.readouterr().out and not read_results()


def speeds(d_head, theta):
    """As a beginner writes them: in float32."""
    return 1.0 / theta ** (torch.arange(0, d_head, 2) / d_head)


def half_masked(score):
    """Attention with a plain number where a key is hidden, and nothing said about a query without keys."""

    def attention(q, k, v, mask=None):
        scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
        return torch.softmax(scores if mask is None else scores.masked_fill(mask == 0, score), dim=-1) @ v

    return attention


def cast_first(x, angles):
    angles = angles.to(x.dtype)
    a, b = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
    return torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], dim=-1)


def slopes_by_query(scores):
    T, S = scores.shape[-2:]
    distance = torch.arange(S - T, S)[:, None] - torch.arange(S)
    return scores - (alibi_slopes(T)[:, None] * distance).to(scores.dtype)


def norm_of_axis(axis):
    def norm(x, weight, bias=None, eps=1e-5):
        out = (x - x.mean(axis, keepdim=True)) / torch.sqrt(x.var(axis, keepdim=True, correction=0) + eps) * weight
        return out if bias is None else out + bias

    return norm


@pytest.mark.parametrize(
    ("name", "function", "mistake"),
    [
        ("rotary_angles", lambda p, d_head, theta: (p[:, None] * speeds(d_head, theta)).double() * 2, ""),
        ("rotary_angles", lambda p, d_head, theta: p[..., None] * torch.tensor(theta) ** -speeds(d_head, 7.0), ""),
        (
            "rotary_angles",
            lambda p, K, theta: p.double().unsqueeze(-1) / theta ** (torch.arange(K).double() * 2 / K),
            "K hands",
        ),
        (
            "interpolated_angles",
            lambda p, d_head, theta, factor: solution("rotary_angles")(p / factor, d_head, theta),
            "in float32",
        ),
        (
            "interpolated_angles",
            lambda p, d_head, theta, factor: solution("rotary_angles")(p // factor, d_head, theta),
            "whole positions",
        ),
        ("rotate_half_split", cast_first, "angles cast"),
        ("alibi", slopes_by_query, "a slope for each query"),
        ("layer_norm", norm_of_axis(0), "first axis"),
        ("layer_norm", norm_of_axis(1), "second axis"),
        ("swiglu", lambda x, gate, up, down: down(up(torch.nn.functional.silu(gate(x)))), "up on the gate"),
        ("swiglu", lambda x, gate, up, down: down(torch.nn.functional.silu(gate(x)) @ up(x)), "matrix product"),
        ("scaled_dot_product_attention", half_masked(-100), "-100, no zeros"),
        ("scaled_dot_product_attention", half_masked(-1e9), "-1e9, no zeros"),
        ("scaled_dot_product_attention", half_masked(-1e20), "equal shares"),
    ],
)
def test_what_students_write_is_rightly_named(name, function, mistake):
    verdict = judge(EXERCISES[name], function)
    assert (verdict.status, verdict.mistake) == ("wrong", mistake), verdict


def test_what_float32_has_rounded_is_told():
    """However it was written: no list of mistakes holds every way to lose digits."""
    for written in (
        lambda positions, d_head, theta: positions[..., None].double() * speeds(d_head, theta),
        lambda positions, d_head, theta: positions[..., None] * speeds(d_head, theta).double().exp().log().float(),
    ):
        assert "float32" in judge(EXERCISES["rotary_angles"], written).hint
    assert judge(EXERCISES["rotary_angles"], lambda p, K, theta: p[..., None] * speeds(K, theta) * 2).hint == ""


def mean_in_single(change):
    """Macro F1 as torch computes it without being told a dtype."""

    def macro(given, truth):
        scores = [f1(given, truth, label) for label in {*given, *truth}]
        return change(torch.tensor(scores).mean())

    return macro


@pytest.mark.parametrize("change", [torch.Tensor.item, lambda mean: mean, lambda mean: np.float32(mean.item())])
def test_a_number_that_is_right_in_float32_is_a_pass_with_a_note(change):
    """A number out has no dtype that could be asked for: right to six digits is right, as for a tensor."""
    verdict = judge(EXERCISES["macro_f1"], mean_in_single(change))
    assert verdict.passed and "float32 only" in verdict.message
    assert "float32" not in judge(EXERCISES["macro_f1"], solution("macro_f1")).message
    for factor in (1 + 1e-4, 1 - 1e-4):
        verdict = judge(EXERCISES["macro_f1"], mean_in_single(lambda mean, factor=factor: mean.item() * factor))
        assert verdict.status == "wrong"
    small = Exercise("rate", "start", lambda seed: [(1e-3,), (3e-3,)], lambda x: 2 * x, (), ())
    assert judge(small, lambda x: 2 * x + 1e-6).status == "wrong"  # six digits of the number, not behind the point


@pytest.mark.parametrize(
    ("root", "said"),
    [
        (lambda x: math.sqrt(x.var(-1, correction=0)), "torch.sqrt"),
        (lambda x: x.var(-1, correction=0).sqrt().item(), "stay with the tensor"),
        (lambda x: x.std(-1, keepdim=True) if x.mean(-1) > 9 or x else x, "is not None"),
    ],
)
def test_errors_that_beginners_meet_have_a_hint(root, said):
    def norm(x, weight, bias=None, eps=1e-5):
        rows = x.expand(2, *x.shape)
        return root(rows)

    assert said in judge(EXERCISES["layer_norm"], norm).hint


def test_a_changed_argument_has_a_hint_that_names_what_changes_it():
    assert "x += y" in judge(HEADS, overwrites).hint


def test_the_case_by_hand_tells_all_blocks_apart():
    exercise = EXERCISES["pre_norm"]
    case = exercise.inputs(11)[0]
    answers = [tuple(f(*case).flatten().tolist()) for f in (exercise.oracle, *(m.function for m in exercise.mistakes))]
    assert len(set(answers)) == len(answers)
    assert answers[0] == (13 + 12 * 12, 16 + 15 * 15)  # 2 + (2 / 2 + 10) = 13, and 13 + (13 - 1)² = 157


def test_positions_of_large_seeds_can_be_told_apart_as_they_are_shown():
    for seed in (10**9, 2**31 - 1):
        for positions, *_ in EXERCISES["rotary_angles"].inputs(seed) + EXERCISES["interpolated_angles"].inputs(seed):
            shown = describe((positions,)).strip("for []").replace("[", "").replace("]", "").split(", ")
            assert len(set(shown)) == len(set(positions.flatten().tolist()))


def test_an_endless_loop_is_stopped():
    def endless(x, n_heads):
        while True:
            pass

    started = time.monotonic()
    verdict = judge(HEADS, endless)
    assert verdict.status == "wrong" and "longer than" in verdict.message and time.monotonic() - started < 60


def test_an_error_has_the_hint_of_the_mistake_that_fails_alike():
    exercise = Exercise(
        "halves",
        "start",
        lambda seed: [([1.0, 2.0],), ([],)],
        lambda xs: sum(xs) / len(xs) if xs else 0.0,
        (Mistake("empty", lambda xs: sum(xs) / len(xs), "what if there is none?"),),
        (),
    )
    verdict = judge(exercise, lambda numbers: sum(numbers) / len(numbers))
    assert "ZeroDivisionError" in verdict.message and verdict.mistake == "empty"


def test_right_in_float32_is_a_pass_with_a_note():
    def single(x, n_heads):
        out = torch.zeros(x.shape[0], n_heads, x.shape[1], x.shape[2] // n_heads)
        return out + right_heads(x.float(), n_heads)

    verdict = judge(HEADS, single)
    assert verdict.passed and "float32 only" in verdict.message
    verdict = judge(HEADS, lambda x, n_heads: right_heads(x, n_heads).float() * 1.001)
    assert verdict.status == "wrong"


def softmax(x):
    return torch.exp(x) / torch.exp(x).sum(-1, keepdim=True)


SOFTMAX = Exercise(
    "softmax",
    "start",
    lambda seed: [(torch.randn(2, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64),)],
    lambda x: torch.stack([torch.exp(row) / torch.exp(row).sum() for row in x]),
    (),
    (),
    differentiable=True,
)


def wrong_backward(x):
    y = softmax(x)
    return y.detach() + 0.5 * (y - y.detach())


def test_gradients_must_flow_and_be_right():
    assert judge(SOFTMAX, softmax).passed and judge(SOFTMAX, lambda x: torch.softmax(x, -1)).passed
    assert "no gradient flows" in judge(SOFTMAX, lambda x: softmax(x.detach())).message
    assert "the gradient is not" in judge(SOFTMAX, wrong_backward).message


@pytest.mark.parametrize("name", [name for name, exercise in EXERCISES.items() if exercise.differentiable])
def test_a_right_gradient_is_never_refused(name):
    """Differences have errors of their own; with those of one step only, two of these seeds refuse layer_norm."""
    for seed in range(200):
        for case in smooth(EXERCISES[name].inputs(seed)):
            assert judge_gradient(EXERCISES[name], solution(name), case, []) is None, (seed, case)


def test_no_slope_is_measured_where_values_are_rounded():
    rounded = torch.ones(2, 3).half(), torch.ones(2, 3, dtype=torch.float64)
    fine = torch.ones(2, dtype=torch.float64), torch.tensor([1, 2]), None, 0.5
    assert smooth([rounded, fine]) == [fine] and smooth([(torch.ones(2),), (torch.ones(2).bfloat16(), 1)]) == []


def test_gradients_are_asked_for_in_float32_too():
    """Right values in float32 only, made of Python numbers: no gradient comes through them."""
    verdict = judge(SOFTMAX, lambda x: torch.tensor(softmax(x).tolist()))
    assert verdict.status == "wrong" and "no gradient flows" in verdict.message
    assert judge(SOFTMAX, lambda x: softmax(x.float())).passed


def test_each_tensor_of_an_answer_must_have_its_way_back():
    """Of tensors in lists and tuples too, in the arguments and in the answer."""
    draw = torch.randn(2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    exercise = Exercise(
        "two", "start", lambda seed: [(draw, (draw + 1, None))], lambda x, pair: (x * pair[0], x.exp()), (), (), True
    )
    assert judge(exercise, lambda x, pair: [x * pair[0], torch.exp(x)]).passed
    assert judge(exercise, lambda x, pair: ((x * pair[0]).float(), x.exp().float())).passed
    for answer, said in (
        (lambda x, pair: ((x * pair[0]).detach(), x.exp()), "the answer [0]"),
        (lambda x, pair: (x * pair[0], x.exp().detach()), "the answer [1]"),
        (lambda x, pair: (torch.tensor((x * pair[0]).detach().numpy()), torch.exp(x)), "the answer [0]"),
        (lambda x, pair: (x * pair[0].detach(), x.exp()), "the gradient is not"),
        (lambda x, pair: (x * pair[0], wrong_backward(x) - softmax(x) + x.exp()), "the gradient is not"),
    ):
        assert said in judge(exercise, answer).message


ARRAYS = Exercise(
    "arrays",
    "start",
    lambda seed: [(np.arange(3.0) + 0.1, 7), (np.arange(40.0), 9)],
    lambda x, n: (x.argsort(), {"root": math.sqrt(n)}, x / n),
    (),
    (),
)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x, n: (x.argsort().astype(np.int32), {"root": math.sqrt(n)}, x / n), "int32 only"),
        (lambda x, n: (x.argsort(), {"root": np.float32(math.sqrt(n))}, x / n), "float32 only"),
        (lambda x, n: (x.argsort(), {"root": math.sqrt(n)}, (x / n).astype(np.float32)), "float32 only"),
    ],
)
def test_arrays_that_are_right_in_fewer_digits_are_a_pass_with_a_note(function, said):
    verdict = judge(ARRAYS, function)
    assert verdict.passed and said in verdict.message


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x, n: (x.argsort().astype(np.int8), {"root": math.sqrt(n)}, x / n), "dtype int8"),
        (lambda x, n: (x.argsort().astype(float), {"root": math.sqrt(n)}, x / n), "dtype float64"),
        (lambda x, n: (x.argsort(), {"root": math.sqrt(n)}, (x / n + 1e-3).astype(np.float32)), "float32"),
        (lambda x, n: (x.argsort(), {"root": math.sqrt(n)}, x / n * (1 + 1e-6)), "it should be"),
        (lambda x, n: (x.argsort().astype(np.int32), {"root": math.sqrt(n) + 1e-3}, x / n), "int32"),
    ],
)
def test_arrays_that_are_wrong_are_wrong_in_any_dtype(function, said):
    verdict = judge(ARRAYS, function)
    assert verdict.status == "wrong" and said in verdict.message


@pytest.mark.parametrize(("change", "hint"), [(np.ndarray.tolist, "np.array"), (torch.tensor, ".numpy()")])
def test_what_is_no_array_has_a_hint(change, hint):
    verdict = judge(ARRAYS, lambda x, n: (x.argsort(), {"root": math.sqrt(n)}, change(x / n)))
    assert verdict.status == "wrong" and hint in verdict.hint


def test_where_the_arguments_are_long_what_is_wrong_comes_first():
    exercise = Exercise("long", "start", lambda seed: [(n * [123456789],) for n in (2, 60)], sum, (), ())
    assert judge(exercise, lambda numbers: 1).message.startswith("for [123456789, 123456789]: the answer is 1")
    message = judge(exercise, lambda numbers: sum(numbers[:5])).message
    assert message.startswith("the answer is 617283945, it should be") and ", for [123456789, " in message


def test_a_mistake_that_is_too_slow_for_the_large_inputs_has_its_hint_from_the_small_ones():
    def slow(n):
        while n == 3:
            pass
        return 2 * n

    exercise = Exercise("n", "start", lambda seed: [(2,), (3,)], lambda n: n * n * n, (Mistake("m", slow, "h"),), ())
    verdict = judge(exercise, slow)
    assert (verdict.status, verdict.mistake, verdict.hint) == ("wrong", "m", "h")


def test_what_breaks_on_the_way_back_is_told():
    def overwritten(x):
        y = torch.exp(x)
        y /= y.sum(-1, keepdim=True)
        return y

    verdict = judge(SOFTMAX, overwritten)
    assert verdict.status == "wrong" and "when gradients are asked for: " in verdict.message and "write" in verdict.hint
    verdict = judge(SOFTMAX, lambda x: torch.where(x > 9, torch.sqrt(x - 99), softmax(x)))
    assert "the slope is nan" in verdict.message and "NaN" in verdict.hint


def test_an_endless_loop_in_float32_is_stopped_too():
    def endless(x):
        while x.dtype == torch.float32:
            pass
        return softmax(x).float()

    assert "longer than" in judge(SOFTMAX, endless).message


def test_what_students_print_is_kept_and_cut():
    def chatty(x, n_heads):
        print("shape", x.shape, "y" * 500)
        return right_heads(x, n_heads)

    verdict = judge(HEADS, chatty)
    assert verdict.passed and verdict.printed == ""
    verdict = judge(HEADS, lambda x, n_heads: chatty(x, n_heads) + 1)
    assert verdict.printed.startswith("shape torch.Size") and len(verdict.printed) < 210


def test_a_flood_of_printing_is_cut_and_only_that_of_the_call_that_went_wrong():
    def flood(x, n_heads):
        print("\n".join(f"{tuple(x.shape)} {i}" for i in range(100)))
        return None

    verdict = judge(HEADS, flood)
    lines = verdict.printed.splitlines()
    assert lines[0] in ("(1, 2, 6) 0", "(2, 1, 6) 0")
    assert len(lines) == 11 and len({line.split(")")[0] for line in lines[:10]}) == 1


def test_the_smallest_input_that_goes_wrong_is_shown():
    verdict = judge(EXERCISES["causal_mask"], lambda n_queries, n_keys: torch.zeros(n_queries, n_keys).bool())
    assert verdict.message.startswith("for 1, 1:") or verdict.message.startswith("for 1, 4:")


def test_none_is_a_forgotten_return():
    assert "return" in judge(HEADS, lambda x, n_heads: None).hint


def test_answers_known_by_heart_do_not_pass():
    """Whoever has stored the answers to the fixed inputs fails on those that nobody knows before."""
    exercise = EXERCISES["negative_log_likelihood"]
    known = {repr(case): exercise.oracle(*case) for seed in (11, 23) for case in exercise.inputs(seed)}

    def by_heart(probabilities):
        return known.get(repr((probabilities,)), 1.0)

    assert judge(exercise, by_heart).passed
    assert examine(exercise.name, by_heart).status == "wrong"


def test_a_dictionary_that_claims_to_be_equal():
    class Liar(dict):
        def __getitem__(self, key):
            return Liar()

        def __contains__(self, key):
            return True

        def __iter__(self):
            return iter(())

        def __eq__(self, other):
            return True

    exercise = Exercise("d", "start", lambda seed: [(1,), (2,)], lambda n: {"a": n}, (), ())
    assert judge(exercise, lambda n: {"a": n}).passed and judge(exercise, lambda n: Liar()).status == "wrong"


@pytest.mark.parametrize("name", EXERCISES)
def test_right_solutions_pass_whatever_the_inputs(name):
    for function in (solution(name), *EXERCISES[name].alternatives):
        verdict = judge(EXERCISES[name], function, seeds=(1, 2**31 - 1, 77))
        assert verdict.passed, verdict


# ---- how it is told and kept


def test_a_pass_hands_the_student_their_own_function_and_is_remembered(capsys):
    assert check("split_heads", right_heads) is right_heads
    assert "your own code runs" in capsys.readouterr().out
    with pytest.raises(CheckFailed, match="it should"):
        check("split_heads", lambda x, n_heads: x)
    found = read_results()["split_heads"]
    assert found["passed"] and found["tries"] == 2 and found["last"]["status"] == "wrong"


def right_mask(n_queries, n_keys):
    return EXERCISES["causal_mask"].alternatives[0](n_queries, n_keys)


def upper_left(n_queries, n_keys):
    return EXERCISES["causal_mask"].mistakes[0].function(n_queries, n_keys)


def test_a_failure_in_a_script_has_what_and_hint():
    with pytest.raises(CheckFailed) as caught:
        check("causal_mask", upper_left)
    first, hint = str(caught.value).splitlines()
    assert (
        first.startswith("causal_mask: wrong: for")
        and hint.strip() == "hint: " + EXERCISES["causal_mask"].mistakes[0].hint
    )


def test_a_card_in_a_notebook_escapes_what_it_shows():
    verdict = judge(HEADS, lambda x, n_heads: (_ for _ in ()).throw(ValueError("<script>")))
    page = Card("split_heads", verdict)._repr_html_()
    assert (
        "&lt;script&gt;" in page
        and "<script>" not in page
        and "is the library's version" in page.replace("&#x27;", "'")
    )


def test_the_source_is_shown_after_a_pass_only(capsys):
    reveal("causal_mask")
    assert "def causal_mask" not in capsys.readouterr().out
    reveal("causal_mask", give_up=True)
    assert "def causal_mask" in capsys.readouterr().out
    check("causal_mask", right_mask)
    reveal("causal_mask")
    assert "def causal_mask" in capsys.readouterr().out


def test_results_that_cannot_be_read_or_written_spoil_nothing(capsys):
    results_folder().mkdir(parents=True)
    (results_folder() / "causal_mask.json").write_text("{", encoding="utf-8")
    (results_folder() / "split_heads.json").mkdir()
    assert read_results() == {}
    check("split_heads", right_heads)
    check("causal_mask", right_mask)
    assert set(read_results()) == {"causal_mask"}
    assert [path.name for path in results_folder().iterdir() if path.name.startswith(".")] == []


def test_unknown_exercise():
    with pytest.raises(ValueError, match="there is no exercise"):
        check("dragons", stub)


def test_checks_do_not_import_the_library(subprocess_env):
    concepts = sorted({exercise.oracle.__module__ for exercise in EXERCISES.values()})
    assert len(concepts) >= 5
    code = (
        f"import sys, {', '.join(concepts)}; rooms = ('layers', 'text', 'classical', 'metrics', 'models'); "
        "print([m for m in sys.modules if m.split('.')[1:2] and m.startswith('minilm.') and m.split('.')[1] in rooms])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=subprocess_env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

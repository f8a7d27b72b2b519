"""The doctor finds what is planted: each operation of torch in turn is made wrong under it, and must be caught and named.

The planted device is this CPU inside a mode that changes what one operation gives; the reference runs outside of it. What
only a real GPU can show is not shown here.
"""

import dataclasses
import functools
import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from minilm.cli import doctor as verb
from minilm.cli.doctor import all_cases, examination, refuse_wrong_device, write
from minilm.fast.bricks import fuse
from minilm.fast.loss import next_token_loss as fast_loss
from minilm.models.gpt import GPT
from minilm.models.speedrun_gpt import SpeedrunGPT
from minilm.runtime import keep_freed_memory
from minilm.training import compiling
from minilm.training.compiling import Tried, reason, try_compile, with_compile
from minilm.training.config import TrainConfig
from minilm.training.doctor import (
    BOTH,
    CPU,
    NOT_OFFERED,
    OK,
    WRONG,
    Call,
    Case,
    DeviceComputesWrong,
    Finding,
    Place,
    Recorder,
    calls,
    examine,
    judge,
    overall_size,
    rank,
    run_there,
    suspects,
    wrong_by,
)
from minilm.training.doctor_bricks import all_operations
from minilm.training.doctor_draws import draw_cases, large_cases
from minilm.training.doctor_machine import (
    left_to_container,
    line_of,
    memory,
    offered_dtypes,
    peak_memory,
    speeds,
    versions,
)
from minilm.training.doctor_models import CONFIGS, model_cases
from minilm.training.doctor_operations import operation_cases, sliced, transposed
from minilm.training.doctor_report import as_data, cell, conclusion, detail, table
from minilm.training.loop import train
from minilm.training.loss import next_token_loss

# ---- planting

Spoil = Callable[[Any, Sequence[Any], dict[str, Any]], Any]  # (operation, arguments, named arguments) -> what it gives


class Plant(TorchDispatchMode):
    """A device on which the operations of this name are carried out by `spoil`."""

    def __init__(self, name: str, spoil: Spoil) -> None:
        super().__init__()
        self.name, self.spoil, self.fired = name, spoil, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if name_of(func) != self.name:
            return func(*args, **(kwargs or {}))
        self.fired += 1
        return self.spoil(func, args, kwargs or {})

    def run(self, case: Case, place: Place) -> Any:
        with self:
            return run_there(case, place)


def name_of(func: Any) -> str:
    return str(func).removeprefix("aten.")


def changed(change: Callable[[Tensor], Tensor], when: Callable[[Any], bool] = lambda args: True) -> Spoil:
    """Right, and then changed: in place where the operation writes into memory that was there."""

    def spoil(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        result = func(*args, **kwargs)
        if not when(args):
            return result
        written = func._schema.name.endswith("_") or "out" in kwargs
        results = result if isinstance(result, tuple | list) else [result]
        new = [spoiled(x, change, written) for x in results]
        return type(result)(new) if isinstance(result, tuple | list) else new[0]

    return spoil


def spoiled(x: Any, change: Callable[[Tensor], Tensor], written: bool) -> Any:
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.is_sparse:
        return x
    new = change(x.clone())
    return x.copy_(new) if written else new


def one_percent(x: Tensor) -> Tensor:
    return x * 1.01


def at_the_largest(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """One number of a tensor is changed: that which is farthest from 0."""

    def change_one(x: Tensor) -> Tensor:
        flat = x.reshape(-1).clone()
        if flat.numel():
            place = flat.nan_to_num(posinf=0.0, neginf=0.0).abs().argmax()
            flat[place] = change(flat[place])
        return flat.view(x.shape)

    return change_one


def not_a_number(x: Tensor) -> Tensor:
    return torch.full_like(x, math.nan)


def strided(args: Any) -> bool:
    return any(isinstance(x, Tensor) and not x.is_contiguous() for x in args)


def in_bfloat16(args: Any) -> bool:
    return any(isinstance(x, Tensor) and x.dtype is torch.bfloat16 for x in args)


def lost_write(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """The call comes back, and nothing has happened."""
    return args[0] if func._schema.returns else None


def unstable(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """A sort that puts equals in the wrong order."""
    values, order = func(args[0].flip(-1), **kwargs)
    return values, args[0].shape[-1] - 1 - order


# ---- the patient: all cases, what they give on an honest CPU, and which operations they consist of

MOST_CASES = 4  # of each kind of call of an operation that are computed again for one plant: the simplest


class Patient(NamedTuple):
    honest: list[Finding]
    seen: list[set[Call]]

    def diagnose(self, plant: Plant) -> tuple[list[Finding], list[str]]:
        """What is wrong with the plant inside, and what is suspected of it."""
        using: dict[Call, list[int]] = {}
        for number in sorted(range(len(self.seen)), key=lambda number: len(self.seen[number])):
            for call in self.seen[number]:
                if call[0] == plant.name:
                    using.setdefault(call, []).append(number)
        again = sorted({number for numbers in using.values() for number in numbers[:MOST_CASES]})
        untouched = set(range(len(self.seen))) - {number for numbers in using.values() for number in numbers}
        findings = [judge(f.case, f.device, f.dtype, plant.run) for f in (self.honest[number] for number in again)]
        findings += [self.honest[number] for number in untouched]
        seen = [self.seen[number] for number in (*again, *untouched)]
        return [finding for finding in findings if finding.state == WRONG], rank(findings, seen)


def remembering(case: Case) -> Case:
    """The same case, whose reference is computed once."""
    known: dict[Place, Any] = {}

    def compute(place: Place) -> Any:
        if not place.is_reference:
            return case.compute(place)
        if place not in known:
            known[place] = case.compute(place)
        return known[place]

    return dataclasses.replace(case, compute=compute)


@pytest.fixture(scope="module")
def patient() -> Patient:
    samplers = [case for case in operation_cases(all_operations()) if not case.training]
    cases = [remembering(case) for case in [*all_cases(CPU, short=True), *samplers]]
    honest = [finding for dtype in BOTH for finding in examine(cases, CPU, dtype)]
    return Patient(honest, [calls(f.case, Place(CPU, f.dtype, f.dtype)) for f in honest])


# What gives no numbers of its own: views, and memory that is filled with zeros, ones, ids or nothing.
NOT_NUMBERS = [
    "view",
    "_unsafe_view",
    "reshape",
    "t",
    "transpose",
    "permute",
    "expand",
    "slice",
    "select",
    "split",
    "split_with_sizes",
    "unsqueeze",
    "squeeze",
    "alias",
    "detach",
    "as_strided",
    "unfold",
    "zeros",
    "zeros_like",
    "new_zeros",
    "empty",
    "empty_like",
    "new_empty",
    "new_empty_strided",
    "empty_strided",
    "arange",
    "ones",
    "ones_like",
    "full_like",
    "new_full",
    "scalar_tensor",
    "lift_fresh",
    "_values",
    "_indices",
    "values",
    "indices",
    "resize_",
    "detach_",
    "set_",
    "zero_",
    "fill",
    "new_ones",
    "eye",
    "unbind",
    "full",
    "_local_scalar_dense",
    "is_same_size",
    "manual_seed",
    "_has_same_storage_numel",
    "_reshape_alias",
]


def numbers(patient: Patient) -> list[str]:
    """The operations of all cases that compute numbers."""
    names = {call[0] for seen in patient.seen for call in seen if call[1]}
    return sorted(name for name in names if name.split(".")[0] not in NOT_NUMBERS)


def test_an_honest_cpu_is_right(patient: Patient) -> None:
    assert [(f.case.name, f.case.what, f.state, f.error, f.why) for f in patient.honest if f.state != OK] == []
    assert len(patient.honest) > 700
    assert suspects(patient.honest) == []


def test_references_are_numbers_that_differ(patient: Patient) -> None:
    """Pitfall 47: two sides that are broken alike, all zeros or infinite, would agree."""
    for finding in patient.honest:
        want = finding.case.settle(run_there(finding.case, Place(CPU, torch.float64, finding.dtype)))
        if "all ignored" in finding.case.name:
            assert overall_size(want.values()) == 0.0
            continue
        if finding.case.name != "random numbers":
            constant = [
                name for name, x in want.items() if "gradient" not in name and x.numel() > 3 and len(x.unique()) == 1
            ]
            assert constant == [], finding.case
        assert overall_size(want.values()) > 1e-3 or not any(x.is_floating_point() for x in want.values())


@pytest.mark.parametrize("seed", range(1, 3))
def test_an_honest_cpu_is_right_with_other_numbers(seed: int) -> None:
    before = torch.get_rng_state()
    findings = examination(CPU, short=True, seed=seed)
    assert torch.equal(torch.get_rng_state(), before)
    assert [(f.case.name, f.case.what, f.error) for f in findings if f.state != OK] == []


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(5, 25))
def test_an_honest_cpu_is_right_with_many_numbers(seed: int) -> None:
    findings = examination(CPU, short=False, seed=seed)
    assert [(f.case.name, f.case.what, f.error) for f in findings if f.state != OK] == []


# ---- every operation in turn


def test_one_percent_in_any_operation_is_caught_and_named(patient: Patient) -> None:
    caught, missed, unnamed = [], [], []
    for name in numbers(patient):
        touched: list[Tensor] = []
        plant = Plant(name, changed(functools.partial(one_percent_of, touched)))
        wrong, guilty = patient.diagnose(plant)
        if not any(bool(x.any()) for x in touched):
            continue  # it gives masks or ids
        (caught if wrong else missed).append(name)
        named = {each.split(" ")[0] for each in guilty} | {f"{f.case.name}.default" for f in wrong}
        if wrong and name not in named:
            unnamed.append((name, guilty))
    assert (missed, unnamed) == ([], [])
    assert len(caught) > 60


def one_percent_of(touched: list[Tensor], x: Tensor) -> Tensor:
    touched.append(x)
    return x * 1.01


# What is planted, and the words that must be in the diagnosis: where it is wrong, and what is suspected.
SPECIAL = {
    "one number of a product": ("mm.default", changed(at_the_largest(one_percent)), "mm.default"),
    "one number of many products": ("bmm.default", changed(at_the_largest(one_percent)), "bmm.default"),
    "one exponential": ("exp.default", changed(at_the_largest(one_percent)), "exp.default"),
    "one sum": ("sum.dim_IntList", changed(at_the_largest(one_percent)), "sum.dim_IntList"),
    "one row of the embedding gradient": ("index_put.default", changed(at_the_largest(one_percent)), "index_put.default"),
    "one number of a layer norm": (
        "native_layer_norm.default",
        changed(at_the_largest(one_percent)),
        "native_layer_norm.default",
    ),
    "strided products": ("mul.Tensor", changed(one_percent, strided), "mul.Tensor"),
    "strided sums": ("add.Tensor", changed(one_percent, strided), "add.Tensor of strided inputs"),
    "strided exponentials": ("exp.default", changed(one_percent, strided), "exp.default of strided inputs"),
    "lost steps of Adam in one pass": ("_fused_adam_.default", lost_write, "_fused_adam_.default"),
    "bfloat16 products": ("mm.default", changed(one_percent, in_bfloat16), "mm.default in bfloat16"),
    "bfloat16 tanh": ("tanh.default", changed(one_percent, in_bfloat16), "tanh.default in bfloat16"),
    "bfloat16 division": ("div.Tensor", changed(one_percent, in_bfloat16), "div.Tensor in bfloat16"),
    "a product that is no number": ("mm.default", changed(at_the_largest(not_a_number)), "mm.default"),
    "a root that is no number": ("rsqrt.default", changed(at_the_largest(not_a_number)), "rsqrt.default"),
    "a gradient that is no number": (
        "native_layer_norm_backward.default",
        changed(at_the_largest(not_a_number)),
        "native_layer_norm_backward.default",
    ),
    "lost add_": ("add_.Tensor", lost_write, "add_.Tensor"),
    "lost mul_": ("mul_.Tensor", lost_write, "mul_.Tensor"),
    "lost addcmul_": ("addcmul_.default", lost_write, "addcmul_.default"),
    "lost lerp_": ("lerp_.Scalar", lost_write, "lerp_.Scalar"),
    "lost copy_": ("copy_.default", lost_write, "copy_.default"),
    "lost index_add_": ("index_add_.default", lost_write, "index_add_.default"),
    "lost zero_": ("zero_.default", lost_write, "zero_.default"),
    "lost _foreach_mul_": ("_foreach_mul_.Scalar", lost_write, "_foreach_mul_.Scalar"),
    "addcmul_ lost where strided": (
        "addcmul_.default",
        lambda func, args, kwargs: args[0] if strided(args) else func(*args, **kwargs),
        "addcmul_.default of strided inputs",
    ),
    "a mask that is off by one": (
        "le.Tensor",
        lambda func, args, kwargs: torch.ops.aten.lt.Tensor(*args, **kwargs),
        "le.Tensor",
    ),
    "whole numbers kept in float32": (
        "mul.Tensor",
        lambda func, args, kwargs: (
            func(*args) if any(isinstance(x, Tensor) and x.is_floating_point() for x in args)
            else (torch.as_tensor(args[0]).float() * torch.as_tensor(args[1]).float()).long()
        ),
        "mul.Tensor",
    ),
    "a gather that is one off": (
        "gather.default",
        lambda func, args, kwargs: func(args[0], args[1], (args[2] + 1).clamp(max=args[0].shape[args[1]] - 1)),
        "gather.default",
    ),
    "a sort that forgets the order of equals": (
        "sort.stable",
        unstable,
        "sort.stable",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", SPECIAL)
def test_what_is_wrong_only_sometimes_is_caught_and_named(what: str, patient: Patient) -> None:
    name, spoil, named = SPECIAL[what]
    plant = Plant(name, spoil)
    wrong, guilty = patient.diagnose(plant)
    assert plant.fired
    assert wrong != []
    operation, _, when = named.partition(" ")
    assert any(each.split(" ")[0] == operation and when in each for each in guilty), guilty


def test_what_is_wrong_in_bfloat16_alone_leaves_float32_alone(patient: Patient) -> None:
    wrong, _ = patient.diagnose(Plant("exp.default", changed(one_percent, in_bfloat16)))
    assert {finding.dtype for finding in wrong} == {torch.bfloat16}
    assert "exp" in {finding.case.name for finding in wrong}


def test_the_short_form_catches_what_matters_to_training(patient: Patient) -> None:
    """All but what samplers alone use: sorts, running sums, searches."""
    short = Patient(*zip(*[(f, s) for f, s in zip(*patient, strict=True) if f.case.training], strict=True))
    only_long = {name.split(".")[0] for name in set(numbers(patient)) - set(numbers(short))}
    assert only_long <= {
        "cumsum",
        "sort",
        "topk",
        "searchsorted",
        "argsort",
        "argmax",
        "max",
        "index",
        "rms_norm",
        "silu",
    }
    for name in ("mm.default", "index_put.default", "add.Tensor", "addcmul_.default", "native_layer_norm.default"):
        wrong, guilty = short.diagnose(Plant(name, changed(one_percent)))
        assert wrong and name in [each.split(" ")[0] for each in guilty]


# ---- random numbers


def other_stream(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Whatever the seed, the numbers of seed 0."""
    return func(*args, **{**kwargs, "generator": torch.Generator().manual_seed(0)})


def not_repeatable() -> Spoil:
    elsewhere = torch.Generator().manual_seed(5)
    return lambda func, args, kwargs: func(*args, **{**kwargs, "generator": elsewhere})


def repeated(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Each number comes twice."""
    x = func(*args, **kwargs)
    return x[::2].repeat_interleave(2)[: len(x)]


RANDOM = {
    "a mean that is 1 % low": changed(lambda x: x * 0.99),
    "a shift of 1 %": changed(lambda x: x + 0.012),
    "numbers that keep off the middle": changed(lambda x: x + 0.1 * (x > 0.5) * (x < 0.53)),
    "the same numbers for every seed": other_stream,
    "other numbers for the same seed": not_repeatable(),
    "numbers that come in pairs": repeated,
    "numbers that are not numbers": changed(not_a_number),
    "one number that is none": changed(at_the_largest(not_a_number)),
}


@pytest.mark.parametrize("what", RANDOM)
@pytest.mark.parametrize("name", ["rand.generator", "randn.generator"])
def test_a_wrong_random_stream_is_caught(name: str, what: str) -> None:
    plant = Plant(name, RANDOM[what])
    findings = examine(draw_cases(seed=3), CPU, torch.float32, plant.run)
    wrong = {finding.case.what for finding in findings if finding.state == WRONG}
    assert ("uniform" if name == "rand.generator" else "normal") in wrong
    assert suspects(findings, plant.run)[0].split(" ")[0] == name


class Forgetful(torch.Generator):
    """Its state cannot be restored."""

    def set_state(self, state: Tensor) -> Any:
        return self


class OneSeed(torch.Generator):
    """Whatever the seed, it begins at the same place."""

    def manual_seed(self, seed: int) -> Any:
        return super().manual_seed(5)


class NoSeed(torch.Generator):
    """Whatever the seed, it begins somewhere else."""

    def manual_seed(self, seed: int) -> Any:
        self.seed()
        return self


@pytest.mark.parametrize(
    ("generator", "where"),
    [
        (Forgetful, "a saved state goes on as before"),
        (OneSeed, "another seed other numbers"),
        (NoSeed, "same seed same numbers"),
    ],
)
def test_a_generator_that_forgets_is_caught(generator: type[torch.Generator], where: str) -> None:
    def run(case: Case, place: Place) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "Generator", generator)
            return run_there(case, place)

    uniform = draw_cases()[0]
    finding = judge(uniform, CPU, torch.float32, run)
    assert (finding.state, finding.where) == (WRONG, where)


# ---- large arrays


@pytest.mark.parametrize(
    ("name", "spoil", "what"),
    [
        ("nonzero.default", lambda func, args, kwargs: func(*args).float().bfloat16().long(), "found"),
        ("argmax.default", lambda func, args, kwargs: func(*args) - 1, "ends"),
        ("cumsum.default", lambda func, args, kwargs: func(*args, **kwargs).float().bfloat16().int(), "counting"),
        ("index.Tensor", lambda func, args, kwargs: func(args[0], [args[1][0] // 2]), "rows"),
        ("index_add_.default", lost_write, "rows"),
    ],
)
def test_large_arrays(name: str, spoil: Spoil, what: str) -> None:
    """The same questions at a size that a test can afford; an operation that is wrong at the far end is caught."""
    cases = [case for case in large_cases(size=70_001) if case.what == what]
    assert [f.state for f in examine(cases, CPU, torch.float32)] == [OK]
    assert [f.state for f in examine(cases, CPU, torch.float32, Plant(name, spoil).run)] == [WRONG]


def test_a_large_array_is_held_once() -> None:
    """Else a machine that has room for four such arrays ends where eight are made of one: a sum makes int64 of bytes first."""
    (ends,) = (case for case in large_cases(size=60 * 2**20) if case.what == "ends")
    with peak_memory(CPU) as peak:
        ends.compute(Place(CPU, torch.float32, torch.float32))
    held = peak()
    assert held is None or 50 * 2**20 < held < 120 * 2**20


def test_arrays_of_more_than_2_31_need_room() -> None:
    assert len(large_cases(free_bytes=4e9)) + 1 == len(large_cases(free_bytes=9e9))


# ---- is everything asked that the house uses?


def test_every_operation_of_the_house_is_asked(patient: Patient) -> None:
    """What training and writing call, recorded, against what the operations of the doctor's list call."""
    used: set[Call] = set()
    ids = torch.randint(53, (4, 2, 25))
    batches = [(x[:, :-1], x[:, 1:]) for x in ids]
    with Recorder(used):
        for optimizer in ("adamw", "adam", "sgd", "muon"):
            for config in CONFIGS.values():
                for fast in (False, True) if optimizer == "adamw" else (True,):
                    model: Any = SpeedrunGPT(config) if "speedrun" in type(config).__name__.lower() else GPT(config)
                    settings = TrainConfig(steps=2, optimizer=optimizer, accumulation=2, dtype="float32", clip=0.1)
                    loss = fast_loss if fast else next_token_loss
                    train(fuse(model) if fast else model, batches, settings, loss_function=loss, progress=False)
        write(model, [1, 2, 3], 5)
    asked = {
        call[0]
        for finding, seen in zip(*patient, strict=True)
        for call in seen
        if "," not in finding.case.name or finding.case.what not in ("logits", "gradients", "cache", "text")
    }
    fills = {"normal_", "randn", "rand", "uniform_", "inferencemode", "isfinite", "is_pinned"}
    missing = {call[0] for call in used} - asked
    assert {name for name in missing if name.split(".")[0] not in {*NOT_NUMBERS, *fills}} == set()


# ---- how far is it off


def test_wrong_by_hand() -> None:
    want = torch.tensor([3.0, -4.0, 0.0, 0.0])  # its typical size is 2.5
    assert wrong_by(want.clone(), want) == (0.0, 0.0)
    largest, together = wrong_by(torch.tensor([3.3, -4.0, 0.0, 0.0]), want)
    assert largest == pytest.approx(0.3 / 5.5)
    assert together == pytest.approx(0.3 * 3.0 / 25.0)
    assert wrong_by(want + torch.tensor([0.0, 0.0, 0.25, 0.0]), want)[0] == pytest.approx(0.1)
    assert wrong_by(want * 1.01, want)[1] == pytest.approx(0.01, rel=1e-5)
    assert wrong_by(want * 1.01, want, floor=25.0)[1] == pytest.approx(0.0001, rel=1e-4)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_infinitely_wrong(bad: float) -> None:
    want = torch.tensor([1.0, 2.0])
    assert wrong_by(torch.tensor([1.0, bad]), want) == (math.inf, math.inf)
    assert wrong_by(want, torch.tensor([1.0, bad])) == (math.inf, math.inf)


def test_infinities_may_be_right() -> None:
    want = torch.tensor([1.0, -math.inf])
    assert wrong_by(want, want) == (0.0, 0.0)
    assert wrong_by(torch.tensor([1.0, math.inf]), want)[0] == math.inf
    assert wrong_by(torch.tensor([1.0, -1e38]), want)[0] == math.inf


def test_shapes_and_zeros_and_whole_numbers() -> None:
    assert wrong_by(torch.ones(2), torch.ones(1, 2))[0] == math.inf
    assert wrong_by(torch.tensor([0.0, 1e-12]), torch.zeros(2))[0] == math.inf
    assert wrong_by(torch.tensor([1, 2, 3, 4]), torch.tensor([1, 2, 3, 5])) == (0.25, 0.0)
    assert wrong_by(torch.tensor([True, False]), torch.tensor([True, True])) == (0.5, 0.0)


def test_rounding_is_no_error_and_one_percent_is() -> None:
    """How near the border stands: 2^-8 of each number, at random, passes in bfloat16, a hundredth of all does not."""
    want = torch.randn(1000, dtype=torch.float64)
    case = Case("x", "y", lambda place: {"values": want})
    noise = want * (1 + 2.0**-8 * (2 * torch.rand(1000) - 1))
    assert judge(case, CPU, torch.bfloat16, lambda case, place: {"values": noise}).state == OK
    assert judge(case, CPU, torch.bfloat16, lambda case, place: {"values": want * 1.0075}).state == WRONG
    assert judge(case, CPU, torch.float32, lambda case, place: {"values": want * (1 + 1e-6)}).state == OK
    assert judge(case, CPU, torch.float32, lambda case, place: {"values": want * (1 + 2e-5)}).state == WRONG


def test_a_missing_result_is_wrong_and_a_refusal_is_not_offered() -> None:
    def refuse(case: Case, place: Place) -> Any:
        raise NotImplementedError("no such kernel\non this device")

    case = Case("x", "y", lambda place: {"a": torch.ones(2), "b": torch.ones(3)})
    finding = judge(case, CPU, torch.float32, lambda case, place: {"a": torch.ones(2)})
    assert (finding.state, finding.where) == (WRONG, "b")
    finding = judge(case, CPU, torch.float32, refuse)
    assert (finding.state, finding.why) == (NOT_OFFERED, "no such kernel")


def test_a_place_rounds_what_its_reference_rounds() -> None:
    x = torch.tensor([1.0 + 2.0**-10], dtype=torch.float64)
    for dtype in BOTH:
        there, reference = Place(CPU, dtype, dtype).put(x), Place(CPU, torch.float64, dtype).put(x)
        assert there.dtype is dtype and reference.dtype is torch.float64
        assert torch.equal(there.double(), reference)
    assert Place(CPU, torch.bfloat16, torch.bfloat16).put(torch.tensor([7])).dtype is torch.int64


def test_layouts_keep_the_numbers_and_are_strided() -> None:
    x = torch.randn(3, 5)
    for lay in (transposed, sliced):
        assert torch.equal(lay(x), x) and not lay(x).is_contiguous()
    assert sliced(x).storage_offset() == 1


def test_ranks_by_hand() -> None:
    def finding(state: str) -> Finding:
        return Finding(Case("x", "y", lambda place: {}), CPU, torch.float32, state)

    a, b, c = ("a", "float32", "contiguous"), ("b", "float32", "contiguous"), ("a", "float32", "strided")
    findings = [finding(WRONG), finding(WRONG), finding(OK), finding(NOT_OFFERED)]
    assert rank(findings, [{a, b}, {a}, {b}, {b}]) == ["a", "b"]
    assert rank(findings, [{c, b}, {c}, {a, b}, {b}]) == ["a of strided inputs", "b"]
    assert rank([finding(OK)], [{a}]) == []
    findings = [finding(WRONG), finding(WRONG), *[finding(OK)] * 3]  # a: 1 / sqrt(2 · 1), b: 2 / sqrt(2 · 5)
    assert rank(findings, [{a, b}, {b}, {b}, {b}, {b}]) == ["a", "b"]


def test_one_strided_input_makes_a_call_strided() -> None:
    x, seen = torch.ones(3, 5), set()
    with Recorder(seen):
        torch.add(x, x)
        torch.add(x, transposed(x).bfloat16())
        torch.stack([x, x.half()])
    assert {call for call in seen if call[0].startswith(("add", "stack"))} == {
        ("add.Tensor", "float32", "contiguous"),
        ("add.Tensor", "bfloat16+float32", "strided"),
        ("stack.default", "float16+float32", "contiguous"),
    }


# ---- the verb, and what training asks


def test_the_verb_says_that_all_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert verb.run(["--short", "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("minilm ") and torch.__version__ in lines[0]
    assert any(line.split()[:3] == ["matrix", "product", "ok"] for line in lines)
    assert lines[-1].startswith("cpu computes right: ")


def test_the_verb_names_what_is_wrong(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    plant = Plant("tanh.default", changed(one_percent))
    found = examination(CPU, short=True, dtypes=[torch.float32], run=plant.run)
    monkeypatch.setattr(verb, "examination", lambda device, short, seed: found)
    assert verb.run(["--short", "--json"]) == 3
    (report,) = json.loads(capsys.readouterr().out)["devices"]
    assert "tanh" in report["wrong"] and "matrix product" not in report["wrong"]
    assert report["suspects"][0] == "tanh.default"
    errors = {f["error"] for f in report["findings"] if f["name"] == "tanh" and f["what"] == "forward"}
    assert all(0.005 < error < 0.02 for error in errors)
    assert verb.run(["--short"]) == 3
    out = capsys.readouterr().out
    assert "computes WRONG: tanh" in out.splitlines()[-1] and "tanh.default" in out.splitlines()[-1]
    row = next(number for number, line in enumerate(out.splitlines()) if line.startswith("  tanh "))
    most = max((f for f in report["findings"] if f["name"] == "tanh"), key=lambda f: f["error"])
    assert out.splitlines()[row].split() == ["tanh", "WRONG", f"{most['error']:.1e}"]
    said = f"      float32, {most['what']}: {most['where']}, off by {most['error']:.1e}, {most['allowed']:.1e} allowed"
    assert out.splitlines()[row + 1] == said


def test_a_device_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="device 'abacus' is not available"):
        verb.run(["--device", "abacus"])
    assert capsys.readouterr().out == ""


def test_training_on_the_cpu_pays_for_no_examination(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: Any, **how: Any) -> list[Finding]:
        raise AssertionError("examined")

    monkeypatch.setattr(verb, "examination", never)
    assert refuse_wrong_device(CPU) is None


@pytest.fixture
def nobody_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU stands for a GPU."""
    monkeypatch.setattr(verb, "TRUSTED", ())


@pytest.fixture
def few_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the cases of norms and matrix products and two models: what is asked of the refusal needs no more."""

    def chosen(device: torch.device, *how: Any) -> list[Case]:
        words = ("norm", "matrix", "linear", "add", "gpt", "llama")
        return [case for case in all_cases(device, *how) if any(word in case.name for word in words)]

    monkeypatch.setattr(verb, "all_cases", chosen)


def test_training_refuses_a_device_that_computes_wrong(nobody_trusted: None, few_cases: None) -> None:
    plant = Plant("native_layer_norm_backward.default", changed(one_percent))
    with pytest.raises(DeviceComputesWrong) as caught:
        refuse_wrong_device(CPU, "float32", run=plant.run)
    said = str(caught.value)
    assert caught.value.exit_code == 3 and "\n" not in said and len(said) < 400
    assert "native_layer_norm_backward" in said and "--device cpu" in said
    refuse_wrong_device(CPU, "float32", plain=True, run=plant.run)  # the readable parts do not use it


def test_training_takes_an_honest_device(nobody_trusted: None) -> None:
    for plain in (False, True):
        assert refuse_wrong_device(CPU, "bfloat16", plain, "llama") is None


def test_training_asks_for_bfloat16_only_where_it_is_used(nobody_trusted: None, few_cases: None) -> None:
    plant = Plant("mm.default", changed(one_percent, in_bfloat16))
    assert refuse_wrong_device(CPU, "float32", run=plant.run) is None
    with pytest.raises(DeviceComputesWrong, match="in bfloat16"):
        refuse_wrong_device(CPU, "bfloat16", run=plant.run)


def no_float64(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """As on Apple's GPUs, but that `rotary_angles` does not know them. What is drawn on the CPU is in float64; what becomes
    float64 there is whole numbers: positions."""
    if kwargs.get("dtype") is torch.float64 and not args[0].is_floating_point():
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
    return func(*args, **kwargs)


def test_a_device_without_float64_computes_right_and_cannot_turn_positions(
    nobody_trusted: None, few_cases: None
) -> None:
    plant = Plant("_to_copy.default", no_float64)
    assert refuse_wrong_device(CPU, "float32", kind="gpt", run=plant.run) is None
    findings = examine(operation_cases(all_operations()) + model_cases(), CPU, torch.float32, plant.run)
    assert {f.case.name for f in findings if f.state == WRONG} == set()
    missing = {f.case.name for f in findings if f.state == NOT_OFFERED}
    assert missing >= {"rotary positions, halves", "llama, readable", "speedrun, readable"}
    assert "gpt, readable" not in missing
    with pytest.raises(DeviceComputesWrong, match="cannot compute the llama model"):
        refuse_wrong_device(CPU, "float32", kind="llama", run=plant.run)


def test_tables_and_sentences() -> None:
    def finding(name: str, state: str, error: float, dtype: torch.dtype = torch.float32) -> Finding:
        case = Case(name, "forward", lambda place: {})
        return Finding(case, CPU, dtype, state, error, 1e-5, "values", "no kernel")

    findings = [
        finding("a", OK, 0.0),
        finding("a", OK, 2e-7),
        finding("b", WRONG, 0.01),
        finding("b", NOT_OFFERED, 0.0),
    ]
    assert cell(findings[:1]) == "ok, exact" and cell(findings[:2]) == "ok 2.0e-07" and cell([]) == "-"
    assert cell(findings[2:]) == cell(findings[2:][::-1]) == "WRONG 1.0e-02"
    assert cell(findings[3:]) == cell([findings[0], findings[3]]) == "not offered"
    assert cell([finding("c", WRONG, math.inf)]) == "WRONG, no number"
    assert detail(findings[2]) == "forward: values, off by 1.0e-02, 1.0e-05 allowed"
    assert detail(findings[3]) == "forward: no kernel"
    assert detail(finding("c", WRONG, math.inf)) == "forward: values, no number, or another shape"
    lines = table([*findings, finding("a", OK, 0.0, torch.bfloat16)])
    assert [line.split()[0] for line in lines] == ["float32", "a", "b", "float32,"] and lines[2].endswith("-")
    assert lines[3].strip() == f"float32, {detail(findings[2])}"
    assert conclusion(CPU, findings, ["x.y"]).startswith("cpu computes WRONG: b (off by 1.0e-02, 1.0e-05 allowed)")
    assert as_data(finding("c", WRONG, math.inf))["error"] is None and as_data(findings[2])["error"] == 0.01
    assert "1 are not offered" in conclusion(CPU, [findings[0], findings[3]], [])


# ---- what a machine offers


def test_versions_and_number_types() -> None:
    about = versions()
    assert about["torch"] == torch.__version__ and about["python"] == sys.version.split()[0]
    assert all(about.values())
    assert offered_dtypes(CPU)["float32"] == offered_dtypes(CPU)["bool"] == "ok"


def test_a_number_type_that_is_wrong_or_refused() -> None:
    def refuse(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        raise RuntimeError("not implemented")

    with Plant("mm.default", changed(one_percent)):
        found = offered_dtypes(CPU)
    assert (found["float32"], found["int64"]) == ("WRONG", "ok")
    with Plant("mm.default", refuse):
        assert offered_dtypes(CPU)["float64"] == "not offered: not implemented"


def test_memory_of_the_machine_and_of_a_step() -> None:
    room = memory(CPU)
    if room["free"] is not None and room["total"] is not None:
        assert 2**20 < room["free"] < room["total"]
    keep_freed_memory()
    used = [
        torch.ones(2**14) for _ in range(1024)
    ]  # 64 MB in small pieces, which the process keeps when they are freed
    del used
    with peak_memory(CPU) as peak:
        kept = torch.ones(40 * 2**20, dtype=torch.uint8)
        del kept
    held = peak()
    assert held is None or 35 * 2**20 < held < 55 * 2**20
    assert line_of("/nowhere/at/all", "VmRSS") is None


def test_a_container_may_have_less_than_its_machine(tmp_path: Path) -> None:
    assert left_to_container(str(tmp_path)) is None
    (tmp_path / "memory.current").write_text("1000\n")
    for limit, left in {"max\n": None, "5000\n": 4000.0, "500\n": 0.0}.items():
        (tmp_path / "memory.max").write_text(limit)
        assert left_to_container(str(tmp_path)) == left


def test_speeds_are_measured() -> None:
    before = torch.get_rng_state()
    found = speeds(CPU, write=write)
    assert found["training tokens a second"] > 1 and found["written tokens a second"] > 1
    assert torch.equal(torch.get_rng_state(), before)  # nobody else's random numbers change


# ---- torch.compile, tried


def python(code: str) -> Callable[[str], list[str]]:
    return lambda device: [sys.executable, "-c", code]


def test_compile_that_hangs_is_stopped() -> None:
    tried = try_compile("cpu", 0.5, python("import time; time.sleep(60)"))
    assert tried.why == "it was not done after 0.5 s"


def test_compile_that_crashes_is_told() -> None:
    assert try_compile("cpu", 60, python("import os; os.abort()")).why.startswith("the process ended with code -6")
    assert "no compiler" in try_compile("cpu", 60, python("raise SystemExit('no compiler')")).why
    assert "no process" in try_compile("cpu", 60, lambda device: ["/nowhere/python"]).why


def test_compile_that_works_is_told() -> None:
    said = json.dumps({"why": "", "seconds": 2.5})
    assert try_compile("cpu", 60, python(f"print('noise'); print('{said}')")) == Tried("", 2.5)


def test_the_reason_is_that_of_the_first_error() -> None:
    try:
        try:
            raise OSError("\n  no g++ here\nmore words")
        except OSError as error:
            raise RuntimeError("backend failed") from error
    except RuntimeError as error:
        assert reason(error) == "no g++ here"
    assert reason(KeyError()) == "KeyError"


def test_what_is_compiled_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda f: f)
    assert compiling.compile_and_compare("cpu").why == ""
    monkeypatch.setattr(torch, "compile", lambda f: lambda x, w: f(x, w) * 1.001)
    assert compiling.compile_and_compare("cpu").why == "what is compiled gives other numbers"

    def no_compiler(f: Any) -> Any:
        raise RuntimeError("No working C++ compiler")

    monkeypatch.setattr(torch, "compile", no_compiler)
    assert compiling.compile_and_compare("cpu").why == "No working C++ compiler"


def test_training_falls_back_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(compiling, "fall_back_quietly", lambda: said.append("quiet"))  # it is for the whole process
    asked = TrainConfig(compile=True, minutes=30.0)
    assert with_compile(asked, "cpu", said.append, lambda device: Tried("", 1.0)) == asked and said == ["quiet"]
    said.clear()
    plain = with_compile(asked, "cpu", said.append, lambda device: Tried("no compiler", 1.0))
    assert plain == dataclasses.replace(asked, compile=False)
    assert said == ["--compile: no compiler; training goes on without it"]


def test_what_cannot_be_compiled_runs_as_written_without_a_word() -> None:
    """In a process of its own: a model whose compilation fails, and whose shape dynamo must break into pieces."""
    code = """
import torch
from minilm.training.compiling import fall_back_quietly

def no_backend(graph, inputs):
    raise RuntimeError("this graph is beyond me")

def f(x):
    return x * int(x.max())

fall_back_quietly()
print(torch.compile(f, backend=no_backend)(torch.tensor([1.0, 3.0])).tolist())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[3.0, 9.0]\n", "")


def test_a_short_run_is_not_compiled_and_nothing_is_tried() -> None:
    def never(device: str) -> Tried:
        raise AssertionError("tried")

    said: list[str] = []
    assert with_compile(TrainConfig(compile=True, minutes=2.0), "cpu", said.append, never).compile is False
    assert len(said) == 1 and "less than 5 minutes" in said[0]
    assert with_compile(TrainConfig(), "cpu", said.append, never).compile is False and len(said) == 1


@pytest.mark.nightly
def test_a_real_compiler_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nowhere/g++")
    monkeypatch.setenv("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1")
    assert "compiler" in try_compile("cpu").why


@pytest.mark.gpu
def test_a_real_gpu_is_right() -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "mps")
    assert [(f.case.name, f.case.what, f.why) for f in examination(device, short=False) if f.state == WRONG] == []

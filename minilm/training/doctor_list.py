"""The doctor's list of operations: numbers one by one, sums and products, what moves numbers, and what writes in place."""

import math
from functools import partial

import torch
from torch import Tensor

from minilm.layers.attention import merge_heads, split_heads
from minilm.layers.basic import linear
from minilm.layers.ngram_embedding import RowsOf
from minilm.training.doctor_operations import Draw, Operation

R, C = 6, 37  # rows and columns of most inputs: no multiple of a processor's vectors


def one(d: Draw) -> list[Tensor]:
    return [d.normal(R, C)]


def two(d: Draw) -> list[Tensor]:
    return [d.normal(R, C), d.normal(R, C)]


def one_positive(d: Draw) -> list[Tensor]:
    return [d.positive(R, C)]


def number_by_number() -> list[Operation]:
    """One number in, one number out."""
    return [
        Operation("add", torch.add, two),
        Operation("subtract", torch.sub, two),
        Operation("multiply", torch.mul, two),
        Operation("divide", torch.div, lambda d: [d.normal(R, C), d.positive(R, C)], slack=2.0),
        Operation("negate", torch.neg, one),
        Operation("add a row to each row", torch.add, lambda d: [d.normal(5, R, C), d.normal(C)]),
        Operation("multiply by a column", torch.mul, lambda d: [d.normal(R, C), d.normal(R, 1)]),
        Operation("add with a factor", lambda x, y: torch.add(x, y, alpha=0.375), two),
        Operation("with a number", lambda x: (1.5 - x * 0.375) / 3.0 + 0.25, one, slack=2.0),
        Operation("a number divided", lambda x: 1.75 / x, one_positive, slack=2.0),
        Operation("square", torch.square, one),
        Operation("powers of a number", lambda x: 1.75**x, one, slack=2.0),
        Operation("exp", torch.exp, one),
        Operation("log", torch.log, one_positive),
        Operation("sqrt", torch.sqrt, one_positive),
        Operation("rsqrt", torch.rsqrt, one_positive, slack=3.0),
        Operation("tanh", torch.tanh, one, slack=2.0),
        Operation("erf", torch.erf, one, slack=2.0),
        Operation("cos", torch.cos, one, slack=2.0),
        Operation("sin", torch.sin, one, slack=2.0),
        Operation("absolute", torch.abs, one),
        Operation("relu", torch.relu, one),
        Operation("at least", lambda x: x.clamp(min=0.1875), one),
        Operation("choose by a mask", torch.where, lambda d: [d.mask(R, C), d.normal(R, C), d.normal(R, C)]),
        Operation("choose a number", lambda m, x: x.where(m, 0.0), lambda d: [d.mask(R, C), d.normal(R, C)]),
        Operation("fill by a mask", lambda m, x: x.masked_fill(m, -math.inf), masked, gradient=False),
        Operation("multiply by a mask", torch.mul, lambda d: [d.normal(R, C), d.mask(R, C)]),
        Operation("interpolate", lambda x, y: x.lerp(y, 0.375), two, slack=2.0),
        Operation("convert", lambda x: x.to(torch.bfloat16).to(torch.float32), one),
        Operation("convert ids", lambda n, x: n.to(x.dtype) * x, lambda d: [d.ids(200, R, C), d.normal(R, C)]),
    ]


def masked(d: Draw) -> list[Tensor]:
    return [d.mask(R, C), d.normal(R, C)]


def in_place() -> list[Operation]:
    """Writes into memory that is there already: what optimizers and caches do. A write that goes nowhere is the worst of all."""
    write = partial(Operation, gradient=False)
    return [
        write("add in place", lambda x, y: x.add_(y), two),
        write("subtract in place", lambda x, y: x.sub_(y, alpha=0.375), two),
        write("multiply in place", lambda x: x.mul_(0.375), one),
        write("multiply in place by a tensor", lambda x, y: x.mul_(y), two),
        write("divide in place", lambda x: x.div_(1.75), one),
        write("divide in place by a tensor", lambda x, y: x.div_(y), lambda d: [d.normal(R, C), d.positive(R, 1)]),
        write("divide into", lambda x, y: torch.div(x, y, out=y), lambda d: [d.normal(R, C), d.positive(R, C)]),
        write("interpolate in place", lambda x, y: x.lerp_(y, 0.375), two, slack=2.0),
        write(
            "add a product in place",
            lambda x, y, z: x.addcmul_(y, z, value=0.375),
            lambda d: [*two(d), d.normal(R, C)],
            slack=2.0,
        ),
        write("sqrt in place", lambda x: x.sqrt_(), one_positive),
        write("exp in place", lambda x: x.exp_(), one),
        write("at least in place", lambda x: x.clamp_(min=0.1875), one),
        write("several in place", lambda x, y: scale_both(x, y), two),
        write("set to zero", lambda x: torch.cat([x, x.clone().zero_()]), one),
        write("copy in place", lambda x, y: x.copy_(y), two),
        write("write a slice", write_slice, lambda d: [d.normal(4, R, C), d.normal(4, 2, C)]),
        write("write through a transposed view", write_through, two),
        write("write rows by number", write_rows, lambda d: [d.normal(3, 2, 9, 5), d.normal(3, 4, 2, 5), d.ids(5, 3)]),
        write("scatter", scatter, lambda d: [d.normal(R, C), d.ids(C, R, 1), d.normal(R, 1)]),
        write("scatter_add", scatter_add, lambda d: [d.normal(R, C), d.ids(C, R, 9), d.normal(R, 9)], slack=2.0),
        write("index_add", index_add, lambda d: [d.normal(11, C), d.ids(11, 23), d.normal(23, C)], slack=8.0),
        write("index_put, added up", index_put, lambda d: [d.normal(11, C), d.ids(11, 23), d.normal(23, C)], slack=8.0),
        write("add a matrix product in place", lambda x, a, b: x.addmm_(a, b), three_matrices, slack=2.0),
    ]


def scale_both(x: Tensor, y: Tensor) -> Tensor:
    torch._foreach_mul_([x, y], 0.375)
    return torch.cat([x, y])


def write_slice(store: Tensor, new: Tensor) -> Tensor:
    store[:, 1:3] = new
    return store


def write_through(x: Tensor, y: Tensor) -> Tensor:
    x.mT[1:].add_(y.mT[:-1])
    return x


def write_rows(store: Tensor, new: Tensor, lengths: Tensor) -> Tensor:
    """As a cache does, whose rows have different lengths: store (B, G, S, K), new (B, T, G, K) behind each length."""
    rows = torch.arange(len(store), device=store.device)[:, None]
    store[rows, :, lengths[:, None] + torch.arange(new.shape[1], device=store.device)] = new
    return store


def scatter(x: Tensor, ids: Tensor, values: Tensor) -> Tensor:
    return x.scatter_(-1, ids, values)


def scatter_add(x: Tensor, ids: Tensor, values: Tensor) -> Tensor:
    return x.scatter_add_(-1, ids, values)


def index_add(table: Tensor, ids: Tensor, rows: Tensor) -> Tensor:
    return table.index_add_(0, ids, rows, alpha=-0.375)


def index_put(table: Tensor, ids: Tensor, rows: Tensor) -> Tensor:
    return table.index_put_((ids,), rows, accumulate=True)


def three_matrices(d: Draw) -> list[Tensor]:
    return [d.normal(R, C), d.normal(R, 11), d.normal(11, C)]


def sums_and_products() -> list[Operation]:
    """Many numbers in, one number out."""
    return [
        Operation("sum of a row", lambda x: x.sum(-1), one),
        Operation("sum of all", lambda x: x.sum(), one_positive),
        Operation("sum of many", lambda x: x.sum(), lambda d: [d.positive(50_021)]),
        Operation("mean of a row", lambda x: x.mean(-1, keepdim=True), one),
        Operation("mean of a column", lambda x: x.mean(-2), one),
        Operation("largest of a row", lambda x: x.amax(-1), one),
        Operation("length of a vector", torch.linalg.vector_norm, one),
        Operation("length of a matrix", lambda x: x.norm(), one),
        Operation("matrix product", torch.matmul, lambda d: [d.normal(R, C), d.normal(C, 11)]),
        Operation("matrix product, larger", torch.matmul, lambda d: [d.normal(67, 161), d.normal(161, 129)]),
        Operation("matrix times vector", torch.matmul, lambda d: [d.normal(R, C), d.normal(C)]),
        Operation(
            "matrix products side by side", torch.matmul, lambda d: [d.normal(2, 3, R, C), d.normal(2, 3, C, 11)]
        ),
        Operation("linear", linear, lambda d: [d.normal(2, R, C), d.normal(11, C), d.normal(11)], slack=2.0),
        Operation(
            "matrix product and sum", lambda x, a, b: torch.addmm(x, a, b, alpha=0.375), three_matrices, slack=2.0
        ),
    ]


def moving() -> list[Operation]:
    """Numbers go elsewhere, and none may change."""
    return [
        Operation(
            "rows of a table", lambda table, ids: table[ids], lambda d: [d.normal(11, C), d.ids(11, 4, 9)], slack=8.0
        ),
        Operation("sparse gradient", RowsOf.apply, lambda d: [d.normal(11, C), d.ids(11, 4, 9)], slack=8.0),
        Operation("gather", lambda x, ids: x.gather(-1, ids), lambda d: [d.normal(R, C), d.ids(C, R, 3)], slack=2.0),
        Operation(
            "index_select", lambda x, ids: x.index_select(0, ids), lambda d: [d.normal(11, C), d.ids(11, 9)], slack=4.0
        ),
        Operation("join", lambda x, y: torch.cat([x, y], dim=-1), two),
        Operation("stack", lambda x, y: torch.stack([x, y], dim=-1).flatten(-2), two),
        Operation("cut in three", lambda x: torch.cat(x.chunk(3, dim=-1)[::-1], dim=-1), one),
        Operation("every second", lambda x: x[..., 0::2] * 2.0, one),
        Operation(
            "split and merge heads", lambda x: merge_heads(split_heads(x, 4).flip(1)), lambda d: [d.normal(2, R, 28)]
        ),
        Operation("repeat heads", lambda x: x.repeat_interleave(3, dim=1), lambda d: [d.normal(2, 2, R, 5)], slack=2.0),
        Operation("expand", lambda x: x.expand(4, R, C).contiguous(), one, slack=2.0),
        Operation("roll", lambda x: x.roll(5, dims=-1), one),
    ]

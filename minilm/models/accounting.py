"""What a model costs, from its config alone: parameters, FLOPs, bytes. Plain arithmetic, no torch, nothing is built.

A model is a list of bricks, in the order in which a token meets them; each says what one copy of it holds, computes and
keeps. The rules are few:

    parameters    a linear layer I -> O has I O weights, and O more with a bias
    FLOPs         it multiplies and adds I O times for each token: 2 I O; the backward pass needs two such products, one
                  for the gradient of the input and one for that of the weights, so it costs twice the forward pass
    activations   what the forward pass must keep until the backward pass has read it: of a product both factors, of exp
                  and tanh the result, of a sum nothing

Only products of matrices are counted as FLOPs: their work grows with the square of the width, all other work with the
width, so that in wide models it hardly matters.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from minilm.models.config import GPTConfig, SpeedrunConfig

BYTES = {"float32": 4, "bfloat16": 2}  # of one number
INDEX = 8  # bytes of a token id or a position in memory (int64)
# How many arrays as wide as the MLP are kept for the activation function, besides the result, which the next layer keeps.
KEPT_BY_ACTIVATION = {"gelu_tanh": 6, "gelu": 3, "swiglu": 5, "relu2": 1}


@dataclass(frozen=True)
class Brick:
    """One kind of part, named as in the model. The numbers are those of one copy; a model has `copies` of it."""

    name: str
    weight: tuple[int, ...]  # shape of its matrix or scale; () if it has none
    output: tuple[int, ...]  # shape of what it computes for the batch
    parameters: int
    flops: int  # forward, for one token
    activations: int  # bytes kept for the backward pass, for the batch
    copies: int = 1


@dataclass(frozen=True)
class Account:
    """A model's bricks and their sums, for batches of batch_size sequences of context_length tokens in one number type.

    The weights and all that is computed have this type (but the loss is in float32). Bytes of training: `weights`,
    `gradients`, `optimizer` (AdamW) and `activations` together.
    """

    kind: str
    dtype: str
    batch_size: int
    context_length: int
    bricks: tuple[Brick, ...]
    parameters: int
    flops_forward: int  # for one token, as the mean over a full context
    flops_forward_backward: int
    weights: int  # this and what follows: bytes
    gradients: int
    optimizer: int
    activations: int
    kv_cache: int  # for one token of one sequence

    @property
    def training(self) -> int:
        """Bytes that one step of training needs."""
        return self.weights + self.gradients + self.optimizer + self.activations


@dataclass(frozen=True)
class Batch:
    """B sequences of T tokens, in numbers of `width` bytes."""

    B: int
    T: int
    width: int

    @property
    def tokens(self) -> int:
        return self.B * self.T

    def numbers(self, per_token: int) -> int:
        """Bytes of an array with so many numbers for each token."""
        return self.tokens * per_token * self.width


def account(
    config: GPTConfig | SpeedrunConfig, batch_size: int = 1, length: int | None = None, dtype: str = "float32"
) -> Account:
    """What a model of this config costs with batches of batch_size x length tokens (default: its context length).

    The kept activations are those of the readable attention, with gradients for all weights. Of a table of n-grams only the
    rows that a batch reads get gradients, so that training needs less than its size.

    >>> account(GPTConfig(vocab_size=50257, context_length=1024, d_model=768, n_layers=12, n_heads=12)).parameters
    124439808

    ValueError for a size or a number type out of range, and for a config that is of no transformer.
    """
    if not isinstance(config, GPTConfig | SpeedrunConfig):
        raise ValueError(f"a {type(config).__name__} is of no transformer: describe a gpt or a speedrun model")
    length = config.context_length if length is None else length
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: it must be at least 1")
    if not 1 <= length <= config.context_length:
        raise ValueError(f"a length of {length} tokens: the model reads 1 to {config.context_length} (context_length)")
    if dtype not in BYTES:
        raise ValueError(f"dtype is {dtype!r}: choose one of {', '.join(BYTES)}")
    batch = Batch(batch_size, length, BYTES[dtype])
    if isinstance(config, GPTConfig):
        kind, bricks = "gpt", gpt_bricks(config, batch)
        cached = 2 * config.n_layers * config.kv_heads * config.d_head * batch.width  # keys and values
    else:
        kind, bricks = "speedrun", speedrun_bricks(config, batch)
        cached = 2 * config.n_layers * config.d_model * batch.width + INDEX  # and the token, for the token shift
    parameters, forward = total(bricks, "parameters"), total(bricks, "flops")
    return Account(
        kind=kind,
        dtype=dtype,
        batch_size=batch_size,
        context_length=length,
        bricks=tuple(bricks),
        parameters=parameters,
        flops_forward=forward,
        flops_forward_backward=3 * forward,
        weights=parameters * batch.width,
        gradients=parameters * batch.width,
        # Two running means in float32; of smaller weights also a float32 copy, in which small steps add up.
        optimizer=parameters * BYTES["float32"] * (2 if dtype == "float32" else 3),
        activations=total(bricks, "activations"),
        kv_cache=cached,
    )


def total(bricks: Iterable[Brick], what: str) -> int:
    """The sum of "parameters", "flops" or "activations" over all copies of all bricks."""
    return sum(getattr(brick, what) * brick.copies for brick in bricks)


def gpt_bricks(config: GPTConfig, batch: Batch) -> list[Brick]:
    """The bricks of `minilm.models.gpt.GPT`, from the ids to the loss."""
    D, V, L, N = config.d_model, config.vocab_size, config.n_layers, batch.tokens
    bricks = [table("embedding", V, D, batch, kept=INDEX * N)]
    if config.rope_theta is None:
        bricks.append(table("positions", config.context_length, D, batch, kept=INDEX * batch.T))
    if config.dropout:
        bricks.append(dropout("dropout", D, batch))
    bricks += gpt_attention(config, batch)
    bricks += gpt_mlp(config, batch)
    if config.dropout:
        bricks.append(dropout("blocks.dropout", D, batch, copies=2 * L))
    bricks.append(norm("norm", config, batch))
    head = linear("lm_head", D, V, False, batch, kept=batch.numbers(D))
    if config.tie_embeddings:
        head = replace(head, parameters=0)  # its matrix is the embedding
    return [*bricks, head, loss(V, batch)]


def gpt_attention(config: GPTConfig, batch: Batch) -> list[Brick]:
    """The first half of a block: a norm, queries, keys and values, the attention itself, the output projection."""
    D, K, L, bias = config.d_model, config.d_head, config.n_layers, config.bias
    kept = batch.numbers(D)
    tables = 0 if config.rope_theta is None else rotary_tables(K, batch)
    return [
        norm("blocks.attention_norm", config, batch, L),
        linear("blocks.attention.q", D, D, bias, batch, kept, L),  # q, k and v read, and keep, the same array
        linear("blocks.attention.k", D, config.kv_heads * K, bias, batch, 0, L),
        linear("blocks.attention.v", D, config.kv_heads * K, bias, batch, 0, L),
        scores("blocks.attention.scores", config.n_heads, D, batch, tables, L),
        linear("blocks.attention.out", D, D, bias, batch, kept, L),
    ]


def gpt_mlp(config: GPTConfig, batch: Batch) -> list[Brick]:
    """The second half of a block: a norm, one or two matrices up, the activation function, one matrix down."""
    D, F, L, bias = config.d_model, config.d_ff or 4 * config.d_model, config.n_layers, config.bias
    gate = [linear("blocks.mlp.gate", D, F, bias, batch, 0, L)] if config.mlp == "swiglu" else []
    return [
        norm("blocks.mlp_norm", config, batch, L),
        *gate,
        linear("blocks.mlp.up", D, F, bias, batch, batch.numbers(D), L),
        activation("blocks.mlp.activation", config.mlp, F, batch, L),
        linear("blocks.mlp.down", F, D, bias, batch, batch.numbers(F), L),
    ]


def speedrun_bricks(config: SpeedrunConfig, batch: Batch) -> list[Brick]:
    """The bricks of `minilm.models.speedrun_gpt.SpeedrunGPT`: norms without weights, QK-norm, ReLU squared, no biases."""
    D, H, V, L, N = config.d_model, config.n_heads, config.vocab_size, config.n_layers, batch.tokens
    kept, bare = batch.numbers(D), batch.numbers(D + 1)  # a norm without weights keeps its input and one number a token
    # QK-norm keeps the array that holds q, k and v together, and one number for each head of q and of k.
    extra = batch.numbers(3 * D + 2 * H) + rotary_tables(D // H, batch)
    shifted = [table("embeddings.shift", V, D, batch, (INDEX + 1) * N, config.n_shift)] if config.n_shift > 0 else []
    # An n-gram's row in the table, and the number with which dropout multiplies it, in float32 always.
    an_ngram = (INDEX + BYTES["float32"]) * N
    R, lengths = config.ngram_rows, config.max_ngram - 1
    return [
        table(
            "embeddings", V, D, batch, kept=INDEX * N * max(config.n_shift + 1, config.max_ngram)
        ),  # all that looks back
        *shifted,
        *([table("ngrams", R, D, batch, kept=an_ngram * lengths)] if lengths else []),
        Brick("first_norm", (), (batch.B, batch.T, D), 0, 0, bare),
        Brick("blocks.attention_norm", (), (batch.B, batch.T, D), 0, 0, bare, L),
        linear("blocks.qkv", D, 3 * D, False, batch, kept, L),
        scores("blocks.scores", H, D, batch, extra, L),
        linear("blocks.out", D, D, False, batch, kept, L),
        Brick("blocks.mlp_norm", (), (batch.B, batch.T, D), 0, 0, bare, L),
        linear("blocks.up", D, 4 * D, False, batch, kept, L),
        activation("blocks.activation", "relu2", 4 * D, batch, L),
        linear("blocks.down", 4 * D, D, False, batch, 4 * kept, L),
        Brick("norm", (), (batch.B, batch.T, D), 0, 0, bare),
        linear("lm_head", D, V, False, batch, kept),
        loss(V, batch),
    ]


# ---- the bricks, one by one: `kept` is in bytes


def table(name: str, rows: int, D: int, batch: Batch, kept: int, copies: int = 1) -> Brick:
    """A table of vectors, a row of which is looked up: no FLOPs. It keeps which rows were asked for."""
    return Brick(name, (rows, D), (batch.B, batch.T, D), rows * D, 0, kept, copies)


def linear(name: str, d_in: int, d_out: int, bias: bool, batch: Batch, kept: int, copies: int = 1) -> Brick:
    """I -> O by a matrix (O, I). It keeps its input, unless a neighbour that reads the same has it already."""
    parameters = d_in * d_out + (d_out if bias else 0)
    return Brick(name, (d_out, d_in), (batch.B, batch.T, d_out), parameters, 2 * d_in * d_out, kept, copies)


def norm(name: str, config: GPTConfig, batch: Batch, copies: int = 1) -> Brick:
    """LayerNorm or RMSNorm: keeps what it normalises, the normalised (before the scale), and one number a token."""
    D = config.d_model
    parameters = 2 * D if config.norm == "layer" and config.bias else D
    return Brick(name, (D,), (batch.B, batch.T, D), parameters, 0, batch.numbers(2 * D + 1), copies)


def scores(name: str, H: int, D: int, batch: Batch, more: int, copies: int) -> Brick:
    """softmax(q k^T) v, which grows with T squared: two products of 2 T D FLOPs a token, for the masked pairs too.

    Keeps q, k and v as the heads read them, the exponentials and the probabilities (B, H, T, T), the sums of the rows, and
    the mask with one bit in a byte; `more` is what else is kept of q and k.
    """
    T = batch.T
    kept = batch.numbers(3 * D + H * (2 * T + 1)) + T * T + T + more
    return Brick(name, (), (batch.B, H, T, T), 0, 4 * T * D, kept, copies)


def rotary_tables(K: int, batch: Batch) -> int:
    """Bytes of the cosines and sines (T, K / 2) that the turned queries keep, and the turned keys once more."""
    return 4 * batch.T * (K // 2) * batch.width


def activation(name: str, how: str, F: int, batch: Batch, copies: int) -> Brick:
    """What the MLP bends by. Written out step by step, it keeps each step that the derivative needs."""
    return Brick(name, (), (batch.B, batch.T, F), 0, 0, KEPT_BY_ACTIVATION[how] * batch.numbers(F), copies)


def dropout(name: str, D: int, batch: Batch, copies: int = 1) -> Brick:
    """Keeps which numbers were dropped, a byte each."""
    return Brick(name, (), (batch.B, batch.T, D), 0, 0, batch.tokens * D, copies)


def loss(V: int, batch: Batch) -> Brick:
    """The cross-entropy, in float32 always: keeps exponentials and log-probabilities (B, T, V) and some numbers a token."""
    a_token = 2 * V * BYTES["float32"] + BYTES["float32"] + INDEX + 1  # and the sum, the target, whether it counts
    return Brick("loss", (), (), 0, 0, batch.tokens * a_token + INDEX)

"""Mistakes put into the program on purpose, one at a time: each has to make a test fail.

    python tests/mutations.py                     all of them, with a line for each; at the end the survivors
    python tests/mutations.py "no scale" ...      those of these names

Those of models, their layers and byhand/ stand here, the others in mutations_cli.py, mutations_decoding.py,
mutations_distributed.py, mutations_doctor.py, mutations_storage.py, mutations_recurrent.py, mutations_search.py,
mutations_scaling.py, mutations_training.py and mutations_finetuning.py. A mistake is put into a copy of the package in a
temporary folder, where a few tests run against it. A survivor is a gap in the tests, or no mistake at all: then it does not
belong here.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from mutations_classical import CLASSICAL
from mutations_cli import CLI
from mutations_decoding import DECODING
from mutations_distributed import DISTRIBUTED
from mutations_doctor import DOCTOR
from mutations_finetuning import FINETUNING
from mutations_recurrent import RECURRENT
from mutations_scaling import SCALING
from mutations_search import SEARCH
from mutations_storage import STORAGE
from mutations_training import TRAINING

ROOT = Path(__file__).resolve().parents[1]


class Mutation(NamedTuple):
    """In `file` the text `old`, which stands there once, becomes `new`; one of `tests` has to fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


# file -> the tests that have to notice, and the mistakes: (name, old text, new text)
TABLE: dict[str, tuple[str, list[tuple[str, str, str]]]] = {
    "minilm/layers/basic.py": (
        "test_layers.py test_mutation_gaps.py test_references.py::test_dropout_decides_for_each_number_alone",
        [
            (
                "softmax: sum over the wrong axis",
                "exponentials.sum(dim, keepdim=True)",
                "exponentials.sum(0, keepdim=True)",
            ),
            ("softmax: maximum not subtracted", "torch.exp(x - x.detach().amax(dim, keepdim=True))", "torch.exp(x)"),
            ("softmax: smallest subtracted", "torch.exp(x - x.detach().amax(", "torch.exp(x - x.detach().amin("),
            ("log_softmax: log forgotten", "torch.log(torch.exp(shifted).sum(", "(torch.exp(shifted).sum("),
            ("log_softmax: maximum not subtracted", "shifted = x - x.detach().amax(dim, keepdim=True)", "shifted = x"),
            ("sigmoid: slope of tanh", "torch.tanh(0.5 * x)", "torch.tanh(x)"),
            ("relu: clamped at one", "torch.relu(x)", "torch.relu(x).clamp(max=1)"),
            ("silu: without x", "return x * sigmoid(x)", "return sigmoid(x)"),
            ("gelu: without the root of 2", "torch.erf(x / math.sqrt(2.0))", "torch.erf(x / 2.0)"),
            ("gelu_tanh: square for cube", "0.044715 * x * x * x)", "0.044715 * x * x)"),
            ("gelu_tanh: a digit of the constant", "0.044715", "0.04715"),
            ("layer_norm: mean not subtracted", "centred = x - x.mean(-1, keepdim=True)", "centred = x"),
            (
                "layer_norm: unbiased variance",
                "variance = (centred * centred).mean(-1, keepdim=True)",
                "variance = x.var(-1, keepdim=True)",
            ),
            ("layer_norm: eps outside the root", "torch.rsqrt(variance + eps)", "1 / (variance.sqrt() + eps)"),
            ("layer_norm: shift dropped", "normalised if bias is None else normalised + bias", "normalised"),
            ("layer_norm: scale dropped", "torch.rsqrt(variance + eps) * weight", "torch.rsqrt(variance + eps)"),
            ("rms_norm: sum for mean", "torch.rsqrt((x * x).mean(", "torch.rsqrt((x * x).sum("),
            ("rms_norm: eps dropped", "(x * x).mean(-1, keepdim=True) + eps", "(x * x).mean(-1, keepdim=True)"),
            ("rms_norm: mean over tokens", "(x * x).mean(-1,", "(x * x).mean(0,"),
            ("dropout: not scaled", "x * keep / (1.0 - p)", "x * keep"),
            ("dropout: p and 1 - p swapped", "device=x.device) >= p", "device=x.device) < p"),
            ("dropout: one coin for a column", "torch.rand(x.shape, ", "torch.rand(x.shape[-1:], "),
            ("dropout: one coin for a row", "torch.rand(x.shape, ", "torch.rand((*x.shape[:-1], 1), "),
            ("dropout: active in evaluation", "if not training or p == 0.0:", "if p == 0.0:"),
            ("linear: shift subtracted", "y if bias is None else y + bias", "y if bias is None else y - bias"),
            ("Linear: starts too wide", "torch.randn(d_out, d_in) * std", "torch.randn(d_out, d_in)"),
            ("Linear: std squared", "torch.randn(d_out, d_in) * std", "torch.randn(d_out, d_in) * std * std"),
            ("Linear: shift starts at one", "torch.zeros(d_out)", "torch.ones(d_out)"),
            ("Embedding: off by one", "self.weight[ids]", "self.weight[ids - 1]"),
            ("LayerNorm: its eps ignored", "self.weight, self.bias, self.eps)", "self.weight, self.bias)"),
            ("RMSNorm: its eps ignored", "rms_norm(x, self.weight, self.eps)", "rms_norm(x, self.weight)"),
            ("Dropout: always on", "dropout(x, self.p, self.training)", "dropout(x, self.p, True)"),
        ],
    ),
    "minilm/layers/attention.py": (
        "test_attention.py test_gpt.py::test_cached_is_uncached_for_every_prompt_and_chunk "
        "test_numpy_gpt.py::test_logits_and_gradients_are_those_of_torch",
        [
            ("no scale", "q @ k.mT / math.sqrt(q.shape[-1])", "q @ k.mT"),
            ("scale by K", "math.sqrt(q.shape[-1])", "q.shape[-1]"),
            ("scale by the number of queries", "math.sqrt(q.shape[-1])", "math.sqrt(q.shape[-2])"),
            ("mask flipped", "masked_fill(~mask & visible", "masked_fill(mask & visible"),
            ("mask adds nothing", "masked_fill(~mask & visible, -math.inf)", "masked_fill(~mask & visible, 0.0)"),
            ("mask of minus ten", "masked_fill(~mask & visible, -math.inf)", "masked_fill(~mask & visible, -10.0)"),
            ("empty row is the mean", "(softmax(scores, dim=-1) * visible) @ v", "softmax(scores, dim=-1) @ v"),
            ("empty row is NaN", "masked_fill(~mask & visible", "masked_fill(~mask"),
            ("softmax over the queries", "softmax(scores, dim=-1) @ v", "softmax(scores, dim=-2) @ v"),
            (
                "GQA tiles instead of repeating",
                "x.repeat_interleave(n_heads // x.shape[1], dim=1)",
                "x.repeat(1, n_heads // x.shape[1], 1, 1)",
            ),
            (
                "heads cut the wrong way",
                "x.reshape(B, T, n_heads, D // n_heads).transpose(1, 2)",
                "x.reshape(B, T, D // n_heads, n_heads).permute(0, 3, 1, 2)",
            ),
            ("heads cut across tokens", "D // n_heads).transpose(1, 2)", "D // n_heads).reshape(B, n_heads, T, -1)"),
            ("heads not brought back", "x.transpose(1, 2).reshape(B, T, H * K)", "x.reshape(B, T, H * K)"),
            ("heads merged in reverse", "x.transpose(1, 2).reshape(B, T", "x.flip(1).transpose(1, 2).reshape(B, T"),
            ("key and value swapped", "self.attention(q, k, v, mask)", "self.attention(q, v, k, mask)"),
            ("module forgets the mask", "self.attention(q, k, v, mask)", "self.attention(q, k, v, None)"),
            ("no output projection", "self.out(merge_heads(", "(merge_heads("),
            ("only queries turned", "q, k = rotate(q), rotate(k)", "q = rotate(q)"),
            ("cache of layer 0 only", "cache.append(layer, k, v)", "cache.append(0, k, v)"),
        ],
    ),
    "minilm/layers/kv_cache.py": (
        "test_attention.py",
        [
            (
                "cache: written one too far",
                "store[:, :, longest : longest + n_new]",
                "store[:, :, longest + 1 : longest + n_new + 1]",
            ),
            ("cache: written to the start", "store[:, :, longest : longest + n_new]", "store[:, :, :n_new]"),
            ("cache: ragged rows written alike", "if bool((self.lengths == longest).all()):", "if longest:"),
            ("cache: values kept as keys", "(self.values[layer], v))", "(self.values[layer], k))"),
            (
                "cache: the present not returned",
                "self.keys[layer][:, :, : longest + n_new],",
                "self.keys[layer][:, :, :longest],",
            ),
            (
                "cache: positions off by one",
                "self.lengths[:, None] + torch.arange(n_new)",
                "self.lengths[:, None] + torch.arange(1, n_new + 1)",
            ),
            ("cache: advance counts one", "self.lengths = self.lengths + n_new", "self.lengths = self.lengths + 1"),
            ("cache: rollback goes on", "self.lengths = shortened(self.lengths, n)", "self.lengths = self.lengths + n"),
            ("cache: rollback below zero", "(left < 0) | (left > lengths)", "left > lengths"),
            (
                "cache: select leaves the lengths",
                "self.lengths = self.lengths[rows.cpu()]",
                "self.lengths = self.lengths[: len(rows)]",
            ),
            (
                "cache: select leaves the values",
                "[v[rows] for v in self.values]",
                "[v[: len(rows)] for v in self.values]",
            ),
            ("cache: fork shares the keys", "[k.clone() for k in self.keys]", "list(self.keys)"),
            ("cache: fork shares the values", "[v.clone() for v in self.values]", "list(self.values)"),
            ("cache: room for one more", "+ n_new > self.max_length", "+ n_new > self.max_length + 1"),
        ],
    ),
    "minilm/layers/masks.py": (
        "test_masks.py",
        [
            ("causal: strictly before", "device=device)[None, :] <= query", "device=device)[None, :] < query"),
            ("causal: looks ahead", "device=device)[None, :] <= query", "device=device)[None, :] >= query"),
            ("causal: one token ahead", "device=device)[None, :] <= query", "device=device)[None, :] <= query + 1"),
            (
                "causal: aligned upper left",
                'got {n_keys}")\n    query = torch.arange(n_keys - n_queries, n_keys,',
                'got {n_keys}")\n    query = torch.arange(n_queries,',
            ),
            ("position_mask: strictly before", "keys <= positions[", "keys < positions["),
            ("ragged rows get one mask", "if bool((past == longest).all()):", "if True:"),
            ("positions from one", "past[:, None] + torch.arange(n_new)", "past[:, None] + torch.arange(n_new) + 1"),
            ("padding: one key too many", "device=lengths.device) < lengths[", "device=lengths.device) <= lengths["),
            (
                "window: one key too many",
                "device=device)[None, :] > query - window",
                "device=device)[None, :] >= query - window",
            ),
            (
                "documents: all see all but their own",
                "documents[:, :, None] == documents",
                "documents[:, :, None] != documents",
            ),
            (
                "documents: later ones see the earlier",
                "documents[:, :, None] == documents",
                "documents[:, :, None] >= documents",
            ),
            ("prefix: hides instead of showing", "causal.shape[-1]) | causal", "causal.shape[-1]) & causal"),
            ("last_visible: counts from the start", "mask.flip(-1).cumsum(-1).flip(-1)", "mask.cumsum(-1)"),
            ("last_visible: one too few", "from_here_on <= window", "from_here_on < window"),
            ("last_visible: brings hidden keys back", "return mask & (from_here_on", "return (from_here_on"),
        ],
    ),
    "minilm/layers/positions.py": (
        "test_layers.py test_positions_whole.py",
        [
            ("sinusoidal: sine and cosine swapped", "[angles.sin(), angles.cos()]", "[angles.cos(), angles.sin()]"),
            (
                "sinusoidal: in halves",
                "torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)",
                "torch.cat([angles.sin(), angles.cos()], dim=-1)",
            ),
            ("rotary: growing frequencies", "theta**-exponents", "theta**exponents"),
            (
                "rotary: exponent over K/2",
                "device=exact) / d_head",
                "device=exact) / (d_head // 2)",
            ),
            ("rotary: exponents i for 2i", "torch.arange(0, d_head, 2, dtype", "torch.arange(d_head // 2, dtype"),
            (
                "rotary: angles in half the precision",
                "positions.to(exact).double()[..., None]",
                "positions.to(exact).float()[..., None].float()",
            ),
            (
                "rotary halves: turned backwards",
                "torch.cat([a * cos - b * sin, b * cos + a * sin]",
                "torch.cat([a * cos + b * sin, b * cos - a * sin]",
            ),
            (
                "rotary halves: a reflection",
                "torch.cat([a * cos - b * sin, b * cos + a * sin]",
                "torch.cat([a * cos - b * sin, b * cos - a * sin]",
            ),
            (
                "rotary pairs: glued in halves",
                "torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2)",
                "torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)",
            ),
            ("rotary pairs: halves read", "x[..., 0::2], x[..., 1::2]", "*x.chunk(2, dim=-1),"),
            ("rows: to the same layout", "swap_pairs(rows, n_heads, 2, -1)", "swap_pairs(rows, n_heads, -1, 2)"),
            (
                "rows: heads ignored",
                "rows.reshape(n_heads, *shape, *rows.shape[1:])",
                "rows.reshape(1, *shape, *rows.shape[1:])",
            ),
            ("interpolation: the wrong way", "d_head, theta) / factor", "d_head, theta) * factor"),
            (
                "interpolation: whole positions",
                "rotary_angles(positions, d_head, theta) / factor",
                "rotary_angles(positions // factor, d_head, theta)",
            ),
            ("silence: still trained", "table.weight.requires_grad_(False)", "table.weight.requires_grad_(True)"),
        ],
    ),
    "minilm/layers/blocks.py": (
        "test_numpy_gpt.py test_references.py::test_a_block_is_an_encoder_layer_with_the_norms_first "
        "test_blocks.py::test_on_numbers test_blocks.py::test_it_is_torchs_encoder_layer",
        [
            ("MLP: no activation", "self.down(self.activation(self.up(x)))", "self.down(self.up(x))"),
            ("SwiGLU: the other half is bent", "silu(gate(x)) * up(x)", "gate(x) * silu(up(x))"),
            ("SwiGLU: sum for product", "silu(gate(x)) * up(x)", "silu(gate(x)) + up(x)"),
            (
                "block: attention replaces the stream",
                "x = x + attention(attention_norm(x))",
                "x = attention(attention_norm(x))",
            ),
            ("block: MLP replaces the stream", "return x + mlp(mlp_norm(x))", "return mlp(mlp_norm(x))"),
            ("block: norms swapped", "mlp(mlp_norm(x))", "mlp(attention_norm(x))"),
            ("block: attention reads without norm", "attention(attention_norm(x))", "attention(x)"),
            ("block: no positions", "mask, rotate, cache, layer))", "mask, None, cache, layer))"),
            ("block: dropout in one half only", "self.dropout(self.mlp(x))", "self.mlp(x)"),
            ("block: always the same wiring", "return self.wiring(x,", "return pre_norm(x,"),
        ],
    ),
    "minilm/layers/ngram_embedding.py": (
        "test_ngram_embedding.py",
        [
            (
                "n-grams: first token forgotten",
                "rows, hashed = [], tokens[..., 0]",
                "rows, hashed = [], 0 * tokens[..., 0]",
            ),
            ("n-grams: order of tokens ignored", "(hashed * 1_000_003 + tokens", "(hashed + tokens"),
            ("n-grams: bits not mixed", "(hashed ^ (hashed >> 15)) % n_rows", "hashed % 64 % n_rows"),
            (
                "n-grams: only the longest",
                "range(1, tokens.shape[-1])",
                "range(tokens.shape[-1] - 1, tokens.shape[-1])",
            ),
            (
                "n-grams: gradient of the wrong rows",
                "rows.reshape(1, -1), values",
                "rows.flip(0).reshape(1, -1), values",
            ),
            ("n-grams: starts speaking", "torch.zeros(n_rows, d_model)", "torch.ones(n_rows, d_model)"),
            ("n-grams: dropped at evaluation, too", "self.dropout, self.training)", "self.dropout, True)"),
            ("n-grams: mean for sum", "share[..., None]).sum(-2)", "share[..., None]).mean(-2)"),
        ],
    ),
    "minilm/layers/wirings.py": (
        "test_blocks.py::test_on_numbers test_blocks.py::test_it_is_torchs_encoder_layer "
        "test_blocks.py::test_parallel_is_a_loop_over_tokens",
        [
            (
                "post-norm: what is added is normalised",
                "attention_norm(x + attention(x))",
                "x + attention_norm(attention(x))",
            ),
            ("post-norm: the sum of the MLP is not normalised", "mlp_norm(x + mlp(x))", "x + mlp(x)"),
            ("post-norm: one norm for both", "x = attention_norm(", "x = mlp_norm("),
            ("post-norm: attention replaces the stream", "(x + attention(x))", "(attention(x))"),
            (
                "post-norm: the stream past the norm",
                "x = attention_norm(x + attention(x))\n    return mlp_norm(x + mlp(x))",
                "x = x + attention(x)\n    return mlp_norm(x + mlp(attention_norm(x)))",
            ),
            (
                "parallel: one after the other",
                "return x + attention(attention_norm(x)) + mlp",
                "x = x + attention(attention_norm(x))\n    return x + mlp",
            ),
            ("parallel: the norm of attention for both", "mlp(mlp_norm(x))", "mlp(attention_norm(x))"),
            ("parallel: the stream twice", "return x + attention(", "return x + x + attention("),
        ],
    ),
    "minilm/layers/mixture_of_experts.py": (
        "test_mixture_of_experts.py::test_output_balance_and_gradients "
        "test_mixture_of_experts.py::test_ties_go_to_the_lower_number "
        "test_mixture_of_experts.py::test_the_balance_of_each_accumulated_batch_counts "
        "test_mixture_of_experts.py::test_a_balance_is_taken_once",
        [
            ("experts: the worst are chosen", "dim=-1, descending=True", "dim=-1, descending=False"),
            (
                "experts: one fewer is chosen",
                "scores[..., :k], order[..., :k]",
                "scores[..., : k - 1], order[..., : k - 1]",
            ),
            (
                "route: the rest is not shared out",
                "return softmax(scores), chosen",
                "return softmax(logits).gather(-1, chosen), chosen",
            ),
            (
                "route by probability: the rest is shared out",
                "return softmax(logits).gather(-1, chosen), chosen",
                "return softmax(logits.gather(-1, chosen)), chosen",
            ),
            ("balance: without the number of experts", "return n_experts * (", "return ("),
            ("balance: shares of tokens for shares of choices", "/ chosen.numel()", "/ len(chosen)"),
            ("balance: probabilities of the first token", "n_experts).mean(0)", "n_experts)[0]"),
            ("balance: of scores", "balance_loss(softmax(logits), chosen)", "balance_loss(logits, chosen)"),
            ("balance: taken and kept", "balance, self.balance = self.balance, None", "balance = self.balance"),
            ("balance: of the last layer only", "torch.stack(balances).sum()", "balances[-1]"),
            ("experts: everyone has the first weight", "weights[row, place]", "weights[row, 0]"),
            ("experts: not weighted", "weights[row, place].unsqueeze(-1) * expert", "expert"),
            ("experts: the last answer stays", "out.index_add(", "out.index_copy("),
            ("experts: answers go to the first rows", "index_add(0, row,", "index_add(0, torch.arange(len(row)),"),
        ],
    ),
    "minilm/fast/attention.py": (
        "test_attention.py::test_attention_is_the_loop "
        "test_fast_bricks.py::test_the_kernel_leaves_out_what_lies_above_the_triangle_and_nothing_else "
        "test_mutation_gaps.py::test_no_kernel_is_asked_what_it_makes_of_an_empty_row",
        [
            ("fused: every square mask is a triangle", "return torch.equal(mask, triangle(n_queries))", "return True"),
            ("fused: a triangle behind a cache", "if n_queries != n_keys or mask.device", "if mask.device"),
            ("fused: the triangle of one more", "return causal_mask(n)", "return causal_mask(n + 1)[1:, 1:].mT"),
            ("fused: an empty row is the mean", "enable_gqa=grouped) * visible", "enable_gqa=grouped)"),
            ("fused: an empty row as the kernel likes it", "attn_mask=mask | ~visible", "attn_mask=mask"),
            ("fused: mask flipped", "attn_mask=mask | ~visible", "attn_mask=~mask | ~visible"),
            ("fused: the mask forgotten", "attn_mask=mask | ~visible", "attn_mask=None"),
            (
                "fused: keys and values swapped",
                "F.scaled_dot_product_attention(q, k, v, attn_mask",
                "F.scaled_dot_product_attention(q, v, k, attn_mask",
            ),
        ],
    ),
    "minilm/fast/bricks.py": (
        "test_fast_bricks.py::test_a_fused_model_is_the_model_in_values_and_gradients "
        "test_fast_bricks.py::test_each_part_is_the_readable_one "
        "test_fast_bricks.py::test_a_norm_answers_in_the_type_of_the_readable_one "
        "test_fast_bricks.py::test_with_a_cache "
        "test_fast_bricks.py::test_adapters_are_asked_before_and_after "
        "test_fast_bricks.py::test_a_subclass_stays_as_it_is",
        [
            ("bricks: no eps of its own", "weight, bias, part.eps)", "weight, bias, 1e-5)"),
            ("bricks: rms without its eps", "weight, part.eps)\n\n\ndef in_one", "weight, 1e-5)\n\n\ndef in_one"),
            ("bricks: no bias", "functional.linear(x, part.weight, part.bias)", "functional.linear(x, part.weight)"),
            ("bricks: one gelu for both", 'partial(functional.gelu, approximate="tanh")', "functional.gelu"),
            ("bricks: swiglu gates the other", "silu(part.gate(x)) * part.up(x)", "silu(part.up(x)) * part.gate(x)"),
            ("bricks: adapters of q, k, v are passed by", "if all(type(matrix) is Linear for", "if all(True for"),
            ("bricks: subclasses too", "if type(part) in FORWARDS:", "if isinstance(part, tuple(FORWARDS)):"),
            (
                "bricks: keys have as many heads",
                "(part.n_heads, part.n_kv_heads, part.n_kv_heads)",
                "3 * (part.n_heads,)",
            ),
            ("bricks: keys are not rotated", "q, k = rotate(q), rotate(k)", "q = rotate(q)"),
            ("bricks: norms as they come", "if x.dtype is weight.dtype:", "if True:"),
            ("bricks: the cache forgets", "k, v = cache.append(layer, k, v)", "cache.append(layer, k, v)"),
            (
                "bricks: other activations are none",
                "ACTIVATIONS.get(part.activation, part.activation)",
                "ACTIVATIONS[gelu]",
            ),
        ],
    ),
    "minilm/fast/loss.py": (
        "test_fast_bricks.py::test_the_loss_is_the_plain_one "
        "test_fast_bricks.py::test_the_loss_with_another_label_to_ignore_and_with_wrong_labels",
        [
            ("kernel loss: nothing counted is no number", "counted.sum().clamp(min=1)", "counted.sum()"),
            ("kernel loss: mean over all", "total / counted.sum().clamp(min=1)", "total / targets.numel()"),
            ("kernel loss: half stays half", "torch.promote_types(logits.dtype, torch.float32)", "logits.dtype"),
            ("kernel loss: V is a token", "(targets >= vocab_size)", "(targets > vocab_size)"),
            ("kernel loss: ignores -100 only", "ignore_index=ignore_index, reduction", "reduction"),
        ],
    ),
    "minilm/layers/alibi.py": (
        "test_attention_whole.py::test_slopes_are_those_of_bloom "
        "test_attention_whole.py::test_alibi_is_linear_in_the_distance_and_keeps_its_precision_far_out "
        "test_attention_whole.py::test_every_attention_is_the_loop_in_values_and_gradients",
        [
            ("alibi: nearer is worse", "return scores - bias.to", "return scores + bias.to"),
            ("alibi: slopes from one", "torch.arange(1, n + 1, dtype", "torch.arange(n, dtype"),
            ("alibi: first of the extra slopes skipped", "geometric(2 * power)[0::2]", "geometric(2 * power)[1::2]"),
            ("alibi: heads in reverse", "alibi_slopes(n_heads).to", "alibi_slopes(n_heads).flip(0).to"),
            ("alibi: queries from the first key", "keys[n_keys - n_queries :, None]", "keys[:n_queries, None]"),
        ],
    ),
    "minilm/layers/changed_scores.py": (
        "test_attention_whole.py::test_every_attention_is_the_loop_in_values_and_gradients",
        [
            ("changed: no scale", "q @ k.mT / math.sqrt(q.shape[-1])", "q @ k.mT"),
            ("changed: only the last change", "scores = change(scores)", "changed = change(scores)"),
            ("changed: mask flipped", "masked_fill(~mask & visible", "masked_fill(mask & visible"),
            ("changed: empty row is the mean", "dim=-1) * visible) @ v", "dim=-1)) @ v"),
            ("softcap: not scaled back", "cap * torch.tanh(scores / cap)", "torch.tanh(scores / cap)"),
            ("softcap: clamped", "cap * torch.tanh(scores / cap)", "scores.clamp(-cap, cap)"),
        ],
    ),
    "minilm/layers/cross_attention.py": (
        "test_attention_whole.py::test_row_41_cross_attention_is_torchs "
        "test_attention_whole.py::test_cross_attention_with_grouped_heads_is_the_loop",
        [
            ("cross: asks the memory by itself", "self.q(x)", "self.q(memory)"),
            ("cross: values made as keys", "self.v(memory)", "self.k(memory)"),
            ("cross: padding read", "self.attention(q, k, v, mask)", "self.attention(q, k, v, None)"),
            (
                "cross: all heads get keys",
                "split_heads(self.k(memory), self.n_kv_heads)",
                "split_heads(self.k(memory), self.n_heads)",
            ),
        ],
    ),
    "minilm/layers/qk_norm.py": (
        "test_attention_whole.py::test_qk_norm_sees_angles_only "
        "test_attention_whole.py::test_every_attention_is_the_loop_in_values_and_gradients",
        [
            ("qk_norm: keys left alone", "rms_norm(k), v, mask", "k, v, mask"),
            ("qk_norm: queries left alone", "rms_norm(q) * factor", "q * factor"),
            ("qk_norm: scale counted twice", "scale / size", "scale"),
            ("qk_norm: values as well", "rms_norm(k), v, mask", "rms_norm(k), rms_norm(v), mask"),
            ("qk_norm: mask lost", "rms_norm(k), v, mask)", "rms_norm(k), v, None)"),
        ],
    ),
    "minilm/layers/sliding_window.py": (
        "test_attention_whole.py::test_every_attention_is_the_loop_in_values_and_gradients",
        [
            ("with_window: one key more", "last_visible(mask, window)", "last_visible(mask, window + 1)"),
            ("with_window: all of the past", "last_visible(mask, window)", "mask"),
            (
                "with_window: not causal by itself",
                "causal_mask(q.shape[2], k.shape[2], q.device)",
                "causal_mask(q.shape[2], k.shape[2], q.device).fill_(True)",
            ),
        ],
    ),
    "minilm/layers/tiled_attention.py": (
        "test_attention_whole.py::test_tiles_of_which_nothing_is_seen_are_spared "
        "test_attention_whole.py::test_every_attention_is_the_loop_in_values_and_gradients",
        [
            ("tiles: no scale", "k[:, :, keys].mT / math.sqrt(q.shape[-1])", "k[:, :, keys].mT"),
            ("tiles: sum not shrunk", "total = total * shrink +", "total = total +"),
            ("tiles: mix not shrunk", "mix = mix * shrink +", "mix = mix +"),
            ("tiles: maximum never raised", "top = new_top", "top = torch.maximum(top, top)"),
            ("tiles: shrunk the wrong way", "torch.exp(top - reference)", "torch.exp(reference - top)"),
            ("tiles: values of the first keys", "weights @ v[:, :, tile[1]]", "weights @ v[:, :, : weights.shape[-1]]"),
            (
                "tiles: hidden ones computed",
                "tile_mask is None or tile_mask.any()",
                "tile_mask is None or tile_mask is not None",
            ),
            (
                "tiles: partly seen ones left out",
                "tile_mask is None or tile_mask.any()",
                "tile_mask is None or tile_mask.all()",
            ),
            ("tiles: last short block lost", "range(0, n, block)", "range(0, n - n % block or n, block)"),
            (
                "tiles back: no scale in ds",
                "row_sums[:, :, queries]) / math.sqrt(q.shape[-1])",
                "row_sums[:, :, queries])",
            ),
            ("tiles back: row sums forgotten", "p * (dp - row_sums[:, :, queries])", "p * dp"),
            ("tiles back: row sums of the values", "(dout * out).sum(-1", "dout.sum(-1"),
            ("tiles back: dk overwritten", "dk[:, :, keys] += ds.mT", "dk[:, :, keys] = ds.mT"),
            ("tiles back: dq overwritten", "dq[:, :, queries] += ds @", "dq[:, :, queries] = ds @"),
            ("tiles back: dv without p", "+= p.mT @ dout_tile", "+= ds.mT @ dout_tile"),
            (
                "tiles back: total not taken off",
                "tile_scores(q, k, tile) - log_total[:, :, queries]",
                "tile_scores(q, k, tile)",
            ),
        ],
    ),
    "minilm/models/gpt.py": (
        "test_references.py::test_a_drawn_configuration_has_the_logits_and_gradients_of_transformers "
        "test_gpt.py::test_cached_is_uncached_for_every_prompt_and_chunk "
        "test_gpt.py::test_a_new_model_knows_nothing test_numpy_gpt.py::test_dropout_drops_where_torch_does",
        [
            ("GPT: no last norm", "return self.norm(x)", "return x"),
            (
                "GPT: every piece starts at position 0",
                "self.positions(positions)",
                "self.positions(positions - positions[0, 0])",
            ),
            (
                "GPT: a tied head is a copy",
                "self.lm_head.weight = self.embedding.weight",
                "self.lm_head.weight = nn.Parameter(self.embedding.weight.detach().clone())",
            ),
            ("GPT: eps of RMSNorm ignored", "RMSNorm(config.d_model, config.norm_eps)", "RMSNorm(config.d_model)"),
            (
                "GPT: eps of LayerNorm ignored",
                "LayerNorm(config.d_model, config.bias, config.norm_eps)",
                "LayerNorm(config.d_model, config.bias)",
            ),
            ("GPT: one gelu for both", 'gelu if config.mlp == "gelu" else gelu_tanh', "gelu_tanh"),
            (
                "GPT: always the same theta",
                "self.config.d_head, self.config.rope_theta)",
                "self.config.d_head, 10000.0)",
            ),
            ("GPT: key heads not shared", "MultiHeadAttention(D, H, G, ", "MultiHeadAttention(D, H, H, "),
            ("GPT: biases for all", "MultiHeadAttention(D, H, G, config.bias", "MultiHeadAttention(D, H, G, True"),
            ("GPT: attention starts too wide", "output_std(config), attention)", "0.02, attention)"),
            ("GPT: the cache is not told", "cache.advance(T)", "cache.advance(T - 1)"),
            ("GPT: all layers in one cache", "rotate, cache, layer)", "rotate, cache, 0)"),
            (
                "GPT: one block, many times",
                "block(config, attention) for _ in range(config.n_layers)",
                "[block(config, attention)] * config.n_layers",
            ),
            ("GPT: the stream starts too wide", "0.02 / math.sqrt(2 * config.n_layers)", "0.02"),
            ("GPT: embeddings are not dropped", "x = self.dropout(x)", "x = 1.0 * x"),
        ],
    ),
    "minilm/pretrained/huggingface.py": (
        "test_references.py::test_what_a_config_leaves_out_is_what_transformers_takes "
        "test_references.py::test_a_drawn_configuration_has_the_logits_and_gradients_of_transformers "
        "test_huggingface.py::test_weights_that_do_not_fit_are_errors",
        [
            ("import: q, k, v in another order", '"qkv".index(part)', '"kqv".index(part)'),
            ("import: on its side", "value = value.T if value.ndim == 2 else value", "value = value"),
            ("export: on its side", 'value.T if ".h." in name and value.ndim == 2 else value', "value"),
            (
                "import: gate for up",
                '"mlp.gate": "mlp.gate_proj",\n        "mlp.up": "mlp.up_proj"',
                '"mlp.gate": "mlp.up_proj",\n        "mlp.up": "mlp.gate_proj"',
            ),
            (
                "import: a head of its own is thrown away",
                "if head is not None and (",
                "if head is not None and False and (",
            ),
            ("import: what is left over is thrown away", "if theirs.keys() - used:", "if False:"),
            ("import: eps of another Llama", '"rms_norm_eps", 1e-6', '"rms_norm_eps", 1e-5'),
            ("import: tied unless told", '"tie_word_embeddings", False', '"tie_word_embeddings", True'),
            ("import: theta of another Llama", '"rope_theta", 10000.0', '"rope_theta", 500000.0'),
            ("import: theta among the parameters ignored", 'rope.get("rope_theta", config', 'rope.get("theta", config'),
        ],
    ),
    "minilm/byhand/basic.py": (
        "test_byhand.py",
        [
            ("linear back: bias of the mean", "gradients.sum(0) if has_bias", "gradients.mean(0) if has_bias"),
            ("linear back: last token only", "gradients.T @ tokens", "gradients[-1:].T @ tokens[-1:]"),
            ("embedding back: equal ids lost", "np.add.at(dweight, ids, dout)", "dweight[ids] += dout"),
            ("embedding: negative ids", "ids.min() < 0 or ids.max()", "ids.max()"),
            ("dropout by hand: not scaled", "keep.astype(x.dtype) / (1.0 - p)", "keep.astype(x.dtype)"),
            ("dropout back: not dropped", "return dout * scale", "return dout"),
            ("exp: not zero far down", "np.exp(np.maximum(x, lowest)) * (x > lowest)", "np.exp(np.maximum(x, lowest))"),
            ("softmax by hand: maximum kept", "exp(x - x.max(dim, keepdims=True))", "np.exp(x)"),
            ("softmax back: diagonal only", "dout - (p * dout).sum(dim, keepdims=True)", "dout - p * dout"),
            ("softmax back: sum without p", "(p * dout).sum(dim, keepdims=True)", "dout.sum(dim, keepdims=True)"),
            ("softmax back: always the last axis", "(p * dout).sum(dim,", "(p * dout).sum(-1,"),
            ("log_softmax back: no probabilities", "exp(out) * dout.sum(dim", "dout.sum(dim"),
            ("log_softmax back: mean for sum", "exp(out) * dout.sum(dim,", "exp(out) * dout.mean(dim,"),
            ("layer_norm back: way through the mean", "dn - dn.mean(-1, keepdims=True) - n *", "dn - n *"),
            (
                "layer_norm back: way through the variance",
                " - n * (dn * n).mean(-1, keepdims=True)) * inverse\n    return dx, sum",
                ") * inverse\n    return dx, sum",
            ),
            (
                "layer_norm back: weight after the means",
                "dx, sum_tokens(dout * n), sum_tokens(dout) if",
                "dx * weight, sum_tokens(dout * n), sum_tokens(dout) if",
            ),
            (
                "layer_norm back: weight's n forgotten",
                "sum_tokens(dout * n), sum_tokens(dout) if",
                "sum_tokens(dout), sum_tokens(dout) if",
            ),
            (
                "rms_norm back: without r",
                "dx = (dn - n * (dn * n).mean(-1, keepdims=True)) * inverse",
                "dx = dn - n * (dn * n).mean(-1, keepdims=True)",
            ),
            ("rms_norm back: weight forgotten", "dn = dout if weight is None else dout * weight", "dn = dout"),
            ("sum_tokens: mean", "x.reshape(-1, x.shape[-1]).sum(0)", "x.reshape(-1, x.shape[-1]).mean(0)"),
            ("sigmoid back: one factor", "return dout * s * (1.0 - s)", "return dout * (1.0 - s)"),
            ("silu back: x forgotten", "dout * s * (1.0 + x * (1.0 - s))", "dout * s * (1.0 + (1.0 - s))"),
            ("gelu back: no bell", "dout * (phi + x * bell)", "dout * phi"),
            ("gelu back: bell of x", "exp(-0.5 * x * x)", "exp(-x * x)"),
            ("gelu_tanh back: factor 3", "(1.0 + 3 * 0.044715 * x * x)", "(1.0 + 0.044715 * x * x)"),
            ("relu_squared back: factor 2", "return dout * 2.0 * positive", "return dout * positive"),
        ],
    ),
    "minilm/byhand/attention.py": (
        "test_byhand.py",
        [
            ("by hand: mask flipped", "np.where(mask | ~visible", "np.where(~mask | ~visible"),
            ("by hand: empty row is the mean", "    p = p * visible\n", ""),
            (
                "attention back: no scale",
                "softmax_backward(dp, softmax_cache) * scale",
                "softmax_backward(dp, softmax_cache)",
            ),
            ("attention back: softmax skipped", "softmax_backward(dp, softmax_cache) * scale", "dp * p * scale"),
            ("attention back: empty rows send back", "v.swapaxes(-1, -2) * visible", "v.swapaxes(-1, -2)"),
            (
                "attention back: dk of the keys",
                "ds.swapaxes(-1, -2) @ q ",
                "ds.swapaxes(-1, -2) @ k[:, :, : q.shape[2]] ",
            ),
            (
                "attention back: dv scaled",
                "dv = p.swapaxes(-1, -2) @ dout",
                "dv = p.swapaxes(-1, -2) @ (dout * scale)",
            ),
            ("sharing back: mean of the copies", "H // n_kv_heads, S, K).sum(2)", "H // n_kv_heads, S, K).mean(2)"),
            (
                "sharing back: tiles",
                "reshape(B, n_kv_heads, H // n_kv_heads, S, K).sum(2)",
                "reshape(B, H // n_kv_heads, n_kv_heads, S, K).sum(1)",
            ),
            ("heads back: values not counted", "return dx_q + dx_k + dx_v,", "return dx_q + dx_k,"),
            ("heads back: keys not turned back", "rotate_half_split_backward(dk, (angles,))", "dk"),
            (
                "heads back: q and k named wrongly",
                'outside("q", q_gradients) | outside("k", k_gradients)',
                'outside("k", q_gradients) | outside("q", k_gradients)',
            ),
        ],
    ),
    "minilm/byhand/positions.py": (
        "test_byhand.py",
        [
            (
                "learned back: mean of the rows",
                "embedding_backward(dout.sum(0), cache)",
                "embedding_backward(dout.mean(0), cache)",
            ),
            ("turned on, not back, in halves", "rotate_half_split(dout, -angles)", "rotate_half_split(dout, angles)"),
            ("turned on, not back, in pairs", "rotate_interleaved(dout, -angles)", "rotate_interleaved(dout, angles)"),
            ("by hand: growing frequencies", "theta ** -(np.arange", "theta ** (np.arange"),
        ],
    ),
    "minilm/byhand/blocks.py": (
        "test_byhand.py",
        [
            (
                "MLP back: activation skipped",
                "LINEAR.backward(bend_backward(dbent, bend_cache), up_cache)",
                "LINEAR.backward(dbent, up_cache)",
            ),
            (
                "SwiGLU back: gate and up swapped",
                "silu_backward(dproduct * up, silu_cache)",
                "silu_backward(dproduct * opening, silu_cache)",
            ),
            ("SwiGLU back: gate's part lost", "return dx_gate + dx_up, gradients", "return dx_up, gradients"),
            ("residual: the stream replaced", "return x + change, (name", "return change, (name"),
            ("residual back: straight way lost", "return dout + dx, outside", "return dx, outside"),
            (
                "residual back: dropout forgotten",
                "part.backward(dropout_backward(dout, dropout_cache)",
                "part.backward((dout)",
            ),
            ("block by hand: one dropout for both", "mlp, norm, p, keeps[1])", "mlp, norm, p, keeps[0])"),
            (
                "block back: halves in the order of the forward pass",
                "residual_backward(dout, mlp_cache)\n    dx, attention_gradients = residual_backward(dx, attention_cache)",
                "residual_backward(dout, mlp_cache)\n    dx, attention_gradients = residual_backward(dout, attention_cache)",
            ),
        ],
    ),
    "minilm/byhand/loss.py": (
        "test_byhand.py",
        [
            ("loss: mean over all", "max(int(counted.sum()), 1)", "counted.size"),
            ("loss: uncounted tokens counted", "(chosen * counted).sum()", "chosen.sum()"),
            ("loss: no counted token, no number", "max(int(counted.sum()), 1)", "int(counted.sum())"),
            ("loss: a label too large passes", "targets >= vocab_size)", "targets > vocab_size)"),
            ("loss back: target added", "labels, -1) - 1.0, -1)", "labels, -1) + 1.0, -1)"),
            ("loss back: sum for mean", "(dout / n_counted)", "dout"),
            ("loss back: dout forgotten", "(dout / n_counted)", "(1.0 / n_counted)"),
            ("loss back: uncounted rows pulled", "np.where(counted[..., None], difference, 0.0)", "difference"),
        ],
    ),
    "minilm/byhand/optim.py": (
        "test_byhand.py::test_adamw_is_torch_and_the_house "
        "test_byhand.py::test_the_first_step_of_adamw_is_lr_whatever_the_size_of_the_gradient "
        "test_byhand.py::test_clipping_is_torch_and_leaves_a_short_gradient_alone",
        [
            (
                "clip: lengths added",
                "np.sqrt(sum(float(np.vdot(g, g)) for g in gradients))",
                "sum(np.sqrt(float(np.vdot(g, g))) for g in gradients)",
            ),
            ("clip: short ones stretched", "if max_norm < norm < np.inf:", "if norm < np.inf:"),
            ("AdamW: vectors decay", "if w.ndim >= 2:", "if w.ndim >= 1:"),
            (
                "AdamW: decay into the gradient",
                "w *= 1.0 - self.lr * self.weight_decay",
                "g = g + self.weight_decay * w",
            ),
            (
                "AdamW: eps inside the root",
                "np.sqrt(square / (1.0 - beta2 ** self.steps[name])) + self.eps",
                "np.sqrt(square / (1.0 - beta2 ** self.steps[name]) + self.eps)",
            ),
            ("AdamW: mean not corrected", "self.lr / (1.0 - beta1 ** self.steps[name]) * mean", "self.lr * mean"),
            ("AdamW: spread not corrected", "np.sqrt(square / (1.0 - beta2 ** self.steps[name]))", "np.sqrt(square)"),
            ("AdamW: betas swapped", "beta1, beta2 = self.betas", "beta2, beta1 = self.betas"),
            ("AdamW: steps not counted", "self.steps[name] += 1", "self.steps[name] = 1"),
        ],
    ),
    "minilm/byhand/lora.py": (
        "test_byhand.py::test_by_hand_is_autograd test_byhand.py::test_examples_in_docstrings",
        [
            ("lora: scale forgotten", "return scale * wide", "return wide"),
            ("lora: no scale on the way back", "linear_backward(scale * dout,", "linear_backward(dout,"),
            ("lora: B's input is out", "(x, A, B, scale, h)\n\n\n", "(x, A, B, scale, h + 1.0)\n\n\n"),
            (
                "lora: A learns from all of dout",
                "linear_backward(dh, (x, A, False))",
                "linear_backward(dh + 1.0, (x, A, False))",
            ),
        ],
    ),
    "minilm/byhand/parts.py": (
        "test_byhand.py",
        [
            ("inside: no dot", 'start = f"{name}."', "start = name"),
            ("outside: names lost", 'f"{name}.{key}": value for key', 'f"{key}": value for key'),
            ("part: bias lost", "if gradient is not None}", 'if gradient is not None and name != "bias"}'),
        ],
    ),
    "minilm/byhand/agreement.py": (
        "test_mutation_gaps.py test_byhand.py::test_by_hand_is_autograd test_byhand.py::test_by_hand_is_measured "
        "test_byhand.py::test_a_gradient_that_is_off_by_a_millionth_shows test_byhand.py::test_the_usual_mistakes_show "
        "test_byhand.py::test_central_differences_of_a_polynomial",
        [
            ("differences: half the step", "(above - below) / (2 * h)", "(above - below) / h"),
            ("differences: not put back", "        x[place] = kept\n", ""),
            ("error: NaN is right", "nan=np.inf", "nan=0.0"),
            (
                "error: smallest for largest",
                "np.nan_to_num(errors, nan=np.inf).max()",
                "np.nan_to_num(errors, nan=np.inf).min()",
            ),
            (
                "upstream: all ones",
                "np.random.default_rng([seed, 1]).standard_normal(np.shape(out))",
                "np.ones(np.shape(out))",
            ),
            ("table: the last size only", "max(table.get(name, 0.0), error_of(brick, seed))", "error_of(brick, seed)"),
        ],
    ),
    "minilm/byhand/autograd.py": (
        "test_autograd.py",
        [
            ("flow: overwritten", "flow[x] = flow.get(x, 0.0) + flow[u] * slope", "flow[x] = flow[u] * slope"),
            ("flow: slopes added", "+ flow[u] * slope", "+ flow[u] + slope"),
            ("grad: overwritten", "u.grad += flow[u]", "u.grad = flow[u]"),
            ("order: not reversed", "return noted[::-1]", "return noted"),
            (
                "product: own factor",
                "((self, other.data), (other, self.data))",
                "((self, self.data), (other, other.data))",
            ),
            ("difference: both up", "(other, -1.0)", "(other, 1.0)"),
            ("quotient: once by b", "(other, -out / other.data)", "(other, -out)"),
            ("power: exponent not lowered", "n * self.data ** (n - 1)", "n * self.data**n"),
            ("power: factor n", "n * self.data ** (n - 1) if n", "self.data ** (n - 1) if n"),
            ("exp: slope of x", "return Value(out, ((self, out),))", "return Value(out, ((self, self.data),))"),
            ("log: slope x", "((self, 1.0 / self.data),)", "((self, self.data),)"),
            ("tanh: not squared", "1.0 - out * out", "1.0 - out"),
            ("relu: slope one at zero", "1.0 if self.data > 0 else 0.0", "1.0 if self.data >= 0 else 0.0"),
            ("minus from the right", "value(other) - self", "self - value(other)"),
        ],
    ),
}
MUTATIONS = [
    Mutation(name, file, old, new, tuple(f"tests/{test}" for test in tests.split()))
    for file, tests, rows in [
        *((file, *part) for file, part in TABLE.items()),
        *CLASSICAL,
        *CLI,
        *DECODING,
        *STORAGE,
        *DOCTOR,
        *RECURRENT,
        *SEARCH,
        *DISTRIBUTED,
        *TRAINING,
        *SCALING,
        *FINETUNING,
    ]
    for name, old, new in rows
]


def mutated(mutation: Mutation) -> str:
    """The text of its file with the mistake in it. ValueError if the old text does not stand there exactly once."""
    text = (ROOT / mutation.file).read_text(encoding="utf-8")
    if (found := text.count(mutation.old)) != 1:
        raise ValueError(f"{mutation.name}: {mutation.old!r} stands {found} times in {mutation.file}, it must be once")
    return text.replace(mutation.old, mutation.new)


def run_tests(tests: Sequence[str], changed: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """These test files in a copy of the checkout, in which the files `changed` have another text."""
    with tempfile.TemporaryDirectory(prefix="minilm-mutation-") as folder:
        for name in ("minilm", "tests"):
            shutil.copytree(ROOT / name, Path(folder) / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        for path, text in changed.items():
            (Path(folder) / path).write_text(text, encoding="utf-8")
        outer = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests],
            cwd=folder,
            env={**outer, "PYTHONPATH": folder, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )


def is_caught(mutation: Mutation) -> bool:
    """Whether a test fails. RuntimeError if they could not be run at all: that would catch nothing."""
    result = run_tests(mutation.tests, {mutation.file: mutated(mutation)})
    if result.returncode not in (0, 1):
        raise RuntimeError(f"{mutation.name}: the tests did not run\n{result.stdout[-2000:]}{result.stderr[-2000:]}")
    return result.returncode == 1


def survivors(mutations: Sequence[Mutation]) -> Iterator[Mutation]:
    """Those that no test sees, with a line for each as it is tried."""
    for number, mutation in enumerate(mutations, 1):
        caught = is_caught(mutation)
        print(
            f"{number}/{len(mutations)} {'caught  ' if caught else 'SURVIVED'} {mutation.file}: {mutation.name}",
            flush=True,
        )
        if not caught:
            yield mutation


def main(names: Sequence[str]) -> int:
    """Try the mutations of these names, or all; 1 if one survives."""
    chosen = [mutation for mutation in MUTATIONS if not names or mutation.name in names]
    if unknown := set(names) - {mutation.name for mutation in chosen}:
        raise ValueError(f"no mutation is called {sorted(unknown)}: the names stand in TABLE")
    left = list(survivors(chosen))
    print(f"{len(chosen) - len(left)} of {len(chosen)} caught")
    for mutation in left:
        print(f"survivor: {mutation.file}: {mutation.name}: {mutation.old!r} -> {mutation.new!r}")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

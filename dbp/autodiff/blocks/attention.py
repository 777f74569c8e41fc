"""Blocks for attention over several heads: softmax(q k^T / sqrt(width)) v of each (Vaswani et al. 2017, section 3.2).

The scores of some heads and some queries of an example are computed at a time, a tile that stays in the cache until
what follows from it is computed, forward and backward; short examples are computed several at a time. The tiles depend
on lengths alone, so that an example has the same bits whatever others there are. They do not contain keys that come
after all of their queries, if attention is causal. As in Dao et al. 2022 the outputs are divided by the sums of the
exponentials, not these themselves.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from dbp.autodiff import scratch
from dbp.autodiff.blocks.attention_tiles import Tile, examples_at_a_time, tiles_of
from dbp.autodiff.blocks.block import Block
from dbp.autodiff.primitives import reshape, softmax, split, sum_, transpose
from dbp.autodiff.products import matmul_of_stacks
from dbp.autodiff.tensor import OutputSlot, Value
from dbp.types import Array

HIDDEN = -1e30  # added to the scores of keys that are not attended to, so that softmax makes them 0
KEPT = 4  # widths of a head: exponentials are kept, not computed again, for at most so many keys


# --- the specification ---------------------------------------------------------------------------------------


def _by_head(x: Value, heads: int) -> Value:
    """Return x (examples, length, channels) as (examples, heads, length, channels / heads)."""
    n, length, channels = x.shape
    return x.reshape(n, length, heads, channels // heads).swapaxes(1, 2)


def _probabilities(query: Value, key: Value, causal: bool, mask: Array | None) -> Value:
    """Return how much queries attend to keys, (examples, heads, queries, keys), for both by head."""
    scores = (query @ transpose(key, axes=(0, 1, 3, 2))) / math.sqrt(np.shape(query)[-1])
    if causal:
        scores = scores + np.triu(np.full(np.shape(scores)[2:], HIDDEN, scores.dtype), 1)
    if mask is not None:
        scores = scores + _hidden_keys(mask, scores.dtype)[:, None]
    return softmax(scores)


def _hidden_keys(mask: Array, dtype: Any) -> Array:
    """Return what is added to the scores of the keys of each example, (examples, 1, keys)."""
    return np.where(mask, 0, HIDDEN).astype(dtype)[:, None, :]


def _attention(q: Value, k: Value, v: Value, heads: int, causal: bool = False, mask: Array | None = None) -> Value:
    query, key, value = (_by_head(x, heads) for x in (q, k, v))
    gathered = transpose(_probabilities(query, key, causal, mask) @ value, axes=(0, 2, 1, 3))
    return reshape(gathered, shape=np.shape(q))


def _self_attention(qkv: Value, heads: int, causal: bool = False, mask: Array | None = None) -> Value:
    q, k, v = split(qkv, 3, axis=-1)
    return _attention(q, k, v, heads, causal, mask)


# --- scores of a tile ----------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=64)
def _later_keys(keys: int, rows: int, first: int, dtype: Any) -> Array:
    """Return what is added to the scores of some keys and queries to hide from each query the keys after its own.

    Args:
        keys: number of keys.
        rows: number of queries.
        first: the number of the first query, less that of the first key.
        dtype: of the scores.
    """
    return np.tril(np.full((keys, rows), HIDDEN, dtype), -1 - first).reshape(-1)


class _Attention:
    """Queries, keys and values by head, and the exponentials of their scores.

    Args:
        parts: queries (examples, heads, rows, width); keys and values (examples, heads, keys, width).
        causal: whether queries attend only to keys with numbers up to their own.
        mask: which keys hold data, (examples, keys); None if all do.
    """

    def __init__(self, parts: Sequence[Array], causal: bool, mask: Array | None):
        q, k, _ = self.q, self.k, self.v = parts
        self._causal = causal
        self._skips = causal and mask is None  # with a mask, an example may have queries that attend to no key
        self._hidden = None if mask is None else _hidden_keys(mask, q.dtype).swapaxes(1, 2)
        self._extreme = np.sqrt(np.finfo(q.dtype).max)  # sum of exponentials that overflows only if it is squared
        self.factor = q.dtype.type(1 / math.sqrt(q.shape[-1]))
        self.tiles = tiles_of(*q.shape[1:3], k.shape[2], self._skips)
        self.size = self.tiles[-1].scores.stop if self.tiles else 0
        self.is_kept = k.shape[2] <= KEPT * q.shape[-1]

    def scratch(self, name: str, shape: tuple[int, ...]) -> Array:
        """Return memory for numbers of a tile."""
        return scratch.buffer(f"attention {name}", shape, self.q.dtype)

    def turned(self, x: Array, factor: Any) -> Array:
        """Return rows (..., rows, width) as columns (..., width, rows), times a factor, until this is called again."""
        columns = x.swapaxes(-1, -2)
        found = self.scratch("columns", columns.shape)
        np.copyto(found, columns)  # faster than to multiply what does not lie side by side
        found *= factor
        return found

    def examples(self) -> Iterator[slice]:
        """Yield some examples at a time, none if there are no tiles."""
        return examples_at_a_time(len(self.q), self.tiles)

    def exponentials(self, some: slice, tile: Tile, kept: Array | None) -> tuple[Array, Array]:
        """Return the exponentials of the scores of a tile, (examples, *tile.shape), and their sums over the keys.

        The largest score of a query is subtracted only where the sum is extreme without it, as that takes time. Other
        queries do not count, so that the bits of one do not depend on others.

        Args:
            some: the examples.
            tile: the tile.
            kept: where to write those of all tiles; None for scratch memory.
        """
        shape = some.stop - some.start, *tile.shape
        e = self.scratch("scores", shape) if kept is None else self.kept_of(kept, some, tile)
        ones = np.ones(tile.shape[1], e.dtype)
        self._fill_with_scores(e, some, tile)
        with np.errstate(over="ignore"):
            sums = ones @ np.exp(e, out=e)
        usual = (sums > 1 / self._extreme) & (sums < self._extreme)  # and not NaN
        if not usual.all():
            self._fill_with_scores(e, some, tile)
            e -= np.where(usual, 0, np.maximum.reduce(e, axis=2))[:, :, None]
            sums = ones @ np.exp(e, out=e)
        return e, sums

    def kept_of(self, kept: Array, some: slice, tile: Tile) -> Array:
        """Return the exponentials of a tile, a view of those of all tiles, (scores of all examples)."""
        count = len(self.q)
        of_all = kept[tile.scores.start * count : tile.scores.stop * count]
        return of_all.reshape(count, *tile.shape)[some]

    def _fill_with_scores(self, e: Array, some: slice, tile: Tile) -> None:
        """Write the scores of a tile to e, those of hidden keys less a large number."""
        count, heads, keys, rows = e.shape
        queries = self.turned(self.q[some, tile.heads, tile.rows], self.factor)
        matmul_of_stacks(self.k[some, tile.heads, tile.keys], queries, e)
        if self._causal:
            first = min(keys, tile.rows.start) if self._skips else 0  # key that is hidden from any query
            hidden = _later_keys(keys - first, rows, tile.rows.start - first, e.dtype)
            e.reshape(count, heads, -1)[..., first * rows :] += hidden
        if self._hidden is not None:
            e += self._hidden[some, None]


# --- the fast version ----------------------------------------------------------------------------------------


class _Kept(NamedTuple):
    """What the forward pass keeps.

    Args:
        inverses: one by the sum of the exponentials of each query, (examples, rows, heads).
        exponentials: those of each tile, one tile after the other; None if they are to be computed again.
    """

    inverses: Array
    exponentials: Array | None


def _attend(at: _Attention, y: Array, keep: bool) -> _Kept:
    """Fill y (examples, rows, channels) with the attended values."""
    count, heads, rows, width = at.q.shape
    inverses, attended = np.empty((count, rows, heads), y.dtype), _by_head(y, heads)
    by_head = inverses.swapaxes(1, 2)
    kept = np.empty(count * at.size, y.dtype) if keep and at.is_kept else None
    for some in at.examples():
        for tile in at.tiles:
            queries = some, tile.heads, tile.rows
            e, sums = at.exponentials(some, tile, kept)
            np.divide(1, sums, out=by_head[queries])
            np.matmul(e.swapaxes(2, 3), at.v[some, tile.heads, tile.keys], out=attended[queries])
        here = y[some].reshape(-1, width)
        here *= inverses[some].reshape(-1, 1)
    return _Kept(inverses, kept)


def _pull_back(at: _Attention, g: Array, y: Array, kept: _Kept, by: Sequence[Array]) -> None:
    """Fill `by` with the cotangents of queries, keys and values, given that of the attended values y, none by head."""
    by_q, (_, by_k, by_v) = _by_head(by[0], at.q.shape[1]), by
    for some in at.examples():
        share, mean = _shares(at, g[some], y[some], kept.inverses[some])
        for tile in at.tiles:
            queries, keys = (some, tile.heads, tile.rows), (some, tile.heads, tile.keys)
            if kept.exponentials is None:
                e, _ = at.exponentials(some, tile, None)
            else:
                e = at.kept_of(kept.exponentials, some, tile)
            here, slope = share[:, tile.heads, tile.rows], at.scratch("slope", e.shape)
            matmul_of_stacks(at.v[keys], at.turned(here, at.factor), slope)
            slope -= mean[:, tile.heads, None, tile.rows]
            slope *= e
            np.matmul(slope.swapaxes(2, 3), at.k[keys], out=by_q[queries])
            _sum_over_queries(slope, at.q[queries], by_k[some], tile)
            _sum_over_queries(e, here, by_v[some], tile)


def _shares(at: _Attention, g: Array, y: Array, inverses: Array) -> tuple[Array, Array]:
    """Return, by head, cotangents before the division by the sums, and their products with y, times the factor.

    Args:
        at: the attention.
        g: cotangents of the attended values of some examples, (examples, rows, channels).
        y: the attended values.
        inverses: one by the sums of the exponentials.
    """
    width = at.q.shape[3]
    share = at.scratch("share", g.shape)
    np.copyto(share.reshape(-1, width), inverses.reshape(-1, 1))  # faster than to broadcast them
    share *= g
    mean = np.vecdot(share.reshape(-1, width), y.reshape(-1, width)).reshape(inverses.shape)
    return _by_head(share, at.q.shape[1]), np.multiply(mean.swapaxes(1, 2), at.factor, order="C")


def _sum_over_queries(e: Array, x: Array, into: Array, tile: Tile) -> None:
    """Add e x, a sum over the queries of a tile, to the cotangents (examples, keys, channels) of its keys."""
    count, heads, keys, _ = e.shape
    width = x.shape[3]
    columns = into[..., tile.heads.start * width : tile.heads.stop * width]
    if tile.is_first:
        matmul_of_stacks(e, x, _by_head(columns[:, :keys], heads))
        columns[:, keys:] = 0
    else:
        part = scratch.buffer("attention part", (count, keys, heads * width), e.dtype)
        matmul_of_stacks(e, x, _by_head(part, heads))
        columns[:, :keys] += part


def _new(shape: tuple[int, ...], at: _Attention) -> Array:
    """Return an array to fill, with zeros if there are no keys that anything could be taken from."""
    return (np.empty if at.tiles else np.zeros)(shape, at.q.dtype)


def _parts_of(x: Array) -> list[Array]:
    """Return views of the three parts of x (examples, length, 3 channels)."""
    n, length, channels = x.shape
    return list(x.reshape(n, length, 3, channels // 3).transpose(2, 0, 1, 3))


def _forward(
    q: Array, k: Array, v: Array, heads: int, causal: bool = False, mask: Array | None = None, keep: bool = True
) -> tuple[Array, _Kept]:
    at = _Attention([_by_head(x, heads) for x in (q, k, v)], causal, mask)
    y = _new(q.shape, at)
    return y, _attend(at, y, keep)


def _self_forward(
    qkv: Array, heads: int, causal: bool = False, mask: Array | None = None, keep: bool = True
) -> tuple[Array, _Kept]:
    at = _Attention([_by_head(x, heads) for x in _parts_of(qkv)], causal, mask)
    y = _new((*qkv.shape[:2], qkv.shape[2] // 3), at)
    return y, _attend(at, y, keep)


def _backward(
    g: Array,
    y: Array,
    kept: _Kept,
    wanted: Sequence[bool],
    _slots: Sequence[OutputSlot | None],
    q: Array,
    k: Array,
    v: Array,
    heads: int,
    causal: bool = False,
    mask: Array | None = None,
) -> Sequence[Array | None]:
    at = _Attention([_by_head(x, heads) for x in (q, k, v)], causal, mask)
    found = [_new(x.shape, at) for x in (q, k, v)]
    _pull_back(at, g, y, kept, found)
    return [x if want else None for x, want in zip(found, wanted, strict=True)]


def _self_backward(
    g: Array,
    y: Array,
    kept: _Kept,
    _wanted: Sequence[bool],
    _slots: Sequence[OutputSlot | None],
    qkv: Array,
    heads: int,
    causal: bool = False,
    mask: Array | None = None,
) -> Sequence[Array | None]:
    at = _Attention([_by_head(x, heads) for x in _parts_of(qkv)], causal, mask)
    found = _new(qkv.shape, at)
    _pull_back(at, g, y, kept, _parts_of(found))
    return [found]


def _tangent(
    tangents: Sequence[Array | None],
    y: Array,
    _kept: _Kept,
    q: Array,
    k: Array,
    v: Array,
    heads: int,
    causal: bool = False,
    mask: Array | None = None,
) -> Array:
    """Return the tangent of the output for those of queries, keys and values, None for one that has none."""
    q, k, v = (_by_head(x, heads) for x in (q, k, v))
    tq, tk, tv = (None if t is None else _by_head(t, heads) for t in tangents)
    p, t = _probabilities(q, k, causal, mask), np.zeros(q.shape, y.dtype)
    for left, right in ((tq, k), (q, tk)):
        if left is not None and right is not None:
            scores = (left @ right.swapaxes(2, 3)) / math.sqrt(q.shape[-1])
            t += (p * (scores - sum_(p * scores, axis=-1, keepdims=True))) @ v
    if tv is not None:
        t += p @ tv
    found: Array = t.swapaxes(1, 2).reshape(y.shape)
    return found


def _self_tangent(tangents: Sequence[Array], y: Array, kept: _Kept, qkv: Array, **options: Any) -> Array:
    q, k, v = _parts_of(qkv)
    return _tangent(_parts_of(tangents[0]), y, kept, q, k, v, **options)


attention_block = Block(  # of queries to keys and values, each (examples, length, channels)
    "attention_block",
    _attention,
    _forward,
    _backward,
    _tangent,
    lambda q, k, v, **options: _forward(q, k, v, **options, keep=False)[0],
    new_cotangents=True,
)
self_attention_block = Block(  # of queries, keys and values that lie side by side, (examples, length, 3 channels)
    "self_attention_block",
    _self_attention,
    _self_forward,
    _self_backward,
    _self_tangent,
    lambda qkv, **options: _self_forward(qkv, **options, keep=False)[0],
    new_cotangents=True,
)

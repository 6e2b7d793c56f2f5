"""Where a search begins: its numbers as arrays, and how far one step of the default optimizer takes each of them.

A step must not depend on the unit: it is a share of what the number itself, or the drive that it belongs to, spans.
"""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from ._types import Array, Control, PyTree
from .protocols import AbstractKnots, AbstractProtocol, AbstractSearchable, Constrained, trainable

SHARE = 3.0  # a stride is the span of a drive over this


def numbers(name: str, tree: PyTree) -> PyTree:
    """The pytree with its real Python and numpy numbers as JAX arrays, so that a search sees them.

    Those of a module are its settings (the rate of a dropout, say): they stay, with a warning that names them. Whole
    numbers count something and stay; complex ones are refused.
    """
    left = []

    def one(path: jtu.KeyPath, node: PyTree) -> PyTree:
        whole = name + jtu.keystr(path)
        if isinstance(node, AbstractSearchable):
            inside = lambda n: isinstance(n, eqx.Module) and n is not node
            return jtu.tree_map_with_path(lambda p, n: one(path + p, n), node, is_leaf=inside)
        if isinstance(node, eqx.Module):
            own = not type(node).__module__.startswith("equinox")
            leaves = jtu.tree_leaves_with_path(node) if own else ()
            left.extend(whole + jtu.keystr(p) for p, v in leaves if isinstance(v, float))
            return jtu.tree_map(lambda v: _as_array(whole, v, float), node)
        return _as_array(whole, node)

    tree = jtu.tree_map_with_path(one, tree, is_leaf=lambda n: isinstance(n, eqx.Module))
    if left:
        warnings.warn(
            f"{', '.join(left)}: a Python number inside a module is a setting, and the search leaves it as it is. Make it "
            "an array (jnp.asarray) to have it searched, or a static field to have it left in peace.",
            stacklevel=3,
        )
    return tree


def _as_array(name: str, leaf: PyTree, *left: type) -> PyTree:
    if isinstance(leaf, left) and not isinstance(leaf, np.generic):
        return leaf
    real = isinstance(leaf, float | np.floating) or (
        isinstance(leaf, np.ndarray) and np.issubdtype(leaf.dtype, np.floating)
    )
    if isinstance(leaf, complex) or (
        eqx.is_array_like(leaf) and np.issubdtype(jnp.result_type(leaf), np.complexfloating)
    ):
        raise TypeError(
            f"{name} is complex, and a search descends over real numbers. Give its real and its imaginary part."
        )
    if real:
        leaf = jnp.asarray(leaf, jax.dtypes.canonicalize_dtype(jnp.result_type(leaf)))
    return leaf


def strides(tree: PyTree) -> PyTree:
    r"""How far each trainable number moves in a step of rate one: arrays of the shapes of the trainable leaves.

    - The values of a protocol: a third of what the drive spans, `before` and `after` included, for each component of the
      control; the size of the value where it does not change.
    - Those of a constrained one: the same, in its raw parameters.
    - Of a noun that is no protocol (a noise schedule): one. Any other leaf: the largest number in it.

    One where all are zero: nothing tells the unit then.
    """

    def of(node: PyTree) -> PyTree:
        batched = isinstance(node, AbstractKnots | Constrained) and jnp.ndim(node.t0)
        if batched:  # a protocol for each path
            return eqx.filter_vmap(of)(node)
        if isinstance(node, AbstractKnots):
            return eqx.tree_at(lambda p: p.values, node, _values(node, node))
        if isinstance(node, Constrained):
            raw = _values(node.physical, node.protocol, node.forwards)
            return eqx.tree_at(lambda p: p.protocol.values, node, raw)
        if isinstance(node, AbstractSearchable):
            plain = not isinstance(node, AbstractProtocol)
            inside = lambda n: isinstance(n, AbstractSearchable) and n is not node
            return jtu.tree_map(
                lambda n: jnp.ones_like(n) if plain and eqx.is_inexact_array(n) else of(n),
                node,
                is_leaf=inside,
            )
        if not eqx.is_inexact_array(node):
            return node
        return jnp.full_like(node, _or_one(jnp.max(jnp.abs(node), initial=0.0)))

    whole = jtu.tree_map(of, tree, is_leaf=lambda n: isinstance(n, AbstractSearchable))
    return eqx.filter(whole, trainable(tree))


def _values(drive: AbstractKnots, raw: AbstractKnots, forwards: PyTree = None) -> Control:
    """The strides of the values of `raw`, of which `forwards` make those of `drive`."""

    def of(value: Array, before: Array, after: Array, raw: Array, forward: PyTree = None) -> Array:
        stride = _stride(value, before, after)
        if forward is not None:
            _, slope = jax.jvp(forward, (raw,), (jnp.ones_like(raw),))
            most = jnp.maximum(1, jnp.max(jnp.abs(raw), axis=0))  # beside a bound nothing moves
            stride = jnp.minimum(stride / jnp.mean(jnp.abs(slope), axis=0), most)
        return jnp.broadcast_to(stride, value.shape)

    rest = () if forwards is None else (forwards,)
    return jtu.tree_map(of, drive.values, drive.before, drive.after, raw.values, *rest)


@jax.jit
def _stride(value: Array, before: Array, after: Array) -> Array:
    seen = jnp.concatenate([before[None], value, after[None]]).astype(value.dtype)
    size = jnp.max(jnp.abs(seen), axis=0)
    span = jnp.max(seen, axis=0) - jnp.min(seen, axis=0)
    still = span <= 8 * jnp.finfo(value.dtype).eps * size
    stride = jnp.where(still, size, span / SHARE)
    return jnp.where(stride > 0, stride, _or_one(jnp.max(stride)))


def _or_one(size: Array) -> Array:
    return jnp.where(size > 0, size, 1)


def units(slope: PyTree, stride: PyTree) -> PyTree:
    """What makes of a gradient one by strides, each leaf of it near one, by a power of two where it is far from that.

    Adam does not see the size of a gradient, but for its own small number and for where a float ends.
    """

    def of(leaf: Array, stride: Array) -> Array:
        wide = np.asarray(leaf, float) * np.asarray(stride, float)
        top = float(np.max(np.abs(wide), initial=0.0))
        far = np.isfinite(top) and top > 0 and not 1e-4 <= top <= 1e4
        unit = 2.0 ** -np.clip(np.round(np.log2(top)), -200, 200) if far else 1.0
        most = float(jnp.finfo(leaf.dtype).max)
        return jnp.asarray(np.minimum(unit * np.asarray(stride, float), most), leaf.dtype)

    return jtu.tree_map(of, slope, stride)

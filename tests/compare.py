"""Comparing trees of numbers, and gradients with finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
from numpy.testing import assert_allclose


def close(got, want, rtol=1e-12):
    """The same tree, leaf by leaf within `rtol` of the largest entry (or of 1)."""
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert_allclose(a, b, rtol=rtol, atol=rtol * (1 + np.abs(np.nan_to_num(b)).max()))


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def strong(tree):
    """The same numbers without weak types, as differences of them come: each type would compile anew."""
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), tree)


def central(fn, theta, eps=1e-5):
    """Central differences of `fn` along every coordinate of `theta`, in the order of `flat`."""
    leaves, tree = jax.tree.flatten(theta)
    cuts = np.cumsum([leaf.size for leaf in leaves])[:-1]

    def at(x):
        parts = zip(np.split(x, cuts), leaves, strict=True)
        new = [jnp.asarray(part.reshape(leaf.shape), leaf.dtype) for part, leaf in parts]
        return float(fn(jax.tree.unflatten(tree, new)))

    x = flat(theta)
    return np.array([(at(x + e) - at(x - e)) / (2 * eps) for e in eps * np.eye(len(x))])

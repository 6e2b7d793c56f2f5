"""A look at the compiler: some releases of jaxlib return wrong numbers on CPU, silently."""

from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np

from ._products import matmul


def check_backend(rows: int = 32769) -> None:
    r"""Compute $\sum_i (M r)_i^2$ for `rows` vectors with `jit(vmap)`, and raise `RuntimeError` if numpy disagrees.

    jaxlib 0.10.2 fails it on CPU (jax-ml/jax issue 39103): sums of squared forces over an ensemble come out wrong.
    thermojax refuses to install beside that release; call this once if you build or choose jaxlib yourself.
    """
    matrix = np.array([[2.0, 0.3, 0.1], [0.3, 1.5, 0.2], [0.1, 0.2, 1.0]], np.float32)
    points = np.linspace(-2, 2, 3 * rows, dtype=np.float32).reshape(rows, 3)

    def square(row: jax.Array) -> jax.Array:
        return jnp.sum(matmul(matrix, row) ** 2)

    got = np.asarray(jax.jit(jax.vmap(square))(points))
    want = (np.matmul(points, matrix.T) ** 2).sum(1)
    wrong = int((~np.isclose(got, want, rtol=1e-4, atol=1e-6)).sum())
    if wrong:
        raise RuntimeError(
            f"This backend computes wrong results: {wrong} of {rows} rows differ from numpy with jaxlib "
            f"{version('jaxlib')} on {jax.default_backend()}. Install another release, e.g. "
            "pip install 'jaxlib!=0.10.2' (see jax-ml/jax issue 39103)."
        )

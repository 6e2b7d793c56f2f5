"""Products of matrices to the last digit of their numbers: by default an accelerator takes those of float32 to three."""

import functools

import jax.numpy as jnp

matmul = functools.partial(jnp.matmul, precision="highest")
einsum = functools.partial(jnp.einsum, precision="highest")
tensordot = functools.partial(jnp.tensordot, precision="highest")

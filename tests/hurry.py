"""Programs that take half the time to compile, and longer to run.

For tests that compile hundreds of small programs, to compare numbers that no optimisation changes by more than rounding:
a file takes the fixture of `conftest` by `pytestmark = pytest.mark.usefixtures("unoptimised")`, and a process of its own
takes `flags()` as its XLA_FLAGS. Options that an XLA does not know are left out.
"""

import contextlib
import functools as ft

import jax
import jax.numpy as jnp
import pytest
from jax._src import compiler

OPTIONS = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}
# for programs that have to run fast: optimised, but for what takes longest to compile
AT_LEISURE = ("xla_llvm_disable_expensive_passes", "xla_cpu_use_fusion_emitters")


@ft.cache
def options():
    """Those of `OPTIONS` that this XLA knows."""

    def known(option):
        try:
            jax.jit(lambda: jnp.zeros(()), compiler_options=option)()
        except jax.errors.JaxRuntimeError:
            return False
        return True

    return {name: value for name, value in OPTIONS.items() if known({name: value})}


def flags():
    return " ".join(f"--{name}={str(value).lower()}" for name, value in options().items())


@contextlib.contextmanager
def hurried():
    """All that is compiled inside, and nothing of it is kept.

    The options are added where JAX makes up its own: XLA_FLAGS would hold for the whole process, and `jax.config` has
    a switch for LLVM only.
    """
    with pytest.MonkeyPatch.context() as patch:
        if hasattr(compiler, "get_compile_options"):
            options()  # before it asks for itself
            usual = compiler.get_compile_options

            def make(*args, **kwargs):
                made = usual(*args, **kwargs)
                taken = {k: v for k, v in options().items() if not leisure or k in AT_LEISURE}
                made.env_option_overrides = [*taken.items(), *made.env_option_overrides]
                return made

            patch.setattr(compiler, "get_compile_options", make)
        yield
    jax.clear_caches()


leisure = []


@contextlib.contextmanager
def at_leisure():
    """What is compiled inside is optimised, for a program that runs for longer than it compiles."""
    leisure.append(True)
    try:
        yield
    finally:
        leisure.pop()

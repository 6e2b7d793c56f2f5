"""Programs that take half the time to compile, and longer to run.

For tests, which compile thousands of small programs to compare numbers that no optimisation changes by more than
rounding: `conftest` asks for it, and a process of its own takes `flags()` as its XLA_FLAGS. Options that an XLA does not
know are left out.
"""

import contextlib
import functools as ft

import jax
import jax.numpy as jnp
from jax._src import compiler
from jax._src.interpreters import mlir

OPTIONS = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}
# for programs that have to run fast: optimised, but for what takes longest to compile
AT_LEISURE = ("xla_llvm_disable_expensive_passes", "xla_cpu_use_fusion_emitters")
LOWERING = ("make_ir_context", "JaxIrContext", "upstream_dialects", "global_thread_pool")
leisure = []


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


def hasten():
    """All that this process compiles from now on.

    The options are added where JAX makes up its own: XLA_FLAGS would hold for `at_leisure` too, and `jax.config` has a
    switch for LLVM only.
    """
    if hasattr(compiler, "get_compile_options"):
        options()  # before it asks for itself
        usual = compiler.get_compile_options

        def make(*args, **kwargs):
            made = usual(*args, **kwargs)
            taken = {k: v for k, v in options().items() if not leisure or k in AT_LEISURE}
            made.env_option_overrides = [*taken.items(), *made.env_option_overrides]
            return made

        compiler.get_compile_options = make
    if all(hasattr(mlir, name) for name in LOWERING):
        mlir.make_ir_context = _context


def _context():
    """What a program is written down in, with the five dialects that it needs and not all that there are."""
    context = mlir.JaxIrContext()
    context.append_dialect_registry(mlir.upstream_dialects)
    context.dialects["func"]
    context.set_thread_pool(mlir.global_thread_pool)
    mlir.dialects.sdy.register_dialect(context)
    mlir.dialects.mpmd.register_dialect(context)
    mlir.dialects.mhlo.register_mhlo_dialect(context)
    mlir.dialects.chlo.register_dialect(context)
    mlir.dialects.hlo.register_dialect(context)
    return context


@contextlib.contextmanager
def at_leisure():
    """What is compiled inside is optimised, for a program that runs for longer than it compiles."""
    leisure.append(True)
    try:
        yield
    finally:
        leisure.pop()


if __name__ == "__main__":
    print(flags())

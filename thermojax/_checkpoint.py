"""A search on disk: written whole or not at all, and read back only by the search that wrote it."""

import hashlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from ._types import PyTree

FORMAT = "thermojax search 1"


class Checkpoint:
    """The file of one search, named by what makes it this search: its start, its key, its options."""

    def __init__(self, path: object, start: PyTree, **options: int | str):
        try:
            self.path = Path(path)  # pyright: ignore[reportArgumentType]
        except TypeError as error:
            raise TypeError(f"checkpoint must be the path of a file, got {path!r}.") from error
        if self.path.is_dir():
            raise ValueError(f"checkpoint must be the path of a file, and {self.path} is a folder.")
        if not self.path.parent.is_dir():
            raise ValueError(
                f"checkpoint: there is no folder {self.path.parent} for {self.path.name}. Make it first."
            )
        self.name = {"format": FORMAT, "start": _digest(start), **options}

    def save(self, tree: PyTree, done: int) -> None:
        """Replace the file by one that holds `tree` after `done` steps, in one atomic move."""
        buffer = io.BytesIO()
        buffer.write(json.dumps({**self.name, "done": done}).encode() + b"\n")
        eqx.tree_serialise_leaves(buffer, _plain(tree))
        new = self.path.with_name(self.path.name + ".new")
        with open(new, "wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self.path)

    def load(self, like: Callable[[int], PyTree]) -> tuple[PyTree, int] | None:
        """What was saved and how many steps it holds, or None if there is no file. `like(done)` is a tree of its shape."""
        if not self.path.exists():
            return None
        with open(self.path, "rb") as file:
            try:
                header = json.loads(file.readline())
                there = {name: header[name] for name in self.name}
                done = int(header["done"])
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{self.path} is not the checkpoint of a search. Choose another name, or remove it."
                ) from error
            other = [name for name in self.name if there[name] != self.name[name]]
            if other:
                was = ", ".join(
                    f"{name} {there[name]!r}, not {self.name[name]!r}" for name in other
                )
                raise ValueError(
                    f"{self.path} is the checkpoint of another search ({was}). Repeat that call to go on with it, choose "
                    "another name, or remove the file."
                )
            shape = like(done)
            try:
                return _typed(eqx.tree_deserialise_leaves(file, _plain(shape)), shape), done
            except (RuntimeError, ValueError, EOFError) as error:
                raise ValueError(
                    f"{self.path} does not hold what this search would save: another optimizer, perhaps. Repeat the first "
                    "call to go on with it, choose another name, or remove the file."
                ) from error


def _is_key(leaf: object) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(tree: PyTree) -> PyTree:
    """Keys as numbers: typed ones cannot be written."""
    return jtu.tree_map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, tree)


def _typed(tree: PyTree, like: PyTree) -> PyTree:
    def back(new: PyTree, old: PyTree) -> PyTree:
        return jax.random.wrap_key_data(new, impl=jax.random.key_impl(old)) if _is_key(old) else new

    return jtu.tree_map(back, tree, like)


def _digest(tree: PyTree) -> str:
    """A fingerprint of a pytree's structure, shapes, dtypes and values."""
    mill = hashlib.sha256()
    for path, leaf in jtu.tree_leaves_with_path(eqx.filter(_plain(tree), eqx.is_array)):
        value = np.asarray(leaf)
        mill.update(f"{jtu.keystr(path)} {value.shape} {value.dtype}".encode() + value.tobytes())
    return mill.hexdigest()[:16]

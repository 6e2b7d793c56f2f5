"""A search on disk: written whole or not at all, and read back only by the search that wrote it."""

import hashlib
import io
import json
import os
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import jax
import jax.tree_util as jtu
import numpy as np

from ._fingerprint import fingerprint, is_key
from ._types import PyTree

FORMAT, FORMER = "thermojax search 2", "thermojax search 1"
CURE = "Repeat that call to go on with it, choose another name, or remove the file."


class Checkpoint:
    """The file of one search, named by what makes it this search: its loss, its start, its key, its options.

    One process owns it at a time: the last that began. Another one that finds itself robbed of it stops.
    """

    def __init__(
        self, path: object, start: PyTree, *, loss: object, optimizer: object, **options: int | str
    ):
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
        inside = {"loss": fingerprint(loss), "optimizer": fingerprint(optimizer)}
        self.name = {"format": FORMAT, "start": fingerprint(start), **inside, **options}
        self.former = {"format": FORMER, "start": _values(start), **options}
        self.owner = uuid.uuid4().hex
        self.owners = {None, self.owner}  # who may have written what is there

    def save(self, tree: PyTree, done: int) -> None:
        """Replace the file by one that holds `tree` after `done` steps, in one atomic move."""
        if self._owner() not in self.owners:
            raise RuntimeError(
                f"{self.path} is being written by another process, which runs this search or took it over: this one stops. "
                "Let that one finish, or give each search a checkpoint of its own."
            )
        buffer = io.BytesIO()
        eqx.tree_serialise_leaves(buffer, _plain(tree))
        header = {**self.name, "done": done, "owner": self.owner}
        header["sum"] = _sum(header, buffer.getvalue())
        new = self.path.with_name(f"{self.path.name}.{self.owner}.new")  # nobody else's
        try:
            with open(new, "wb") as file:
                file.write(json.dumps(header).encode() + b"\n" + buffer.getvalue())
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, self.path)
        finally:
            new.unlink(missing_ok=True)

    def load(self, like: Callable[[int], PyTree]) -> tuple[PyTree, int] | None:
        """What was saved and how many steps it holds, or None if there is no file. `like(done)` is a tree of its shape."""
        if not self.path.exists():
            return None
        with open(self.path, "rb") as file:
            first, rest = file.readline(), file.read()
        try:
            header = json.loads(first)
            name = self.former if header["format"] == FORMER else self.name
            there = {part: header[part] for part in name}
            done, owner = int(header["done"]), header.get("owner")
            written = header.pop("sum", None)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{self.path} is not the checkpoint of a search. Choose another name, or remove it."
            ) from error
        if name is self.name and written != _sum(header, rest):
            raise ValueError(
                f"{self.path} is damaged, and does not hold what this search would save: its checksum is not that of its "
                "content. Restore the file, choose another name, or remove it."
            )
        other = [part for part in name if there[part] != name[part]]
        if other:
            was = ", ".join(f"{part} {there[part]!r}, not {name[part]!r}" for part in other)
            how = "The loss and the optimizer count with their numbers, their code and what that reads. "
            how = how if {"loss", "optimizer"} & {*other} else ""
            raise ValueError(
                f"{self.path} is the checkpoint of another search ({was}). {how}{CURE}"
            )
        if name is self.former:
            warnings.warn(
                f"{self.path} was written by an earlier version, which kept no fingerprint of the loss, nor a checksum: it "
                "is taken for this search's. If the loss or the optimizer may have changed since, remove the file.",
                stacklevel=4,
            )
        shape = like(done)
        try:
            tree = eqx.tree_deserialise_leaves(io.BytesIO(rest), _plain(shape))
        except (RuntimeError, ValueError, EOFError) as error:
            raise ValueError(
                f"{self.path} does not hold what this search would save: another optimizer, perhaps. Repeat the first "
                "call to go on with it, choose another name, or remove the file."
            ) from error
        self.owners.add(owner)
        return _typed(tree, shape), done

    def _owner(self) -> str | None:
        """Who wrote the file that is there; None if nobody says so."""
        try:
            with open(self.path, "rb") as file:
                return json.loads(file.readline()).get("owner")
        except (OSError, ValueError, AttributeError):
            return None


def _sum(header: dict[str, int | str], content: bytes) -> str:
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode() + content).hexdigest()


def _plain(tree: PyTree) -> PyTree:
    """Keys as numbers: typed ones cannot be written."""
    return jtu.tree_map(lambda leaf: jax.random.key_data(leaf) if is_key(leaf) else leaf, tree)


def _typed(tree: PyTree, like: PyTree) -> PyTree:
    def back(new: PyTree, old: PyTree) -> PyTree:
        return jax.random.wrap_key_data(new, impl=jax.random.key_impl(old)) if is_key(old) else new

    return jtu.tree_map(back, tree, like)


def _values(tree: PyTree) -> str:
    """What earlier versions knew a start by: its structure, shapes, dtypes and values."""
    mill = hashlib.sha256()
    for path, leaf in jtu.tree_leaves_with_path(eqx.filter(_plain(tree), eqx.is_array)):
        value = np.asarray(leaf)
        mill.update(f"{jtu.keystr(path)} {value.shape} {value.dtype}".encode() + value.tobytes())
    return mill.hexdigest()[:16]

"""Model-zoo pickles without the danger: numpy arrays and plain containers, and nothing that runs.

A pickle calls whatever it names. Here a name stands for one of this file's own constructors, which
check what they are given, or is refused; numpy's own would take a forged dtype and with it raw
memory for Python objects. Python's unpickler is the base, since the C one lets a single instruction
allocate 64 GB, and its `dispatch` is where an instruction's meaning is changed.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np


def load_plain_pickle(path: str | os.PathLike) -> Any:
    """What a pickle of numpy arrays, dicts, lists, tuples, strings and numbers holds.

    Text of Python 2 is read as latin-1, as Detectron2 does for Caffe2's files.

    Raises:
        pickle.UnpicklingError: it is cut short, names anything else, or is damaged.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        content = file.read()
    try:
        return _PlainUnpickler(io.BytesIO(content), encoding="latin1").load()
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # a damaged pickle can break the machine that reads it anywhere
        raise pickle.UnpicklingError(f"damaged pickle ({type(error).__name__}: {error})") from None


class _PlainUnpickler(pickle._Unpickler):
    dispatch = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        try:
            # numpy 2 moved its insides to numpy._core
            return _ADMITTED[module.replace("numpy._core", "numpy.core"), name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, and only numpy arrays and plain containers are admitted"
            ) from None

    def load_bytearray(self) -> None:
        """Python's own makes room for as much as the pickle says before it reads."""
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(size)))

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray

    def load_setitem(self) -> None:
        _plain_key(self.stack[-2])
        super().load_setitem()

    dispatch[pickle.SETITEM[0]] = load_setitem

    def load_setitems(self) -> None:
        for key in self.stack[::2]:
            _plain_key(key)
        super().load_setitems()

    dispatch[pickle.SETITEMS[0]] = load_setitems

    def load_dict(self) -> None:
        for key in self.stack[::2]:
            _plain_key(key)
        super().load_dict()

    dispatch[pickle.DICT[0]] = load_dict

    def refuse(self) -> None:
        raise pickle.UnpicklingError("only numpy arrays and plain containers are admitted")

    # What makes instances and sets; the hash of nested tuples can take forever.
    for _code in (pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.EXT1,
                  pickle.EXT2, pickle.EXT4, pickle.EMPTY_SET, pickle.FROZENSET):  # fmt: skip
        dispatch[_code[0]] = refuse
    del _code


class _DType:
    """A number type while its pickle is read: kind and size, then the byte order."""

    __slots__ = ("_spec", "_order")

    def __init__(self, spec: str, *_flags: Any) -> None:
        spec = _text(spec)
        if spec[:1] not in tuple("biufc") or not spec[1:].isdecimal() or len(spec) > 3:
            raise pickle.UnpicklingError(f"arrays of type {spec!r} are not admitted, numbers are")
        self._spec, self._order = spec, "="

    def __setstate__(self, state: tuple) -> None:
        self._order = _text(state[1])

    def resolve(self) -> np.dtype:
        return np.dtype(self._spec).newbyteorder(self._order)


class _Array(np.ndarray):
    """An array that checks its state before numpy trusts it."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran_order, raw = state
        dtype = dtype.resolve()
        raw = _bytes(raw)
        if len(raw) != math.prod(shape) * dtype.itemsize:
            raise pickle.UnpicklingError(f"an array of {shape} has {len(raw)} bytes")
        super().__setstate__((1, tuple(shape), dtype, bool(fortran_order), raw))


class _Constructor:
    """A function that a pickle may call and cannot change."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable) -> None:
        object.__setattr__(self, "_call", call)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(name)

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)


def _reconstruct(*_: Any) -> np.ndarray:
    return np.ndarray.__new__(_Array, (0,), "b")


def _from_buffer(raw: Any, dtype: _DType, shape: tuple, order: str) -> np.ndarray:
    array = np.frombuffer(raw, dtype.resolve()).reshape(shape, order=order)
    return array.astype(array.dtype.newbyteorder("="), copy=False)  # as torch needs it


def _scalar(dtype: _DType, raw: bytes | str) -> np.generic:
    (value,) = np.frombuffer(_bytes(raw), dtype.resolve())
    return value


def _ordered(items: Iterable = ()) -> OrderedDict:
    return OrderedDict((_plain_key(key), value) for key, value in items)


def _encode(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"bytes in {encoding!r} are not admitted")
    return text.encode("latin1")


def _plain_key(key: Any) -> Any:
    if not isinstance(key, (str, bytes, int, float, type(None))):
        raise pickle.UnpicklingError(f"a dict has a {type(key).__name__} as a key")
    return key


def _bytes(value: Any) -> bytes:
    """Of a number, `bytes` would make as many zeros."""
    if not isinstance(value, (bytes, bytearray, str)):
        raise pickle.UnpicklingError(f"an array's content is a {type(value).__name__}")
    return value.encode("latin1") if isinstance(value, str) else bytes(value)


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else value


_ADMITTED = {
    ("numpy.core.multiarray", "_reconstruct"): _Constructor(_reconstruct),
    ("numpy.core.multiarray", "scalar"): _Constructor(_scalar),
    ("numpy.core.numeric", "_frombuffer"): _Constructor(_from_buffer),
    ("numpy", "ndarray"): None,  # the first argument of _reconstruct
    ("numpy", "dtype"): _Constructor(_DType),
    ("collections", "OrderedDict"): _Constructor(_ordered),
    # how Python 3 writes bytes for Python 2, those of no length by the second
    ("_codecs", "encode"): _Constructor(_encode),
    ("__builtin__", "bytes"): _Constructor(lambda: b""),
}

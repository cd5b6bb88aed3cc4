"""Pickles of arrays and builtin containers, read without running anything.

numpy's own constructors must not be called by a file: by
``ndarray((1,), dtype('O'), bytes)``, or by the state of a dtype that has
fields of objects, it turns its bytes into pointers, and whoever follows them
crashes or runs code. So a file gets stand-ins of ours. They take dtypes of
numbers, booleans and strings, compare sizes with the bytes that are there,
and are exchanged for numpy's own objects when all is read.
"""

import io
import math
import pickle
import re
import sys
from collections import OrderedDict
from struct import unpack
from typing import Any, ClassVar

import numpy as np

# Kinds of numpy.dtype that hold no pointers.
_KINDS = 'biufcSU'
_CODE = re.compile(
    r'[<>=|]?([?bBhHiIlLqQpPefdgFDG]|[biufc]\d{1,2}|[SU]\d{1,8})'
)


class PlainDtype:
    """Stands in for ``numpy.dtype`` while a pickle is read.

    Args:
        code: Such as ``f4``, as numpy writes it.
        align: Without meaning for dtypes without fields.
        copy: Without meaning here.
    """

    value: np.dtype | None = None

    def __init__(self, code: Any, align: Any = 0, copy: Any = 0) -> None:
        if not isinstance(code, str) or not _CODE.fullmatch(code):
            _refuse(f'a dtype of numbers, booleans or strings, got {code!r}')
        self.value = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        """Take the order of bytes; there is no other state to take."""
        if not isinstance(state, tuple) or len(state) not in (8, 9):
            _refuse('the state of a dtype')
        _, order, *fields, size, _, _ = state[:8]
        dtype = dtype_of(self)
        if (
            order not in ('<', '>', '=', '|')
            or any(field is not None for field in fields)
            or size not in (-1, dtype.itemsize)
            or any(state[8:])
        ):
            _refuse(f'a dtype {dtype} without fields and metadata')
        self.value = np.dtype(order + dtype.str[1:])


class PlainArray:
    """Stands in for ``numpy.ndarray`` while a pickle is read."""

    value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        """Make the array of its shape, dtype and bytes."""
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            _refuse('the state of an array')
        *_, shape, dtype, is_fortran, raw = state
        self.value = make_array(shape, dtype, 'F' if is_fortran else 'C', raw)


def dtype_of(dtype: Any) -> np.dtype:
    """Return the dtype that a stand-in is for.

    It is looked at again: there are ways to set attributes of an object
    from a checkpoint.
    """
    value = dtype.value if type(dtype) is PlainDtype else None
    if not isinstance(value, np.dtype) or value.kind not in _KINDS:
        _refuse('a dtype of numbers, booleans or strings')
    return value


def make_array(shape: Any, dtype: Any, order: str, raw: Any) -> np.ndarray:
    """Make an array of bytes, if they are as many as it has.

    Args:
        shape: A tuple of integers.
        dtype: A stand-in.
        order: ``'C'`` or ``'F'``.
        raw: The bytes; as a string where Python 2 wrote them.

    Raises:
        pickle.UnpicklingError: These are no such things, or do not fit
            together.
    """
    dtype = dtype_of(dtype)
    raw = raw.encode('latin1') if isinstance(raw, str) else raw
    if not isinstance(raw, (bytes, bytearray)):
        _refuse(f'the bytes of an array, got {type(raw).__name__}')
    if not isinstance(shape, tuple) or not all(
        type(length) is int and length >= 0 for length in shape
    ):
        _refuse('a shape of lengths from 0')
    size = math.prod(shape) * dtype.itemsize
    if not dtype.itemsize or size != len(raw):
        _refuse(
            f'{size:,} bytes of an array of shape {shape} and dtype {dtype}, '
            f'got {len(raw):,}'
        )
    if dtype.kind == 'U' and raw:
        codes = np.frombuffer(raw, f'{dtype.byteorder}u4')
        if codes.max() > sys.maxunicode:
            _refuse('strings of characters')
    return np.ndarray(shape, dtype, bytes(raw), order=order).copy(order)


def rebuild_array(kind: Any, shape: Any, code: Any) -> PlainArray:
    """Stand in for ``_reconstruct``: an array whose state is to come."""
    if kind is not PlainArray:
        _refuse('the kind of array that is numpy.ndarray')
    return PlainArray()


def rebuild_scalar(dtype: Any, raw: Any) -> np.generic:
    """Stand in for ``scalar``."""
    return make_array((), dtype, 'C', raw)[()]


def rebuild_from_buffer(
    raw: Any, dtype: Any, shape: Any, order: Any, axes: None = None
) -> PlainArray:
    """Stand in for ``_frombuffer``, of which protocol 5 makes use."""
    if order not in ('C', 'F') or axes is not None:
        _refuse('an array in the order of C or of Fortran')
    array = PlainArray()
    array.value = make_array(shape, dtype, order, raw)
    return array


def encode_latin1(text: Any, encoding: Any) -> bytes:
    """Stand in for ``_codecs.encode``, as bytes are written by protocol 2."""
    if not isinstance(text, str) or encoding != 'latin1':
        _refuse(f'bytes written as latin1, got {encoding!r}')
    return text.encode('latin1')


def no_bytes() -> bytes:
    """Stand in for ``bytes``: none at all are written by protocol 2."""
    return b''


#: What a file may call, by the name that it calls it by. Old and new are
#: the names of numpy 1 and 2, and of Python 2 and 3.
STAND_INS = {
    '__builtin__.bytes': no_bytes,
    'builtins.bytes': no_bytes,
    '_codecs.encode': encode_latin1,
    'collections.OrderedDict': OrderedDict,
    'numpy.dtype': PlainDtype,
    'numpy.ndarray': PlainArray,
    **{
        f'numpy.{core}.{name}': stand_in
        for core in ('core', '_core')
        for name, stand_in in (
            ('multiarray._reconstruct', rebuild_array),
            ('multiarray.scalar', rebuild_scalar),
            ('numeric._frombuffer', rebuild_from_buffer),
        )
    },
}


class PlainUnpickler(pickle._Unpickler):
    """Builds arrays and builtin containers only.

    The unpickler that is written in Python, because its opcodes can be
    limited: registered extensions are not looked up, a state is set for
    stand-ins only, and no memory is asked for that the file cannot fill.
    """

    dispatch: ClassVar = {
        opcode: run
        for opcode, run in pickle._Unpickler.dispatch.items()
        if opcode not in (pickle.EXT1[0], pickle.EXT2[0], pickle.EXT4[0])
    }

    def find_class(self, module: str, name: str) -> Any:
        """Give a stand-in.

        Raises:
            pickle.UnpicklingError: There is none.
        """
        try:
            return STAND_INS[f'{module}.{name}']
        except KeyError:
            raise pickle.UnpicklingError(
                f'it wants to run {module}.{name}, which no array needs'
            ) from None

    def load_build(self) -> None:
        """Set a state, if it is a stand-in's."""
        if type(self.stack[-2]) not in (PlainArray, PlainDtype):
            _refuse('states of arrays and dtypes only')
        super().load_build()

    def load_bytearray8(self) -> None:
        """Read bytes before memory is asked for."""
        (size,) = unpack('<Q', self.read(8))
        self.append(bytearray(self.read(size)))

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8


def read_pickle(data: bytes) -> Any:
    """Read a pickle of Python 2 or 3, whoever made it.

    Args:
        data: The content of the file.

    Returns:
        Builtin containers of strings, numbers and numpy arrays.

    Raises:
        pickle.UnpicklingError: It is no pickle, or holds something else;
            nothing of it was run.
    """
    unpickler = PlainUnpickler(io.BytesIO(data), encoding='latin1')
    try:
        return exchange(unpickler.load())
    except pickle.UnpicklingError:
        raise
    except Exception as error:
        # A damaged stream of opcodes may raise anything.
        raise pickle.UnpicklingError(
            f'it is damaged or no pickle ({type(error).__name__}: {error})'
        ) from error


def exchange(content: Any, kinds: tuple[type, ...] = ()) -> Any:
    """Exchange stand-ins for what they stand for.

    Args:
        content: What was read. Lists, dicts and objects change in place.
        kinds: Classes whose objects may hold stand-ins in attributes.

    Returns:
        The content without stand-ins.

    Raises:
        pickle.UnpicklingError: An array was never given its bytes.
        RecursionError: It is nested too deeply.
    """
    return _Exchange(kinds).of(content)


class _Exchange:
    """Goes through everything once, however often it is referred to."""

    def __init__(self, kinds: tuple[type, ...]) -> None:
        self.kinds = kinds
        # Results by id, with the original, lest its id goes to another.
        self.done: dict[int, tuple[Any, Any]] = {}

    def of(self, value: Any) -> Any:
        """Give plain content for what was read, once for each object."""
        if isinstance(value, PlainDtype):
            return dtype_of(value)
        if isinstance(value, PlainArray):
            if not isinstance(value.value, np.ndarray):
                _refuse('the bytes of an array')
            return value.value
        if id(value) not in self.done:
            self.done[id(value)] = value, value
            if type(value) is tuple:
                self.done[id(value)] = value, self._tuple(value)
            else:
                self._fill(value)
        return self.done[id(value)][1]

    def _tuple(self, value: tuple) -> tuple:
        items = tuple([self.of(item) for item in value])
        is_same = all(a is b for a, b in zip(items, value, strict=True))
        return value if is_same else items

    def _fill(self, value: Any) -> None:
        if isinstance(value, list):
            value[:] = [self.of(item) for item in value]
        elif isinstance(value, dict):
            for key, item in list(dict.items(value)):
                dict.__setitem__(value, key, self.of(item))
        elif isinstance(value, self.kinds) and hasattr(value, '__dict__'):
            self.of(vars(value))


def _refuse(expected: str) -> None:
    raise pickle.UnpicklingError(f'expected {expected}')

"""Functions of the C library, without ``ctypes``, whose import would take a tenth of the agent's start."""

from __future__ import annotations

import _ctypes

CDECL = 1  # the calling convention; the interpreter's lock is released meanwhile


class Integer(_ctypes._SimpleCData):  # type: ignore[type-arg]
    """``int``."""

    _type_ = "i"


class Pointer(_ctypes._SimpleCData):  # type: ignore[type-arg]
    """``void *``, ``size_t`` and ``off_t``."""

    _type_ = "P"


class ForInteger(_ctypes.CFuncPtr):
    """A function that returns an ``int``."""

    _flags_ = CDECL
    _restype_ = Integer


class ForPointer(_ctypes.CFuncPtr):
    """A function that returns a pointer: an integer, or ``None``."""

    _flags_ = CDECL
    _restype_ = Pointer


def address(name: str) -> int:
    """The address of a function of the C library or of the interpreter."""
    return _ctypes.dlsym(_ctypes.dlopen(None, 0), name)  # type: ignore[arg-type]

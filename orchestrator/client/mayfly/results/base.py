"""Answers of the API as frozen objects, and the readers of their parts. Raises :class:`NotMayfly` for other servers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, ClassVar, Generic, NoReturn, Self, TypeVar, dataclass_transform

from mayfly.errors import NotMayfly

Document = Mapping[str, Any]
T = TypeVar("T")
EMPTY: Document = MappingProxyType({})


@dataclass_transform(frozen_default=True)
class Result:
    """Part of an answer: a frozen dataclass to programs and type checkers.

    It does not use :func:`dataclasses.dataclass`, whose generated code takes a twentieth of the ``mayfly`` command's
    start.
    """

    document: Document = EMPTY
    __match_args__: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls.__match_args__ = tuple(cls.__annotations__)  # type: ignore[misc]  # as dataclasses have it

    def __init__(self, *values: Any, **named: Any) -> None:
        given = dict(zip(self.__match_args__, values, strict=False)) | named
        wanted = [name for name in self.__match_args__ if name not in given and not hasattr(type(self), name)]
        unknown = given.keys() - set(self.__match_args__)
        if wanted or unknown or len(given) < len(values) + len(named):
            raise TypeError(f"{type(self).__name__} has the fields {', '.join(self.__match_args__)}")
        self.__dict__.update(given)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"{type(self).__name__}.{name} does not change")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        shown = zip(self.__match_args__, self._values(), strict=True)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown if name != 'secret')})"

    def _values(self) -> list[Any]:
        return [getattr(self, name) for name in self.__match_args__]

    @classmethod
    def read(cls, document: Document, **converted: Any) -> Self:
        """Read this class's fields; ``converted`` take precedence. Raises :class:`NotMayfly` without ``id``."""
        known = {name: document[name] for name in cls.__match_args__ if name in document}
        try:
            result = cls(**known | converted)
        except TypeError as error:
            raise NotMayfly(f"The server is not a Mayfly API: {error}; it has {', '.join(known)}.") from error
        result.__dict__["document"] = document
        return result


class Page(Result, Generic[T]):
    """Part of a list. ``next_cursor`` continues a list with further items, ``follow_cursor`` also with items still to
    come.
    """

    items: tuple[T, ...] = ()
    next_cursor: str | None = None
    follow_cursor: str | None = None


def member(document: Document, name: str) -> Any:
    """A member that an answer must have. Raises :class:`NotMayfly`."""
    if name not in document:
        raise NotMayfly(f"The server is not a Mayfly API: {name} is missing.")
    return document[name]


def items(document: Document, read: Callable[[Document], T]) -> tuple[T, ...]:
    """The items of a list, each read. Raises :class:`NotMayfly`."""
    return tuple(map(read, member(document, "items")))


def time_of(text: str | None) -> datetime | None:
    """A time of an answer. Raises :class:`NotMayfly`."""
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError as error:
        raise NotMayfly(f"The server is not a Mayfly API: {error}.") from error

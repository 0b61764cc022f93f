"""How a table is made from the struct that types its rows, so that a column's name is spelled once.

Law: definitions only; no queries. The Python type of a field gives the type of its column, `None` in it
makes the column nullable, and any other default is the column's default in the database, too. A column
that holds a word of an enum has a CHECK made from that enum, so that the database refuses what the
vocabulary does not know. Times are unix seconds. The same definitions compile for SQLite and PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from types import NoneType
from typing import Annotated, Any, TypeAlias, get_args, get_origin

import msgspec
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.schema import SchemaItem
from sqlalchemy.types import TypeEngine

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Row(msgspec.Struct, frozen=True):
    """Base of the structs that type the rows of a table."""


Kind: TypeAlias = type[TypeEngine[Any]] | TypeEngine[Any]


class ColumnOptions:
    """What a column has beyond what the type of its field says. Made by `column`."""

    def __init__(self, kind: Kind | None, refers_to: str, options: dict[str, Any]) -> None:
        self.kind = kind
        self.refers_to = refers_to
        self.options = options


def column(*, kind: Kind | None = None, refers_to: str = "", **options: Any) -> ColumnOptions:
    """The options of a column, for an `Annotated` field.

    Args:
        kind: its type, where it is not the usual one of the field's Python type.
        refers_to: the `table.column` whose values it may hold.
        options: of SQLAlchemy's `Column`.
    """
    return ColumnOptions(kind, refers_to, options)


_SEQUENCE = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up INTEGER keys only
_JSON = JSON().with_variant(JSONB(), "postgresql")
_KINDS: dict[Any, Kind] = {
    str: String,
    int: Integer,
    float: Double,
    bool: Boolean,
    list: _JSON,
    dict: _JSON,
}

Sequence = Annotated[int, column(kind=_SEQUENCE, primary_key=True, autoincrement=True)]
"""A key that the database counts up."""

BigInt = Annotated[int, column(kind=BigInteger)]
Key = Annotated[str, column(primary_key=True)]
IntKey = Annotated[int, column(primary_key=True, autoincrement=False)]
NumberedKey = Annotated[int, column(kind=_SEQUENCE, primary_key=True, autoincrement=False)]
"""A part of a key that another table counts up."""

BoolKey = Annotated[bool, column(primary_key=True, autoincrement=False)]


def table(name: str, row: type[Row], *items: SchemaItem, **options: Any) -> Table:
    """The table whose rows are `row`s.

    Args:
        name: of the table.
        row: its struct; one field is one column.
        items: constraints and indexes.
        options: of SQLAlchemy's `Table`.
    """
    columns: list[SchemaItem] = []
    checks: list[SchemaItem] = []
    for field in msgspec.structs.fields(row):
        python_type, more = field.type, column()
        if get_origin(python_type) is Annotated:
            python_type, more = get_args(python_type)
        nullable = NoneType in get_args(python_type)
        plain = get_args(python_type)[0] if nullable else python_type
        is_word = isinstance(plain, type) and issubclass(plain, StrEnum)
        kind = more.kind or (String if is_word else _KINDS[get_origin(plain) or plain])
        given = field.default not in (msgspec.NODEFAULT, None)
        default = str(field.default) if given else None
        known = {"nullable": nullable, "server_default": default, **more.options}
        keys = [ForeignKey(more.refers_to)] if more.refers_to else []
        columns.append(Column(field.name, kind, *keys, **known))
        if is_word:
            checks.append(one_of(field.name, plain))
    return Table(name, metadata, *columns, *checks, *items, **options)


def one_of(name: str, words: Iterable[StrEnum]) -> CheckConstraint:
    """The column holds one of these words (or NULL, where it is nullable)."""
    listed = ", ".join(f"'{word}'" for word in words)
    return CheckConstraint(f'"{name}" IN ({listed})', name=f"{name}_word")

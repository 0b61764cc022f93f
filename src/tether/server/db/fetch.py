"""Rows as typed structs, out of what a query selects.

Law: reads only; the one place where a row of the database becomes a struct. A query may select more than
the struct has.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec
from sqlalchemy import Executable
from sqlalchemy.ext.asyncio import AsyncConnection

T = TypeVar("T", bound=msgspec.Struct)


async def fetch_one(tx: AsyncConnection, query: Executable, kind: type[T]) -> T | None:
    """The one row that the query selects, or None."""
    row = (await tx.execute(query)).mappings().one_or_none()
    return None if row is None else msgspec.convert(row, kind)


async def fetch_all(tx: AsyncConnection, query: Executable, kind: type[T]) -> list[T]:
    """The rows that the query selects, in its order."""
    return [msgspec.convert(row, kind) for row in (await tx.execute(query)).mappings()]

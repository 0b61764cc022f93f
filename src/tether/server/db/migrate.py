"""Brings a database to the newest schema, through Alembic's API, without configuration files.

Law: synchronous, on a connection whose transaction the caller began and commits: a migration that
fails leaves the database as it was.
"""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

SCRIPTS = "tether.server.db:migrations"


def migrate(connection: Connection, revision: str = "head") -> None:
    """Upgrade the database behind `connection` to `revision`.

    Raises:
        alembic.util.CommandError: the database is at a revision that this version does not know.
    """
    command.upgrade(alembic_config(connection), revision)


def alembic_config(connection: Connection) -> Config:
    """What Alembic's commands need to work on the database behind `connection`."""
    config = Config()
    config.set_main_option("script_location", SCRIPTS)
    config.attributes["connection"] = connection
    return config

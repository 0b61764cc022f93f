"""Alembic's scripts, packaged with the server and run by `store.py` at its start."""

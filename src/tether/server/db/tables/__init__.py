"""The tables of the server's database, by subject."""

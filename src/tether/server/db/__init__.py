"""The server's database: its tables, its writer, its migrations."""

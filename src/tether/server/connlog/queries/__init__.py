"""Reading the connection log: lists, one connection explained, breakdowns."""

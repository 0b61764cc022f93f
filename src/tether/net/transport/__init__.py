"""Sockets and WebSockets as message streams, with the true end of each."""

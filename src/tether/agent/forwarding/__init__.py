"""Forwarded ports and sockets of SSH connections: allowed or refused, carried, counted, recorded."""

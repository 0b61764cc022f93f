"""Forwarded ports and sockets of SSH connections: judged, carried, counted, recorded."""

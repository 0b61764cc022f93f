"""Runs a link over a message stream: handshake, driver, and the evidence of how it ended."""

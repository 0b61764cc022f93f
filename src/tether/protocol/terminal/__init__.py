"""Attaching to a terminal that outlives its clients: the messages and the machine."""

"""Reconnecting terminals: one process, one screen, any number of viewers."""

"""Runs a tunnel over its carriers: one message stream that outlives them."""

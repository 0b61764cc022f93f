"""A DERP relay as a program of its own: its links, its limits, its end."""

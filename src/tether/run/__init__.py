"""Composition roots: read settings, build, wire, run, stop. No decisions of the domain."""

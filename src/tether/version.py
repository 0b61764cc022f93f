"""The version of this build, in one place (pyproject reads it from here)."""

VERSION = "0.1.0"

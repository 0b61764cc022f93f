"""Tether: remote workspaces that never leave people guessing why they were cut off."""

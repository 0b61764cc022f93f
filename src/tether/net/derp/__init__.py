"""The DERP relay, its tickets and numbers, and how far its regions are."""

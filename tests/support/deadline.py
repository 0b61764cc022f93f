"""For how long tests wait for what must come."""

DEADLINE_S = 90.0
"""After so long, on a machine however busy, it does not come. No test waits so long to see that nothing
happens, and none measures how long something took: `make bench` does."""

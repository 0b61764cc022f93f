"""What the agent has to report, safe on the disk before anybody relies on it."""

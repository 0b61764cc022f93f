"""The agent's tunnels: accepted, served, remembered, reported."""

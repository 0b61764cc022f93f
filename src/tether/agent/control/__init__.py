"""The agent's way to the server: control link, coordination, reports, home region."""

"""What this client saw, kept for the server."""

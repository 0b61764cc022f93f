"""The client's control link, and its coordination."""

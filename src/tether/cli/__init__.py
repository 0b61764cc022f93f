"""The client's commands. Every command is imported only when it runs."""

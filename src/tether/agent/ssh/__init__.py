"""The SSH server of the agent: connections, sessions, subsystems."""

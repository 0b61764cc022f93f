"""Processes of sessions and terminals: started, fed, signalled, reaped."""

"""Where else on this machine a program may listen that a client looks for on loopback.

Law: a value. A client that writes `127.0.0.1` or `localhost` means the machine: it cannot know which
family a dev server has chosen, and many listen on `[::1]` alone.
"""

OTHER_LOOPBACK = {"127.0.0.1": "::1", "localhost": "::1", "::1": "127.0.0.1"}
"""What to try where the first refuses."""

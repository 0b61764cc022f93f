"""The emulated screens of terminals, in a process of their own."""

"""Which carriers a client looks for and which one it uses, as a machine."""

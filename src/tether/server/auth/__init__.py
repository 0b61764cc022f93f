"""Users, tokens and keys: who may come in, and the proof of it."""

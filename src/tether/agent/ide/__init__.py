"""IDE sessions: which forwarded connections are one IDE at one backend."""

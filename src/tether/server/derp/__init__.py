"""The DERP map: which relays there are, and which one is to be used."""

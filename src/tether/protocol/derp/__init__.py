"""DERP regions and relays: which one is near, which legs belong together, what is still to be told."""

"""`tether attach`: a terminal in a workspace that survives its client."""

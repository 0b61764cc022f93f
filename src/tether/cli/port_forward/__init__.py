"""`tether port-forward`: ports of a workspace on this machine."""

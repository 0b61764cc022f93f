"""`tether ping`, `tether speedtest` and `tether netcheck`."""

"""`tether ssh`, `tether ssh --stdio` and `tether config-ssh`."""

"""One end of a tunnel: a numbered, resumable stream over carriers that come and go, as a machine."""

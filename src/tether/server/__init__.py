"""The control plane: identities, coordination, relay, and the record of every disconnect."""

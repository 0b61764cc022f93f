"""A laboratory: hosts in network namespaces, real programs in them, and faults that can be undone."""

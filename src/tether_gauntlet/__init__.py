"""Tries Tether from outside: ends real connections in every way, in a laboratory of network namespaces.

Law: may import `tether`, which never imports this. The product is used by its commands, as anybody could
use it.
"""

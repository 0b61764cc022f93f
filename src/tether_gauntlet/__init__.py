"""What stands beside Tether to try it: a laboratory of network namespaces, and what is done in it.

Law: may use `tether`; `tether` never uses this. It sees the product from outside, by its commands.
"""

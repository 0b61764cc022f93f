"""The causes of ends: one row each, one module for each party or subject, one catalogue of all."""

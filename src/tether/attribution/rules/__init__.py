"""From facts to a cause: the rules, one module for each kind of evidence, one table of all."""

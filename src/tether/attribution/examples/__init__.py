"""One reachable case for each rule. Docs, benchmarks and tests read them."""

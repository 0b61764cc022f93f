"""This machine as a witness: sleep, addresses, routes, pressure, kills. Facts, no verdicts."""

"""The control links of agents, clients and relays, and what is arranged over them."""

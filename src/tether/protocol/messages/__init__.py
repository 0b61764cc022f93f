"""What travels on links and tunnels: one typed struct a message, and the one codec."""

"""What may stand between the parties: real proxies and load balancers, and one that misbehaves."""

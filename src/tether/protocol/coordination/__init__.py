"""Who is where: the coordinator of a server, and the side that asks it, as machines."""

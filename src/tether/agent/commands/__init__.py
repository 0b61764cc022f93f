"""What a session runs, as far as its command line tells, and what the workspace's policy forbids."""

"""Who and what there is: login, users, tokens, workspaces, version."""

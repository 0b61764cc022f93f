"""The agent: runs inside a workspace, ends SSH there, and knows why every connection ended."""

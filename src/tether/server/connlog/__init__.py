"""The connection log: evidence goes in, judged rows and their revisions come out."""

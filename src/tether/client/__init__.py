"""What dials, carries and reports for a person: everything of the client but its commands."""

"""What rules ask of a case: small named questions that print themselves."""

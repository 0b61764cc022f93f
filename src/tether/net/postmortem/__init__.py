"""What a program leaves behind, so that its next start can say how it ended."""

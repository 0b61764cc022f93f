"""Sans-IO machines: (message | bytes | time) in, commands out. Imports attribution only."""

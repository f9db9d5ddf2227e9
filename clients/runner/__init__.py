"""Parts of run.py: it builds the programs, runs a server and the programs, and judges what they print."""

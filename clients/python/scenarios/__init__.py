"""What the program can be asked to do: one module per scenario."""

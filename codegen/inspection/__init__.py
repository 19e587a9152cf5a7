"""Looking inside a compiled function: its stages, and what its code executes and touches at given sizes."""

"""What is known of loops before they are written: uses of scalars, strips, rows side by side, places in memory."""

"""How work arrives: the seam for message sources, and the local queue."""

"""Where promises live: the seam every store satisfies, and the stores themselves."""

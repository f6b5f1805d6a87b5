"""HTTP as a store needs it: one session, its retries, what its answers mean."""

"""What tests of durable programs need: virtual time, simulated crashes."""

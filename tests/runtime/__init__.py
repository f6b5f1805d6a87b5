"""What the asyncio shell does with bodies, seen through a client (DESIGN §5)."""

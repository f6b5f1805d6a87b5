"""Durable async/await for Python, native to asyncio."""

"""The asyncio shell: it carries out what the execution machine decides.

`scheduler` feeds events in and commands out through one queue, `bodies` drives user
functions, `awaitables` is the only file that suspends a user's frame, `worker` holds leases.
Nothing here chooses a concrete store.
"""

"""The words on the wire, pure: records, requests, replies, messages, ids, addresses, values.

Imports nothing of ours but `errors`; knows no store, no loop, no clock.
"""

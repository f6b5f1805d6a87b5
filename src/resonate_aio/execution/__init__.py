"""The execution machine, pure: what a worker does with one durable function.

Events come in as method calls named like what happened (`called`, `asked`, `arrived`,
`interrupted`, `returned`); decisions go out as small constants. Time is an argument; there
is no await, no clock, no randomness and no logging here. It never imports `machine`.
"""

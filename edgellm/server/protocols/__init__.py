"""What clients speak: a file here is a protocol, which app.py finds.

Each defines `ROUTES`, a sequence of Starlette's routes. It may define `OPEN`, the paths that need no key (one that
ends in `*` stands for all that begin so), and `error_body(status, message, *, type, code, param)`, the form of its
errors where it is not OpenAI's. Requests are read with `schema.read`, jobs are run with `running.events` or
`running.collect`, answers stream as `sse.EventStream`; errors are raised, and told by errors.py.
"""

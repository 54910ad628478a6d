"""Hooks of a run, which recipes list in `custom_hooks`.

`losses` averages the loss, `finite` stops before a step that would learn from NaN, `seeding` makes
random numbers reproducible, `unreadable` stops at too many bad images, `loading_time` warns of slow
loading, `compiling` is what `--compile` adds, `updates` steps schedulers once per update, `saving`
writes checkpoints, `stopping` ends a run at a signal, `record` writes into checkpoints what
`resuming` reads, `history` keeps them small. `speed` and `gradient_norm` add numbers to the log,
`pictures` draws masks and losses, `tracking` lets trackers go on with the curves of a resumed run.
"""

"""The long halves of the promises in docs/reliability.md: each script prints `n of n`."""

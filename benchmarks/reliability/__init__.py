"""Scripts that damage, kill and attack, behind the counts of docs/reliability.md."""

"""One self-contained HTML page for a work directory, a results file, or the demo."""

"""How long a run is, in updates of the total batch, and the rates it has."""

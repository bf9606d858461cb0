"""The command ``cdir`` of the `cms` shell."""

"""The command ``storage`` of the `cms` shell."""

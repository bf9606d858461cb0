"""The command ``vdir`` of the `cms` shell."""

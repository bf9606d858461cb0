"""One module a kind, found by the entry point group ``cloudmesh.storage``; each imports its SDK when it is used."""

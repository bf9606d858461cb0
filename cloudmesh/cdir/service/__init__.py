"""The REST service: the operations of the commands as routes, files by URL, and jobs."""

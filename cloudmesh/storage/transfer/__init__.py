"""Moving files between services: a plan of steps, an engine that does them in parallel, and events that tell of it."""

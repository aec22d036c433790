"""The server of the labelling page: what is asked by HTTP, and who may ask it."""

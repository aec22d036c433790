"""What learns from a store's labels while people work on them: scores of all footprints, the blind sample's figures."""

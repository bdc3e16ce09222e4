"""Where the paper venue's market comes from: `replay` reads recordings, `generated` makes one up."""

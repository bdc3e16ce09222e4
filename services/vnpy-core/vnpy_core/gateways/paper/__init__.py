"""The paper gateway: an embedded venue that trades on a recorded or generated market.

`model` has the words, `venue` matches (and knows nothing of VnPy), `ledger` keeps it on disk, `feeds` bring the market,
`gateway` is the VnPy face.
"""

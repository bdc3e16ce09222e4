"""Ticks and bars for years: `embedded` on this disk, `influx` on a server, and the recorder that fills them."""

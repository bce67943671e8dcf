"""Model cards, the asset cache, and the networks that come from them."""

"""The networks and a gallery over HTTP, and the page that shows them."""

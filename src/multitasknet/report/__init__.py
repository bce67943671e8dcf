"""Self-contained HTML pages: pictures, charts and templates."""

"""Everything that `bellwire dev` starts by itself: Postgres, the broker, and the supervisor over them."""

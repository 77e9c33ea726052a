"""A small, exact driving world: traffic, scenarios, six-camera renderer, expert, dataset writer and closed loop."""

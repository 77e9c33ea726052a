"""The vehicle's room: camera input, set assembly, ego motion, supervision, and the lifecycle node that plans."""

"""Where ours differs from MLflow's own server on purpose: (area, a pattern of the request, why)."""

ACCEPTED = []

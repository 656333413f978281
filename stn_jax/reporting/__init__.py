"""Tables and figures from run records; reads files only, and needs neither JAX nor the models."""

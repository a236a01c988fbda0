"""What a unit contains and how it is generated: noise paths, solvers, context transforms and objectives."""

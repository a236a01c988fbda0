"""What a unit is: paths, steppers, context transforms and objectives."""

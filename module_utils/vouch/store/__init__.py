"""Results and enrolments on the controller."""

"""The port authority of a guest: who it is, whom it accepts, and the channels that follow from it."""

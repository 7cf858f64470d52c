//! Short stories about single decisions. The laws are played by the simulation.

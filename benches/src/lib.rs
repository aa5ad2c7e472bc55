//! Benchmarks of Headpond against its baselines.

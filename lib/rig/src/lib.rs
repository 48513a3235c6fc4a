//! Starts real peers in temporary folders for tests and benchmarks.

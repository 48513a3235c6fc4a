//! Measures ours beside the peers and the floors.

//! What every daemon does: listeners, privileges, limits, shutdown, logs.

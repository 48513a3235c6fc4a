//! The wires: bytes in, types out.

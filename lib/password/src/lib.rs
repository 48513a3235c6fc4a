//! Stored password schemes: verify and create.

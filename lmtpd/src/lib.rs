//! LMTP delivery to Maildir.

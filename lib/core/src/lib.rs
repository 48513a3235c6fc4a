//! Addresses, accounts, verdicts, the authenticator, the cache.

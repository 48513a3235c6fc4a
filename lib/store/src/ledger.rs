//! What logins write into the account database.

use crate::query::Value;
use crate::{Store, WriteError};
use mailsql_core::ledger::{Ledger, NotWritten, Writing};
use mailsql_core::{Address, Unavailable};
use std::net::IpAddr;

impl Ledger for Store {
    fn replace_password<'a>(&'a self, address: &'a Address, old: &'a str, new: &'a str) -> Writing<'a, bool> {
        Box::pin(async move { Store::replace_password(self, address, old, new).await.map_err(not_written) })
    }

    fn note_use<'a>(&'a self, id: i64, at: i64, client: Option<IpAddr>) -> Writing<'a, ()> {
        Box::pin(async move {
            let from: Value = client.map_or(Value::Null, |client| client.to_string().as_str().into());
            let given = [("id", Value::Int(id)), ("used_at", Value::Int(at)), ("used_from", from)];
            match self.write("note_app_password", &given, "app password", "").await {
                // Removed meanwhile.
                Ok(()) | Err(WriteError::Missing(..)) => Ok(()),
                Err(error) => Err(not_written(error)),
            }
        })
    }
}

fn not_written(error: WriteError) -> NotWritten {
    match error {
        WriteError::Unavailable(trouble) => NotWritten::Unavailable(trouble),
        WriteError::Exists(text) | WriteError::Missing(text, _) => NotWritten::Unavailable(Unavailable::new(text)),
        error @ (WriteError::NotMigrated(_) | WriteError::Denied(_) | WriteError::ReadOnly(..)) => {
            NotWritten::Denied(error.to_string())
        }
    }
}

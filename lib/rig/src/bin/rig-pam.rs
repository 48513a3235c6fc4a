//! Runs one scripted PAM transaction for [`mailsql_rig::pam::Call`]: script in, prompts and codes out.

#![forbid(unsafe_code)]

use std::io::{Read, Write};

fn main() -> anyhow::Result<()> {
    let mut script = String::new();
    std::io::stdin().read_to_string(&mut script)?;
    let printed = mailsql_rig::pam::serve_call(&script)?;
    std::io::stdout().write_all(printed.as_bytes())?;
    Ok(())
}

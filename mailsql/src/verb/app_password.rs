//! `mailsql user app-password`: passwords of single devices and programs.
//!
//! They are made here, never chosen: 100 random bits, in groups that can be typed from paper. So one salted SHA-512 is
//! enough to store them (nobody guesses 100 bits, however fast), and a login with one costs no slow hash.

use super::user::{find, now};
use crate::arguments::AppPassword;
use crate::outcome::Outcome;
use crate::print;
use crate::site::{Site, address};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mailsql_core::{Directory, Network};
use mailsql_store::NewAppPassword;
use serde_json::json;
use sha2::{Digest, Sha512};
use std::path::Path;
use zeroize::{Zeroize, Zeroizing};

/// Characters that nobody takes for one another; 32 of them, so that five bits make one.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// Characters of a password: 100 bits.
const LENGTH: usize = 20;
/// Characters between two hyphens.
const GROUP: usize = 4;
/// Bytes of salt.
const SALT: usize = 16;
/// Longest label.
const LABEL_MAX: usize = 64;

pub(crate) async fn run(config: &Path, verb: AppPassword) -> Result<(), Outcome> {
    match verb {
        AppPassword::Add { address: text, label, service, network, expires, json } => {
            let address = address(&text)?;
            if label.trim().is_empty() || label.chars().count() > LABEL_MAX {
                return Err(Outcome::usage(format!("a label has 1 to {LABEL_MAX} characters")));
            }
            for word in network.iter().filter(|word| !word.eq_ignore_ascii_case("local")) {
                word.parse::<Network>().map_err(Outcome::usage)?;
            }
            let site = Site::open_to_write(config)?;
            find(&site, &address).await?;
            let now = now();
            let expires_at =
                expires.map(|time| now.saturating_add(i64::try_from(time.0.as_secs()).unwrap_or(i64::MAX)));
            let password = random();
            let hash = hash(password.as_bytes());
            let services: Vec<String> = service.iter().map(|word| word.trim().to_lowercase()).collect();
            let new = NewAppPassword {
                label: &label,
                hash: &hash,
                services: &services,
                allow_nets: &network,
                expires_at,
                created_at: now,
            };
            site.store.add_app_password(&address, &new).await?;
            site.flush(address.as_str());
            let shown = grouped(&password);
            if json {
                return print::one(
                    &["address", "label", "password"],
                    &[json!(text), json!(label), json!(*shown)],
                    true,
                );
            }
            print::line(&shown)
        }
        AppPassword::List { address: text, json } => {
            let address = address(&text)?;
            let site = Site::open(config)?;
            let account = find(&site, &address).await?;
            let list = |words: &Option<Vec<Box<str>>>| json!(words.as_ref().map(|words| words.join(",")));
            let moment = |at: Option<i64>| json!(at.map(print::moment));
            let rows: Vec<_> = site
                .store
                .app_passwords(&account.address.folded())
                .await?
                .iter()
                .map(|app| {
                    vec![
                        json!(app.label),
                        list(&app.services),
                        list(&app.allow_nets),
                        moment(app.expires_at),
                        moment(app.created_at),
                        moment(app.last_used_at),
                        json!(app.last_used_from),
                    ]
                })
                .collect();
            let header =
                ["label", "services", "networks", "expires_at", "created_at", "last_used_at", "last_used_from"];
            print::rows(&header, &rows, json)
        }
        AppPassword::Remove { address: text, label } => {
            let address = address(&text)?;
            let site = Site::open_to_write(config)?;
            site.store.remove_app_password(&address, &label).await?;
            site.flush(address.as_str());
            print::line(&format!("app password \"{label}\" of {address} removed"))
        }
    }
}

/// A new password, without its hyphens.
fn random() -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0_u8; LENGTH]);
    mailsql_password::os_random(&mut *bytes);
    Zeroizing::new(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect())
}

fn grouped(password: &str) -> Zeroizing<String> {
    let mut shown = Zeroizing::new(String::with_capacity(LENGTH + LENGTH / GROUP));
    for (at, character) in password.chars().enumerate() {
        if at > 0 && at % GROUP == 0 {
            shown.push('-');
        }
        shown.push(character);
    }
    shown
}

/// `{SSHA512}` of a password.
fn hash(password: &[u8]) -> String {
    let mut salt = [0; SALT];
    mailsql_password::os_random(&mut salt);
    let mut salted = Zeroizing::new(Vec::with_capacity(password.len() + SALT));
    salted.extend_from_slice(password);
    salted.extend_from_slice(&salt);
    let mut digest = Sha512::digest(&*salted);
    let mut value = digest.to_vec();
    value.extend_from_slice(&salt);
    digest.as_mut_slice().zeroize();
    format!("{{SSHA512}}{}", STANDARD.encode(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_password_is_verified_by_its_hash() {
        let password = random();
        let stored = hash(password.as_bytes());
        let verify =
            |password: &[u8]| mailsql_password::verify(password, &stored, &mailsql_password::Policy::default());
        assert_eq!(verify(password.as_bytes()), Ok(true));
        assert_eq!(verify(random().as_bytes()), Ok(false));
        assert!(stored.len() <= 255);
        let shown = grouped(&password);
        assert_eq!(shown.len(), 24);
        assert_eq!(shown.replace('-', ""), **password);
    }
}

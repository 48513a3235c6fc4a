//! Proving who we are to the server.

use mysql_common::{crypto, scramble};

use super::Unavailable;
use super::binary::Reader;
use super::stream::{Stream, wipe};

/// Most rounds of questions before a server must have said yes or no.
const ROUNDS_MAX: usize = 8;

/// Bytes of the nonce of mysql_native_password and caching_sha2_password.
const NONCE: usize = 20;

/// Bytes of the nonce of ed25519.
const NONCE_ED25519: usize = 32;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Plugin {
    Native,
    CachingSha2,
    Ed25519,
}

impl Plugin {
    pub(super) fn find(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"mysql_native_password" => Self::Native,
            b"caching_sha2_password" => Self::CachingSha2,
            b"client_ed25519" => Self::Ed25519,
            _ => return None,
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Native => "mysql_native_password",
            Self::CachingSha2 => "caching_sha2_password",
            Self::Ed25519 => "client_ed25519",
        }
    }

    pub(super) fn response(self, password: &[u8], nonce: &[u8]) -> Result<Vec<u8>, Unavailable> {
        let needed = if self == Self::Ed25519 { NONCE_ED25519 } else { NONCE };
        let nonce = nonce.get(..needed).ok_or(Unavailable::Protocol("a nonce that is too short"))?;
        Ok(match self {
            _ if password.is_empty() => Vec::new(),
            Self::Native => scramble::scramble_native(nonce, password).map(Vec::from).unwrap_or_default(),
            Self::CachingSha2 => scramble::scramble_sha256(nonce, password).map(Vec::from).unwrap_or_default(),
            Self::Ed25519 => scramble::create_response_for_ed25519(password, nonce).to_vec(),
        })
    }
}

/// Answer the server until it says yes.
pub(super) fn complete(
    stream: &mut Stream,
    mut plugin: Plugin,
    nonce: &[u8],
    password: &[u8],
) -> Result<(), Unavailable> {
    let mut nonce = nonce.to_vec();
    for _ in 0..ROUNDS_MAX {
        let packet = stream.receive()?;
        match packet.as_slice() {
            [0, ..] => return Ok(()),
            [0xfe, switch @ ..] => {
                let mut reader = Reader(switch);
                let wanted = Plugin::find(reader.until_nul()?);
                plugin = wanted.ok_or(Unavailable::Protocol("a login we do not know"))?;
                nonce = reader.0.to_vec();
                stream.send(&plugin.response(password, &nonce)?)?;
            }
            // caching_sha2_password: the server knows the hash, yes follows.
            [1, 3] => {}
            // It does not: it wants the password itself. Nobody else may ask for it.
            [1, 4] if plugin == Plugin::CachingSha2 => {
                let mut clear = [password, &[0]].concat();
                let sent =
                    if stream.is_unix() { stream.send(&clear) } else { send_encrypted(stream, &mut clear, &nonce) };
                wipe(&mut clear);
                sent?;
            }
            _ => return Err(Unavailable::Protocol("an unknown packet at login")),
        }
    }
    Err(Unavailable::Protocol("too many packets at login"))
}

fn send_encrypted(stream: &mut Stream, clear: &mut [u8], nonce: &[u8]) -> Result<(), Unavailable> {
    // "Give me your public key."
    stream.send(&[2])?;
    let packet = stream.receive()?;
    let key = packet.strip_prefix(&[1]).filter(|key| key.starts_with(b"-----BEGIN PUBLIC KEY-----"));
    let key = key.ok_or(Unavailable::Protocol("no public key"))?;
    let nonce = nonce.get(..NONCE).ok_or(Unavailable::Protocol("a nonce that is too short"))?;
    for (byte, mask) in clear.iter_mut().zip(nonce.iter().cycle()) {
        *byte ^= mask;
    }
    // The key comes from the server and the crate below trusts its form: a bad one must cost this login, not the host.
    let encrypted = std::panic::catch_unwind(|| crypto::encrypt(clear, key));
    stream.send(&encrypted.map_err(|_| Unavailable::Protocol("a broken public key"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_fit_their_plugin_and_short_nonces_are_refused() {
        for (plugin, nonce, length) in
            [(Plugin::Native, 20, 20), (Plugin::CachingSha2, 21, 32), (Plugin::Ed25519, 32, 64)]
        {
            assert_eq!(Plugin::find(plugin.name().as_bytes()), Some(plugin));
            assert_eq!(plugin.response(b"mailpass", &[7; 64][..nonce]).unwrap().len(), length);
            assert_eq!(plugin.response(b"", &[7; 64][..nonce]), Ok(vec![]));
            assert!(plugin.response(b"mailpass", &[7; 19]).is_err());
        }
        for refused in [&b"mysql_old_password"[..], b"mysql_clear_password", b"dialog", b""] {
            assert_eq!(Plugin::find(refused), None);
        }
    }
}

//! The form in which answers are remembered, and what they weigh.
//!
//! Most are kept as they are. An account is packed into one piece of memory: a hundred thousand of them take 15 MB
//! instead of 40. Whoever adds a field to [`Account`] is led here by the compiler, and by the test that packs one.

use crate::account::{AppPassword, StoredPassword};
use crate::directory::Grant;
use crate::{Account, Address, Quota};
use std::sync::Arc;

/// A key of the cache.
pub(super) trait Key: std::hash::Hash + Eq + Clone {
    /// Bytes beside the key itself.
    fn weight(&self) -> usize;
}

impl Key for Address {
    fn weight(&self) -> usize {
        self.as_str().len()
    }
}

impl Key for Box<str> {
    fn weight(&self) -> usize {
        self.len()
    }
}

impl Key for (Box<str>, Box<str>) {
    fn weight(&self) -> usize {
        self.0.len() + self.1.len()
    }
}

/// A value of the cache, and the form in which it is kept.
pub(super) trait Keep<K>: Sized {
    /// The form.
    type Kept: Clone;
    fn keep(&self, key: &K) -> Self::Kept;
    /// The value again; `None` would mean that the form is broken, and the database is asked.
    fn give(kept: &Self::Kept, key: &K) -> Option<Self>;
    /// Bytes beside the form itself.
    fn weight(kept: &Self::Kept) -> usize;
}

/// An element of a list that is kept as it is.
pub(super) trait Element {
    /// Bytes, those of its own size included.
    fn weight(&self) -> usize;
}

impl Element for Box<str> {
    fn weight(&self) -> usize {
        size_of::<Self>() + self.len()
    }
}

impl Element for Grant {
    fn weight(&self) -> usize {
        size_of::<Self>() + self.login.len()
    }
}

impl Element for AppPassword {
    fn weight(&self) -> usize {
        let words = |list: &Option<Vec<Box<str>>>| list.iter().flatten().map(Element::weight).sum::<usize>();
        let texts =
            self.label.len() + self.password.0.len() + self.last_used_from.as_ref().map_or(0, |text| text.len());
        size_of::<Self>() + texts + words(&self.services) + words(&self.allow_nets)
    }
}

impl<K, E: Element> Keep<K> for Arc<[E]> {
    type Kept = Self;

    fn keep(&self, _: &K) -> Self {
        Self::clone(self)
    }

    fn give(kept: &Self, _: &K) -> Option<Self> {
        Some(Self::clone(kept))
    }

    fn weight(kept: &Self) -> usize {
        kept.iter().map(Element::weight).sum()
    }
}

impl<K> Keep<K> for Arc<str> {
    type Kept = Self;

    fn keep(&self, _: &K) -> Self {
        Self::clone(self)
    }

    fn give(kept: &Self, _: &K) -> Option<Self> {
        Some(Self::clone(kept))
    }

    fn weight(kept: &Self) -> usize {
        kept.len()
    }
}

impl Keep<Address> for Arc<Account> {
    type Kept = Arc<[u8]>;

    fn keep(&self, key: &Address) -> Arc<[u8]> {
        pack(self, key).into()
    }

    fn give(kept: &Arc<[u8]>, key: &Address) -> Option<Self> {
        unpack(kept, key).map(Self::new)
    }

    fn weight(kept: &Arc<[u8]>) -> usize {
        kept.len()
    }
}

/// Bits of the first byte.
const ENABLED: u8 = 1;
const RECEIVES: u8 = 2;
/// The stored spelling differs from the key.
const SPELLED: u8 = 4;
const APP_PASSWORDS: u8 = 8;

/// Fields in a fixed order: flags; then each optional one with a byte that says whether it is there.
fn pack(account: &Account, key: &Address) -> Vec<u8> {
    let Account {
        address,
        password,
        enabled,
        receives,
        expires_at,
        password_expires_at,
        services,
        allow_nets,
        has_app_passwords,
        maildir,
        home,
        uid,
        gid,
        quota: Quota { bytes, messages },
    } = account;
    let spelled = address != key;
    let flag = |on: bool, bit: u8| if on { bit } else { 0 };
    let mut out = Packing(Vec::with_capacity(160));
    let flags = flag(*enabled, ENABLED) | flag(*receives, RECEIVES) | flag(spelled, SPELLED);
    out.0.push(flags | flag(*has_app_passwords, APP_PASSWORDS));
    if spelled {
        out.text(address.local());
        out.text(address.domain());
    }
    out.optional(password.as_ref(), |out, password| out.text(&password.0));
    out.optional(expires_at.as_ref(), |out, at| out.0.extend_from_slice(&at.to_le_bytes()));
    out.optional(password_expires_at.as_ref(), |out, at| out.0.extend_from_slice(&at.to_le_bytes()));
    for list in [services, allow_nets] {
        out.optional(list.as_ref(), |out, list| {
            out.length(list.len());
            list.iter().for_each(|word| out.text(word));
        });
    }
    for text in [maildir, home] {
        out.optional(text.as_ref(), |out, text| out.text(text));
    }
    for number in [uid, gid] {
        out.optional(number.as_ref(), |out, number| out.0.extend_from_slice(&number.to_le_bytes()));
    }
    for number in [bytes, messages] {
        out.optional(number.as_ref(), |out, number| out.0.extend_from_slice(&number.to_le_bytes()));
    }
    out.0
}

fn unpack(bytes: &[u8], key: &Address) -> Option<Account> {
    let mut rest = Unpacking(bytes);
    let flags = rest.byte()?;
    let address = if flags & SPELLED != 0 { Address::new(rest.text()?, rest.text()?).ok()? } else { key.clone() };
    Some(Account {
        address,
        password: rest.optional(|rest| Some(StoredPassword(rest.text()?.into())))?,
        enabled: flags & ENABLED != 0,
        receives: flags & RECEIVES != 0,
        expires_at: rest.optional(|rest| rest.array().map(i64::from_le_bytes))?,
        password_expires_at: rest.optional(|rest| rest.array().map(i64::from_le_bytes))?,
        services: rest.optional(Unpacking::words)?,
        allow_nets: rest.optional(Unpacking::words)?,
        has_app_passwords: flags & APP_PASSWORDS != 0,
        maildir: rest.optional(|rest| rest.text().map(Box::from))?,
        home: rest.optional(|rest| rest.text().map(Box::from))?,
        uid: rest.optional(|rest| rest.array().map(u32::from_le_bytes))?,
        gid: rest.optional(|rest| rest.array().map(u32::from_le_bytes))?,
        quota: Quota {
            bytes: rest.optional(|rest| rest.array().map(u64::from_le_bytes))?,
            messages: rest.optional(|rest| rest.array().map(u64::from_le_bytes))?,
        },
    })
}

struct Packing(Vec<u8>);

impl Packing {
    /// Seven bits a byte, the lowest first; all but the last have the eighth set.
    fn length(&mut self, mut length: usize) {
        while length >= 0x80 {
            self.0.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        self.0.push(length as u8);
    }

    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    fn optional<T>(&mut self, value: Option<&T>, pack: impl FnOnce(&mut Self, &T)) {
        self.0.push(u8::from(value.is_some()));
        if let Some(value) = value {
            pack(self, value);
        }
    }
}

struct Unpacking<'a>(&'a [u8]);

impl<'a> Unpacking<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        Some(head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn length(&mut self) -> Option<usize> {
        let (mut length, mut shift) = (0_usize, 0_u32);
        loop {
            let byte = self.byte()?;
            length |= usize::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(length);
            }
            shift += 7;
        }
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = self.length()?;
        std::str::from_utf8(self.take(length)?).ok()
    }

    fn words(&mut self) -> Option<Vec<Box<str>>> {
        (0..self.length()?).map(|_| self.text().map(Box::from)).collect()
    }

    fn optional<T>(&mut self, unpack: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.byte()? == 0 { Some(None) } else { unpack(self).map(Some) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Account {
        Account {
            address: Address::parse("Info@Example.jp").unwrap(),
            password: Some(StoredPassword("x".repeat(300).into())),
            enabled: false,
            receives: true,
            expires_at: Some(-1),
            password_expires_at: Some(i64::MAX),
            services: Some(vec!["imap".into(), "!smtp".into()]),
            allow_nets: Some(Vec::new()),
            has_app_passwords: true,
            maildir: Some("例/".into()),
            home: Some("".into()),
            uid: Some(u32::MAX),
            gid: Some(0),
            quota: Quota { bytes: Some(u64::MAX), messages: None },
        }
    }

    #[test]
    fn an_account_comes_out_as_it_went_in() {
        let bare = Account::new(Address::parse("info@example.jp").unwrap(), None);
        let receiving = Account { receives: false, ..bare.clone() };
        for account in [full(), bare, receiving] {
            for key in [account.address.folded(), account.address.clone()] {
                assert_eq!(unpack(&pack(&account, &key), &key), Some(account.clone()), "{key}");
            }
        }
    }

    #[test]
    fn a_broken_form_is_nothing_and_never_a_panic() {
        let key = Address::parse("info@example.jp").unwrap();
        let whole = pack(&full(), &key);
        for end in 0..whole.len() {
            assert_eq!(unpack(&whole[..end], &key), None, "{end}");
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut other = whole.clone();
                other[at] = value;
                let _ = unpack(&other, &key);
            }
        }
    }

    #[test]
    fn a_usual_account_is_little_longer_than_its_hash() {
        let key = Address::parse("info@example.jp").unwrap();
        let hash = "$6$saltsaltsaltsalt$".to_owned() + &"x".repeat(86);
        let account = Account::new(key.clone(), Some(hash.as_str().into()));
        assert!(pack(&account, &key).len() <= hash.len() + 16);
    }
}

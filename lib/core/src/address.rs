//! Mail addresses as lookup keys.
//!
//! Grammar (RFC 5321 §4.1.2, RFC 6531): `local@domain`, split at the last `@`; a local part in double quotes is
//! unquoted (`"a b"@example.jp` is the mailbox `a b`). An [`Address`] keeps the spelling it was given; lookups use
//! [`Address::folded`]. Case is folded in the local part too, as every mail server in practice does.
//!
//! Limits: local part and domain 255 bytes each, the width of the document's columns; a longer one cannot exist.
//! Control characters are refused in both parts, so that an address can be written to a log or a line protocol.

use std::fmt;

/// Longest local part and longest domain, in bytes.
pub const MAX_PART: usize = 255;

/// A mail address: a local part and a domain, without quotes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    text: Box<str>,
    at: u16,
}

/// Why a text is not an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no `@`, or nothing before or after it.
    #[error("an address has the form user@domain")]
    Incomplete,
    /// A part is longer than [`MAX_PART`].
    #[error("the part before or after the @ is longer than {MAX_PART} bytes")]
    TooLong,
    /// A control character, or a character that no domain has.
    #[error("a character that an address cannot have")]
    Character,
    /// A quote that does not end, or text beside it.
    #[error("a double quote in the wrong place")]
    Quote,
}

impl Address {
    /// Reads `local@domain`, with or without quotes around the local part.
    ///
    /// # Errors
    /// [`AddressError`] when the text is no address.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (local, domain) = text.rsplit_once('@').ok_or(AddressError::Incomplete)?;
        if local.starts_with('"') { Self::new(&unquote(local)?, domain) } else { Self::new(local, domain) }
    }

    /// Puts an address together from an unquoted local part and a domain. A final dot of the domain is dropped.
    ///
    /// # Errors
    /// [`AddressError`] when one of the parts cannot stand in an address.
    pub fn new(local: &str, domain: &str) -> Result<Self, AddressError> {
        if local.is_empty() {
            return Err(AddressError::Incomplete);
        }
        let domain = check_domain(domain)?;
        if local.len() > MAX_PART {
            return Err(AddressError::TooLong);
        }
        if local.chars().any(char::is_control) {
            return Err(AddressError::Character);
        }
        let at = u16::try_from(local.len()).map_err(|_| AddressError::TooLong)?;
        Ok(Self { text: format!("{local}@{domain}").into_boxed_str(), at })
    }

    /// The part before the `@`, unquoted.
    #[must_use]
    pub fn local(&self) -> &str {
        &self.text[..usize::from(self.at)]
    }

    /// The part after the `@`.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.text[usize::from(self.at) + 1..]
    }

    /// `local@domain` without quotes, as databases store it and as login names are written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The same address in lower case: the form in which two addresses are compared.
    #[must_use]
    pub fn folded(&self) -> Self {
        if self.text.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase()) {
            return self.clone();
        }
        // Lower-casing can lengthen a text (İ), so the parts are folded one by one and the limits checked again.
        Self::new(&self.local().to_lowercase(), &self.domain().to_lowercase()).unwrap_or_else(|_| self.clone())
    }

    /// Whether the two are one mailbox.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self == other || self.folded() == other.folded()
    }

    /// Splits `user+detail@domain` at the first of the `delimiters` into `user@domain` and `detail`.
    ///
    /// As Postfix's `split_addr`: never before the first character, never the names that mail systems use themselves
    /// (`postmaster`, `mailer-daemon`, `double-bounce`), and with `-` never the list names `owner-x` and `x-request`.
    #[must_use]
    pub fn split_detail(&self, delimiters: &str) -> Option<(Self, &str)> {
        let local = self.local();
        let at = local.char_indices().skip(1).find(|&(_, c)| delimiters.contains(c))?;
        if ["postmaster", "mailer-daemon", "double-bounce"].iter().any(|own| local.eq_ignore_ascii_case(own)) {
            return None;
        }
        let lower = local.to_ascii_lowercase();
        if at.1 == '-' && (lower.starts_with("owner-") || lower.ends_with("-request")) {
            return None;
        }
        let base = Self::new(&local[..at.0], self.domain()).ok()?;
        Some((base, &local[at.0 + at.1.len_utf8()..]))
    }

    /// `user+detail@domain`: the reverse of [`Self::split_detail`].
    ///
    /// # Errors
    /// [`AddressError::TooLong`] when the result would be.
    pub fn with_detail(&self, delimiter: char, detail: &str) -> Result<Self, AddressError> {
        Self::new(&format!("{}{delimiter}{detail}", self.local()), self.domain())
    }
}

/// `local@domain` as it stands in mail headers and SMTP: the local part quoted where it must be.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_dot_atom(self.local()) {
            return f.write_str(&self.text);
        }
        f.write_str("\"")?;
        for c in self.local().chars() {
            if matches!(c, '"' | '\\') {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        write!(f, "\"@{}", self.domain())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{self}>")
    }
}

/// Checks a domain and drops its final dot.
///
/// # Errors
/// [`AddressError`] when the text is no domain.
pub fn check_domain(domain: &str) -> Result<&str, AddressError> {
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    if domain.is_empty() {
        return Err(AddressError::Incomplete);
    }
    if domain.len() > MAX_PART {
        return Err(AddressError::TooLong);
    }
    let known = |c: char| c.is_ascii_alphanumeric() || "-._[]:".contains(c) || (!c.is_ascii() && !c.is_control());
    if domain.starts_with('.') || domain.contains("..") || !domain.chars().all(known) {
        return Err(AddressError::Character);
    }
    Ok(domain)
}

/// Every spelling in which a domain can be asked for, folded: as it is, and with its labels in ASCII (`xn--`) and in
/// Unicode (RFC 5890). A name that is not valid in the other form has the one only.
#[must_use]
pub fn spellings(domain: &str) -> Vec<Box<str>> {
    let folded = domain.to_lowercase();
    let mut all = vec![folded.clone().into_boxed_str()];
    if !folded.is_ascii() || folded.contains("xn--") {
        let ascii = idna::domain_to_ascii(&folded).ok();
        let (unicode, valid) = idna::domain_to_unicode(&folded);
        let unicode = valid.is_ok().then_some(unicode);
        for other in [ascii, unicode].into_iter().flatten() {
            if !all.iter().any(|known| **known == *other) {
                all.push(other.into());
            }
        }
    }
    all
}

fn unquote(local: &str) -> Result<String, AddressError> {
    let inner = local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).ok_or(AddressError::Quote)?;
    if local.len() < 2 {
        return Err(AddressError::Quote);
    }
    let mut plain = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return Err(AddressError::Quote),
            '\\' => plain.push(chars.next().ok_or(AddressError::Quote)?),
            c => plain.push(c),
        }
    }
    Ok(plain)
}

fn is_dot_atom(local: &str) -> bool {
    let atext = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c) || !c.is_ascii();
    !local.starts_with('.') && !local.ends_with('.') && !local.contains("..") && local.chars().all(atext)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_are_split_at_the_last_at_sign_and_unquoted() {
        for (text, local, domain) in [
            ("info@example.jp", "info", "example.jp"),
            ("Info@Example.JP.", "Info", "Example.JP"),
            ("\"a b\"@example.jp", "a b", "example.jp"),
            ("\"a@b\"@example.jp", "a@b", "example.jp"),
            ("\"a\\\"b\"@example.jp", "a\"b", "example.jp"),
            ("a@b@example.jp", "a@b", "example.jp"),
            ("点@例え.jp", "点", "例え.jp"),
            ("o'brien%x@example.jp", "o'brien%x", "example.jp"),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!((address.local(), address.domain()), (local, domain), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_its_reason() {
        let long = format!("{}@example.jp", "x".repeat(256));
        for (text, error) in [
            ("", AddressError::Incomplete),
            ("info", AddressError::Incomplete),
            ("@example.jp", AddressError::Incomplete),
            ("info@", AddressError::Incomplete),
            ("info@.", AddressError::Incomplete),
            (&long, AddressError::TooLong),
            ("in\tfo@example.jp", AddressError::Character),
            ("in\0fo@example.jp", AddressError::Character),
            ("info@exa mple.jp", AddressError::Character),
            ("info@../etc", AddressError::Character),
            ("info@a..b", AddressError::Character),
            ("\"info@example.jp", AddressError::Quote),
            ("\"@example.jp", AddressError::Quote),
            ("\"a\"b\"@example.jp", AddressError::Quote),
            ("\"a\\\"@example.jp", AddressError::Quote),
        ] {
            assert_eq!(Address::parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn detail_is_split_as_postfix_does() {
        for (text, delimiters, expected) in [
            ("user+ext@d.jp", "+", Some(("user@d.jp", "ext"))),
            ("user+a+b@d.jp", "+", Some(("user@d.jp", "a+b"))),
            ("user+@d.jp", "+", Some(("user@d.jp", ""))),
            ("+user@d.jp", "+", None),
            ("user@d.jp", "+", None),
            ("user-ext@d.jp", "+-", Some(("user@d.jp", "ext"))),
            ("owner-list@d.jp", "-", None),
            ("list-request@d.jp", "-", None),
            ("mailer-daemon@d.jp", "-", None),
            ("user+ext@d.jp", "", None),
        ] {
            let address = Address::parse(text).unwrap();
            let split = address.split_detail(delimiters);
            assert_eq!(split.as_ref().map(|(base, detail)| (base.as_str(), *detail)), expected, "{text}");
        }
    }

    #[test]
    fn a_domain_is_known_by_its_ascii_and_its_unicode_spelling() {
        for (domain, expected) in [
            ("Example.JP", &["example.jp"][..]),
            ("例え.jp", &["例え.jp", "xn--r8jz45g.jp"]),
            ("XN--R8JZ45G.jp", &["xn--r8jz45g.jp", "例え.jp"]),
            ("BÜCHER.example", &["bücher.example", "xn--bcher-kva.example"]),
            ("xn--.example", &["xn--.example"]),
            ("under_score.é.example", &["under_score.é.example", "under_score.xn--9ca.example"]),
        ] {
            assert_eq!(spellings(domain).iter().map(|name| &**name).collect::<Vec<_>>(), expected, "{domain}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(local in "[ -~é点]{1,40}", domain in "[a-z0-9]{1,20}\\.jp") {
            let address = Address::new(&local, &domain).unwrap();
            prop_assert_eq!(Address::parse(&address.to_string()), Ok(address));
        }

        #[test]
        fn no_text_makes_the_parser_fall(text in ".{0,400}") {
            if let Ok(address) = Address::parse(&text) {
                let _ = (address.folded(), address.split_detail("+-"), address.to_string());
            }
        }
    }
}

//! Paths: the addresses of MAIL and RCPT.

use std::borrow::Cow;

use super::{MAX_ADDRESS, MAX_DOMAIN};

/// An address in its wire form without brackets and source route: `bob@example.org`, `"a b"@example.org`, `postmaster`, or
/// nothing for the null sender. Control characters cannot occur in it; characters beyond ASCII can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path<'a> {
    text: &'a str,
    /// Where the `@` between local part and domain stands.
    at: Option<usize>,
}

impl<'a> Path<'a> {
    /// The null sender, `<>`.
    pub const NULL: Path<'static> = Path { text: "", at: None };

    /// An address written without brackets; `None` when it is not one. Empty text is the null sender.
    pub fn parse(text: &'a str) -> Option<Path<'a>> {
        if text.is_empty() {
            return Some(Path::NULL);
        }
        match take_address(text) {
            Some((path, "")) => Some(path),
            _ => None,
        }
    }

    /// The address as it came, local part quoted if it was.
    pub fn as_str(&self) -> &'a str {
        self.text
    }

    /// Whether this is the null sender.
    pub fn is_null(&self) -> bool {
        self.text.is_empty()
    }

    /// Whether the address needs no SMTPUTF8.
    pub fn is_ascii(&self) -> bool {
        self.text.is_ascii()
    }

    /// What stands behind the `@`, an address literal with its brackets; `None` for a bare local part.
    pub fn domain(&self) -> Option<&'a str> {
        self.at.and_then(|at| self.text.get(at + 1..))
    }

    /// The local part without quotes and backslashes.
    pub fn local(&self) -> Cow<'a, str> {
        let local = self.at.and_then(|at| self.text.get(..at)).unwrap_or(self.text);
        let Some(quoted) = local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
            return Cow::Borrowed(local);
        };
        if !quoted.contains('\\') {
            return Cow::Borrowed(quoted);
        }
        let mut plain = String::with_capacity(quoted.len());
        let mut chars = quoted.chars();
        while let Some(char) = chars.next() {
            match char {
                '\\' => plain.extend(chars.next()),
                char => plain.push(char),
            }
        }
        Cow::Owned(plain)
    }
}

/// Takes a bracketed path from the front of `text`: the path and what follows its `>`.
pub(super) fn take(text: &str) -> Option<(Path<'_>, &str)> {
    let inner = text.strip_prefix('<')?;
    if let Some(rest) = inner.strip_prefix('>') {
        return Some((Path::NULL, rest));
    }
    let inner = if inner.starts_with('@') { drop_route(inner)? } else { inner };
    let (path, rest) = take_address(inner)?;
    Some((path, rest.strip_prefix('>')?))
}

/// What follows `@one,@two:`.
fn drop_route(text: &str) -> Option<&str> {
    let mut rest = text;
    loop {
        rest = rest.strip_prefix('@')?;
        rest = &rest[domain_length(rest)?..];
        if let Some(address) = rest.strip_prefix(':') {
            return Some(address);
        }
        rest = rest.strip_prefix(',')?;
    }
}

fn take_address(text: &str) -> Option<(Path<'_>, &str)> {
    let local = local_length(text)?;
    let (at, length) = match text[local..].strip_prefix('@') {
        Some(domain) => (Some(local), local + 1 + domain_length(domain)?),
        None => (None, local),
    };
    if length > MAX_ADDRESS {
        return None;
    }
    let (text, rest) = text.split_at(length);
    Some((Path { text, at }, rest))
}

/// Length of the local part at the front of `text`: a quoted string, or atoms and dots in any order.
fn local_length(text: &str) -> Option<usize> {
    let Some(quoted) = text.strip_prefix('"') else {
        let length = text.find(|char: char| !is_atom(char) && char != '.').unwrap_or(text.len());
        return (length > 0).then_some(length);
    };
    let mut chars = quoted.char_indices();
    loop {
        match chars.next()? {
            (end, '"') => return Some(end + 2),
            (_, '\\') if chars.next()?.1.is_control() => return None,
            (_, char) if char.is_control() => return None,
            _ => {}
        }
    }
}

/// Length of the domain at the front of `text`: labels, or an address literal in square brackets.
fn domain_length(text: &str) -> Option<usize> {
    let length = if text.starts_with('[') {
        let end = text.find(']')?;
        let literal = &text[1..end];
        let usable = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b':' | b'-');
        if literal.is_empty() || !literal.bytes().all(usable) {
            return None;
        }
        end + 1
    } else {
        let length = text.find(|char: char| !is_label(char) && char != '.').unwrap_or(text.len());
        if text[..length].split('.').any(str::is_empty) {
            return None;
        }
        length
    };
    (length <= MAX_DOMAIN).then_some(length)
}

fn is_atom(char: char) -> bool {
    char.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(char) || is_wide(char)
}

/// Underscores are no host name's but do occur.
fn is_label(char: char) -> bool {
    char.is_ascii_alphanumeric() || matches!(char, '-' | '_') || is_wide(char)
}

fn is_wide(char: char) -> bool {
    !char.is_ascii() && !char.is_control() && !char.is_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_give_local_part_and_domain() {
        let table = [
            ("<bob@example.org>", "bob@example.org", "bob", Some("example.org")),
            ("<>", "", "", None),
            ("<Postmaster>", "Postmaster", "Postmaster", None),
            ("<bob+ext@example.org>", "bob+ext@example.org", "bob+ext", Some("example.org")),
            ("<@a.example,@b:bob@example.org>", "bob@example.org", "bob", Some("example.org")),
            ("<\"a b\"@example.org>", "\"a b\"@example.org", "a b", Some("example.org")),
            ("<\"a>@\\\"\\\\b\"@example.org>", "\"a>@\\\"\\\\b\"@example.org", "a>@\"\\b", Some("example.org")),
            ("<\"\"@example.org>", "\"\"@example.org", "", Some("example.org")),
            ("<a..b.@example.jp>", "a..b.@example.jp", "a..b.", Some("example.jp")),
            ("<bob@[192.0.2.1]>", "bob@[192.0.2.1]", "bob", Some("[192.0.2.1]")),
            ("<bob@[IPv6:2001:db8::1]>", "bob@[IPv6:2001:db8::1]", "bob", Some("[IPv6:2001:db8::1]")),
            ("<用户@例え.jp>", "用户@例え.jp", "用户", Some("例え.jp")),
            (
                "<SRS0=x/y=t=a.example=bob@b_c.example>",
                "SRS0=x/y=t=a.example=bob@b_c.example",
                "SRS0=x/y=t=a.example=bob",
                Some("b_c.example"),
            ),
        ];
        for (wire, text, local, domain) in table {
            let (path, rest) = take(wire).unwrap_or_else(|| panic!("{wire} is a path"));
            assert_eq!(
                (path.as_str(), path.local().as_ref(), path.domain(), rest),
                (text, local, domain, ""),
                "{wire}"
            );
            assert_eq!(Path::parse(text), Some(path));
        }
        assert_eq!(take("<a@b> SIZE=1").unwrap().1, " SIZE=1");
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for wire in [
            "",
            "bob@example.org",
            "<bob@example.org",
            "<bob",
            "<@example.org>",
            "<bob@>",
            "<bob@a..b>",
            "<bob@.a>",
            "<bob@a.>",
            "<bob@a b>",
            "<bo b@a>",
            "<\"bob@a>",
            "<\"bob\"x@a>",
            "<a@b@c>",
            "<bob@[]>",
            "<bob@[1>",
            "<bob@[a b]>",
            "<\"a\u{7}\"@b>",
            "<\"a\\\u{7}\"@b>",
            "<a\u{85}@b>",
            "<a\u{3000}@b>",
            "<a@b\u{9f}>",
            "<@a:>",
            "<@a,b:c@d>",
            "<@a c@d>",
            "<(c)a@b>",
            "<a,b@c>",
        ] {
            assert_eq!(take(wire), None, "{wire:?}");
        }
        for text in ["<a@b>", "a@b ", "a@b>", "@b", " "] {
            assert_eq!(Path::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn addresses_and_domains_have_their_limits() {
        let domain = format!("{}.x", "d".repeat(MAX_DOMAIN - 2));
        assert!(Path::parse(&format!("a@{domain}")).is_some());
        assert!(Path::parse(&format!("a@{domain}x")).is_none());
        assert!(Path::parse(&format!("{}@b", "a".repeat(MAX_ADDRESS - 2))).is_some());
        assert!(Path::parse(&format!("{}@b", "a".repeat(MAX_ADDRESS - 1))).is_none());
    }

    proptest! {
        #[test]
        fn any_text_reads_without_panic_and_a_path_reads_back(text in "<?[\"\\\\@a-c.>\\[\\] 用:,]{0,20}>?") {
            if let Some((path, _)) = take(&text) {
                let wire = format!("<{}>", path.as_str());
                prop_assert_eq!(take(&wire), Some((path, "")));
                prop_assert!(!path.local().contains(char::is_control));
            }
        }
    }
}

//! Entries as plain values, and how their strings are laid into a caller's buffer. No pointers here.

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: Vec<u8>,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) home: Vec<u8>,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) name: Vec<u8>,
    pub(crate) gid: u32,
    pub(crate) members: Vec<Vec<u8>>,
}

/// What accounts have for a shell: they log in nowhere.
pub(crate) const SHELL: &[u8] = b"/usr/sbin/nologin";
/// What stands for a password: none that matches.
pub(crate) const PASSWORD: &[u8] = b"*";
/// No user or group below this number is ever told: it would be one of the system.
pub(crate) const MIN_ID: u32 = 100;

/// Whether a field may stand in passwd(5) or group(5).
pub(crate) fn is_clean(field: &[u8]) -> bool {
    !field.iter().any(|byte| matches!(byte, b':' | b'\n' | 0))
}

/// The places of NUL-terminated strings, one after the other, from `start`; `None` when they do not fit into `size`.
pub(crate) fn lay_out(fields: &[&[u8]], start: usize, size: usize) -> Option<Vec<usize>> {
    let mut at = start;
    let mut places = Vec::with_capacity(fields.len());
    for field in fields {
        places.push(at);
        at = at.checked_add(field.len())?.checked_add(1)?;
    }
    (at <= size).then_some(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_laid_one_after_the_other_and_never_beyond_the_end() {
        let fields: [&[u8]; 3] = [b"info", b"", b"/home"];
        assert_eq!(lay_out(&fields, 0, 12), Some(vec![0, 5, 6]));
        assert_eq!(lay_out(&fields, 0, 11), None);
        assert_eq!(lay_out(&fields, 8, 20), Some(vec![8, 13, 14]));
        assert_eq!(lay_out(&fields, usize::MAX, 20), None);
        assert_eq!(lay_out(&[], 0, 0), Some(vec![]));
    }

    #[test]
    fn what_would_break_a_line_of_passwd_is_not_clean() {
        for (field, clean) in [(&b"info@example.jp"[..], true), (b"a:b", false), (b"a\nb", false), (b"a\0b", false)] {
            assert_eq!(is_clean(field), clean);
        }
    }
}

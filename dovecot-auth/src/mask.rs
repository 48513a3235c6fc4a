//! Masks of user names, as LIST takes them: `*` for any text, `?` for one character, in any case.

/// Whether all of `text` fits `mask`.
pub(crate) fn fits(mask: &[u8], text: &[u8]) -> bool {
    let (mut m, mut t) = (0, 0);
    // Where to go on when the text behind the last `*` does not fit: that star takes one byte more.
    let mut star = None;
    while t < text.len() {
        match mask.get(m) {
            Some(b'*') => {
                star = Some((m + 1, t));
                m += 1;
            }
            Some(byte) if *byte == b'?' || byte.eq_ignore_ascii_case(&text[t]) => {
                m += 1;
                t += 1;
            }
            _ => {
                let Some((behind, at)) = star else { return false };
                star = Some((behind, at + 1));
                (m, t) = (behind, at + 1);
            }
        }
    }
    mask[m..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn masks_fit_whole_names() {
        for (mask, text, expected) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("*@b.c", "a@b.c", true),
            ("*@b.c", "a@b.cc", false),
            ("A@B.C", "a@b.c", true),
            ("a?@*", "ab@c", true),
            ("a?@*", "a@c", false),
            ("*a*b*c", "xxaxxbxxbxxc", true),
            ("*a*b*c", "xxaxxcxxb", false),
            ("a*", "a", true),
            ("***", "x", true),
        ] {
            assert_eq!(fits(mask.as_bytes(), text.as_bytes()), expected, "{mask} {text}");
        }
    }
}

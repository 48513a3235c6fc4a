//! Actions of the configuration, with words in braces that are replaced at each answer.

use mailsql_proto::policy::Action;

/// An action as configured.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Text and, at odd places, names of what is put in.
    pieces: Vec<Box<str>>,
    fixed: Action,
}

impl Answer {
    /// Reads an action that may hold these `{names}`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str, names: &[&str]) -> Result<Self, String> {
        let mut pieces: Vec<Box<str>> = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) =
                after.split_once('}').ok_or_else(|| format!("\"{text}\": a brace that does not end"))?;
            if !names.contains(&name) {
                let known = names.iter().map(|name| format!("{{{name}}}")).collect::<Vec<_>>().join(", ");
                let known = if known.is_empty() { "none".to_owned() } else { known };
                return Err(format!("\"{text}\": {{{name}}} is not known here; known is {known}"));
            }
            pieces.extend([before.into(), name.into()]);
            rest = after;
        }
        pieces.push(rest.into());
        // What is put in is text, so an action that is one with a letter in its place is one with anything.
        let piece = |(at, piece)| if at % 2 == 0 { piece } else { "x" };
        let sample: String = pieces.iter().map(|piece| &**piece).enumerate().map(piece).collect();
        let fixed = Action::parse(&sample).map_err(|wrong| format!("\"{text}\": {wrong}"))?;
        Ok(Self { pieces, fixed })
    }

    /// The action with these words put in; what cannot be sent in them becomes `?`.
    pub(crate) fn with(&self, words: &[(&str, &str)]) -> Action {
        if self.pieces.len() == 1 {
            return self.fixed.clone();
        }
        let mut text = String::new();
        for (at, piece) in self.pieces.iter().enumerate() {
            if at % 2 == 0 {
                text.push_str(piece);
            } else if let Some((_, word)) = words.iter().find(|(name, _)| **name == **piece) {
                text.extend(word.chars().map(|char| if char.is_control() { '?' } else { char }));
            }
        }
        while text.len() > mailsql_proto::policy::MAX_ACTION {
            text.pop();
        }
        Action::parse(&text).unwrap_or_else(|_| self.fixed.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_put_in_and_never_change_what_the_action_is() {
        let answer = Answer::parse("DEFER \"{rule}\" wait {seconds} s", &["rule", "seconds"]).unwrap();
        assert_eq!(answer.with(&[("rule", "a\nOK"), ("seconds", "7")]).as_str(), "DEFER \"a?OK\" wait 7 s");
        assert!(answer.with(&[("rule", &"ü".repeat(500))]).as_str().len() <= mailsql_proto::policy::MAX_ACTION);
        let answer = Answer::parse("450 {rule}", &["rule"]).unwrap();
        assert_eq!(answer.with(&[("rule", " ")]).as_str(), "450 x", "digits alone would mean OK");
        assert_eq!(Answer::parse("REJECT", &[]).unwrap().with(&[]).as_str(), "REJECT");
    }

    #[test]
    fn what_postfix_would_misread_is_refused() {
        for text in ["", "450", "250 {rule}", "DEFER {login}", "DEFER {rule", "{rule}\nOK"] {
            assert!(Answer::parse(text, &["rule"]).is_err(), "{text}");
        }
    }
}

//! A scripted PAM for tests: what the application would answer, and a record of what we did. Dropping it with answers
//! left over fails the test.

use std::collections::VecDeque;
use std::time::Duration;

use pam::constants::PamResultCode;

use crate::host::{Host, Level, Secret};

pub(crate) struct Script {
    user: Result<Vec<u8>, i32>,
    client: Vec<u8>,
    password: Option<Secret>,
    old_password: Option<Secret>,
    answers: VecDeque<(&'static str, Option<&'static str>)>,
    remembered: Vec<Secret>,
    told: Vec<String>,
    log: Vec<(Level, String)>,
    delay: Option<Duration>,
    root: bool,
    #[cfg(feature = "direct")]
    privileged: bool,
}

impl Script {
    pub(crate) fn new() -> Self {
        Self {
            user: Ok(b"info@example.jp".to_vec()),
            client: b"192.0.2.7".to_vec(),
            password: None,
            old_password: None,
            answers: VecDeque::new(),
            remembered: Vec::new(),
            told: Vec::new(),
            log: Vec::new(),
            delay: None,
            root: true,
            #[cfg(feature = "direct")]
            privileged: true,
        }
    }

    pub(crate) fn user(mut self, user: &str) -> Self {
        self.user = Ok(user.as_bytes().to_vec());
        self
    }

    pub(crate) fn no_user(mut self) -> Self {
        self.user = Err(PamResultCode::PAM_CONV_ERR as i32);
        self
    }

    pub(crate) fn token(mut self, password: &str) -> Self {
        self.password = Some(Secret::new(password.as_bytes().to_vec()));
        self
    }

    pub(crate) fn old_token(mut self, password: &str) -> Self {
        self.old_password = Some(Secret::new(password.as_bytes().to_vec()));
        self
    }

    /// The next prompt must be `text` and is answered so; `None` is no answer.
    pub(crate) fn answer(mut self, text: &'static str, answer: Option<&'static str>) -> Self {
        self.answers.push_back((text, answer));
        self
    }

    pub(crate) fn mortal(mut self) -> Self {
        self.root = false;
        self
    }

    #[cfg(feature = "direct")]
    pub(crate) fn unprivileged(mut self) -> Self {
        self.privileged = false;
        self
    }

    pub(crate) fn logged(&self) -> String {
        self.log.iter().map(|(level, line)| format!("{level:?}: {line}\n")).collect()
    }

    pub(crate) fn told(&self) -> &[String] {
        &self.told
    }

    pub(crate) fn kept(&self) -> Option<&[u8]> {
        self.password.as_deref().map(Vec::as_slice)
    }

    pub(crate) fn delay(&self) -> Option<Duration> {
        self.delay
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        assert!(std::thread::panicking() || self.answers.is_empty(), "never asked for {:?}", self.answers);
    }
}

impl Host for Script {
    fn user(&mut self) -> Result<Vec<u8>, PamResultCode> {
        self.user.clone().map_err(|code| PamResultCode::try_from(code).unwrap())
    }

    fn service(&self) -> Vec<u8> {
        b"smtp".to_vec()
    }

    fn client(&self) -> Vec<u8> {
        self.client.clone()
    }

    fn password(&self) -> Option<Secret> {
        self.password.clone()
    }

    fn old_password(&self) -> Option<Secret> {
        self.old_password.clone()
    }

    fn keep_password(&mut self, password: &Secret) {
        self.password = Some(password.clone());
    }

    fn keep_old_password(&mut self, password: &Secret) {
        self.old_password = Some(password.clone());
    }

    fn prompt(&mut self, text: &str) -> Result<Option<Secret>, PamResultCode> {
        let (expected, answer) = self.answers.pop_front().unwrap_or_else(|| panic!("asked for {text:?} unexpectedly"));
        assert_eq!(text, expected);
        match answer {
            Some("<error>") => Err(PamResultCode::PAM_CONV_ERR),
            answer => Ok(answer.map(|answer| Secret::new(answer.as_bytes().to_vec()))),
        }
    }

    fn tell(&mut self, text: &str) {
        self.told.push(text.to_owned());
    }

    fn fail_delay(&mut self, delay: Duration) {
        self.delay = Some(delay);
    }

    fn log(&mut self, level: Level, text: &str) {
        self.log.push((level, text.to_owned()));
    }

    fn is_root(&self) -> bool {
        self.root
    }

    #[cfg(feature = "direct")]
    fn is_privileged(&self) -> bool {
        self.privileged
    }

    fn remembered(&self) -> Vec<Secret> {
        self.remembered.clone()
    }

    fn remember(&mut self, arguments: Vec<Secret>) {
        self.remembered = arguments;
    }
}
